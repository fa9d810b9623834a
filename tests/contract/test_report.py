"""reports/report.md is made of the reports beside it, and says nothing that differs from run to run."""

import shutil

from minivlm.evaluation.report import write_report
from minivlm.paths import Paths
from tests.contract.imports import ROOT


def test_the_committed_report_is_that_of_the_committed_reports(tmp_path):
    for name in ("reports", "data"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    write_report(Paths(tmp_path))
    made, committed = (root / "reports" / "report.md" for root in (tmp_path, ROOT))
    assert made.read_text(encoding="utf-8") == committed.read_text(encoding="utf-8"), "run `minivlm report`"


def test_its_pictures_lie_where_it_says():
    text = (ROOT / "reports" / "report.md").read_text(encoding="utf-8")
    sources = [part.split('"')[0] for part in text.split('src="')[1:]]
    assert sources and all((ROOT / "reports" / source).is_file() for source in sources)
