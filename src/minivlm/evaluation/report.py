"""reports/index.html and reports/report.md: the last reproduction on one page, for a browser and for a forge.

Both are made of the stages' reports; no model, no network. index.html has everything that it shows inside it, also
pictures and times. report.md lies in git, so it holds only what the same inputs give again. What a report lacks,
or what is damaged in it, is left out, so that both can be made again at any time (`minivlm report`).
"""

from __future__ import annotations

from pathlib import Path

from minivlm.errors import UserError
from minivlm.evaluation.page.document import document
from minivlm.evaluation.page.markdown import markdown
from minivlm.evaluation.reports import read_reports
from minivlm.files import write_text
from minivlm.paths import Paths


def write_report(paths: Paths, running: str | None = None) -> Path:
    """Write both and return the page's path; UserError when evaluate has not run yet.

    `running`: the stage that writes it, whose outputs dvc.lock does not know yet.
    """
    folder = paths.reports("evaluate").parent
    if not (folder / "evaluate" / "metrics.json").exists():
        raise UserError("reports/evaluate/metrics.json is missing: run `dvc repro` first")
    reports = read_reports(paths, running)
    page, left_out = document(reports)
    text = markdown(reports)
    for line in dict.fromkeys([*reports.left_out, *left_out]):
        print(f"{line}; left out of the page", flush=True)
    write_text(folder / "report.md", text)
    write_text(folder / "index.html", page)
    return folder / "index.html"
