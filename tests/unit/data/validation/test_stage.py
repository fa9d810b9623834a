"""The stage command: what it writes when the gate opens, and when it does not."""

import json
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from minivlm.config import load_params
from minivlm.errors import UserError
from minivlm.paths import SPLITS, Paths, project_root
from minivlm.stage import StageRun
from pipelines.validate import app, validate
from tests.unit.data.validation.rows import caption, good_rows, photo, photos, picture, write_all

REPORTS = sorted([*(f"{split}.json" for split in SPLITS), "metrics.json"])


class Tracker(SimpleNamespace):
    """Notes what the stage logs."""

    def log_metrics(self, metrics, step=None):
        self.metrics = metrics

    def log_artifact(self, path, folder=""):
        assert path.is_file()


def run(root, workers=1, **section):
    """Run the stage on the files below `root`, with these values of its section; its tracker."""
    params = load_params(project_root() / "params.yaml")
    section = params.validate_.model_copy(update={"max_bad_fraction": 0.0, "min_side": 8, **section})
    runtime = params.runtime.model_copy(update={"workers": workers})
    params = params.model_copy(update={"validate_": section, "runtime": runtime})
    tracker = Tracker()
    validate(StageRun(name="validate", params=params, paths=Paths(root), tracker=tracker))
    return tracker


def outputs(root):
    """Relative name -> bytes of everything that DVC tracks."""
    files = [*(root / "artifacts/validate").glob("*"), *(root / "reports/validate").glob("*.json")]
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


def test_accepted_row_numbers_leave_out_the_quarantined_rows(tmp_path):
    rows = good_rows(4)
    rows[1] = ("no JSON", rows[1][1])
    write_all(tmp_path / "artifacts/download", sft=rows)
    tracker = run(tmp_path, max_bad_fraction=0.25)
    table = pq.read_table(tmp_path / "artifacts/validate/sft.parquet")
    assert table.schema.names == ["row"] and str(table.schema.field("row").type) == "int64"
    assert table["row"].to_pylist() == [0, 2, 3]
    assert sorted(path.name for path in (tmp_path / "reports/validate").glob("*.json")) == REPORTS
    assert tracker.metrics["sft"] == {"rows": 4, "accepted": 3, "rejected": 1}
    assert (tmp_path / "reports/validate/data_docs/index.html").is_file()


def test_a_failing_gate_writes_its_reports_and_leaves_no_accepted_rows(tmp_path):
    write_all(tmp_path / "artifacts/download", sft=[*good_rows(2), ("no JSON", picture(7))])
    older = tmp_path / "artifacts/validate/sft.parquet"
    older.parent.mkdir(parents=True)
    older.touch()
    with pytest.raises(UserError, match=r"^sft: 1 of 3 rows are at fault") as error:
        run(tmp_path)
    assert "reports/validate/sft.json" in str(error.value)
    report = json.loads((tmp_path / "reports/validate/sft.json").read_text(encoding="utf-8"))
    reason = "conversation_is_turns: not JSON (Expecting value, character 1)"
    assert report["rejected_rows"] == [{"id": "sft:2", "reasons": [reason]}]
    assert not (tmp_path / "artifacts/validate").exists()


def test_compositional_may_be_absent_and_its_report_says_so(tmp_path):
    write_all(tmp_path / "artifacts/download")["compositional"].unlink()
    run(tmp_path)
    report = json.loads((tmp_path / "reports/validate/compositional.json").read_text(encoding="utf-8"))
    assert report["present"] is False
    accepted = sorted(path.name for path in (tmp_path / "artifacts/validate").iterdir())
    assert accepted == ["heldout.parquet", "pretrain.parquet", "sft.parquet"]


def photographs(root):
    """Files of photographs, of which a held-out one is a training one saved once more."""
    rows = {"pretrain": photos(3, 0), "sft": photos(3, 10), "compositional": photos(3, 30)}
    write_all(root / "artifacts/download", **rows, heldout=[*photos(2, 20), (caption(), photo(11, quality=60))])


def near_duplicates(root):
    return json.loads((root / "reports/validate/heldout.json").read_text(encoding="utf-8"))["near_duplicates"]


def test_a_held_out_picture_that_is_a_training_one_saved_again_fails_the_stage(tmp_path):
    photographs(tmp_path)
    with pytest.raises(UserError, match=r"heldout:2 \(no_near_leakage: looks like a picture of sft:1 "):
        run(tmp_path, near_duplicate_bits=8)
    told = near_duplicates(tmp_path)
    assert (told["bits"], told["compared"], told["alike"]) == (8, 3, 1)
    assert not (tmp_path / "artifacts/validate").exists()


def test_without_near_duplicate_bits_a_copy_passes_and_nothing_is_told(tmp_path):
    photographs(tmp_path)
    run(tmp_path, near_duplicate_bits="none")
    assert near_duplicates(tmp_path) is None


def test_the_limits_of_the_section_are_those_of_the_stage(tmp_path):
    rows = [(caption("长" * 9), picture(1)), (caption(), picture(2, (9, 20)))]
    write_all(tmp_path / "artifacts/download", sft=rows)
    with pytest.raises(UserError, match=r"^sft: 2 of 2 .*a turn of 9 characters.*a side of 9 pixels"):
        run(tmp_path, max_text_characters=8, min_side=10)
    with pytest.raises(UserError, match=r"^pretrain: 3 of 3 .*a side of 16 pixels"):
        run(tmp_path, max_side=15)


def test_a_missing_required_file_is_one_clear_line(tmp_path):
    write_all(tmp_path / "artifacts/download")["heldout"].unlink()
    with pytest.raises(UserError, match=r"heldout\.parquet: not found; .*dvc repro download"):
        run(tmp_path)


def test_outputs_are_the_same_bytes_on_every_run_and_for_any_workers(tmp_path):
    rows = [(caption(str(number)), picture(number % 50)) for number in range(2500)]
    rows[3] = ("no JSON", b"")
    for root in (tmp_path / "a", tmp_path / "b"):
        write_all(root / "artifacts/download", sft=rows)
    run(tmp_path / "a", max_bad_fraction=0.1)
    run(tmp_path / "b", max_bad_fraction=0.1, workers=2)
    assert outputs(tmp_path / "a") == outputs(tmp_path / "b")
    assert len(outputs(tmp_path / "a")) == 4 + 5


def test_reports_tell_lengths_sizes_and_scripts(tmp_path):
    write_all(
        tmp_path / "artifacts/download", sft=[(caption("一只 bird"), picture(1)), (caption("两只"), picture(2))]
    )
    run(tmp_path)
    report = json.loads((tmp_path / "reports/validate/sft.json").read_text(encoding="utf-8"))
    assert report["distributions"]["answer_characters"] == {"min": 2, "median": 4.5, "max": 7}
    assert report["distributions"]["width"] == {"min": 16, "median": 16.0, "max": 16}
    # twice 请描述这张图片 and a full stop; 一只, 两只; bird
    assert report["scripts"] == {
        "characters": 24,
        "cjk": 0.75,
        "latin": 0.1667,
        "other_letters": 0.0,
        "signs": 0.0833,
    }
    assert report["near_duplicates"] is None


def rename(table):
    return table.rename_columns(["messages", "image_bytes"])


def retype(table):
    return table.set_column(1, "image_bytes", pa.array(["a.jpg"] * len(table)))


def as_structs(table):
    turns = [json.loads(text) for text in table["conversations"].to_pylist()]
    return table.set_column(0, "conversations", pa.array(turns))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (rename, "conversations: no such column"),
        (retype, "image_bytes: of type string"),
        (as_structs, "conversations: of type list<struct<"),
        (lambda table: table.slice(0, 0), "rows: none"),
    ],
    ids=["renamed column", "other type", "other structure", "no rows"],
)
def test_a_change_of_the_schema_fails_the_command_with_one_line(tmp_path, monkeypatch, change, fault):
    path = write_all(tmp_path / "artifacts/download")["sft"]
    pq.write_table(change(pq.read_table(path)), path)
    params = (
        (project_root() / "params.yaml").read_text(encoding="utf-8").replace("enabled: true", "enabled: false")
    )
    (tmp_path / "params.yaml").write_text(params, encoding="utf-8")
    monkeypatch.setattr("minivlm.stage.Paths", lambda: Paths(tmp_path))
    ended = CliRunner().invoke(app, [])
    assert ended.exit_code == 2
    assert ended.stderr.startswith("error: sft.parquet cannot be used: ") and fault in ended.stderr
    assert ended.stderr.count("\n") == 1 and "reports/validate/sft.json" in ended.stderr
    assert not (tmp_path / "artifacts/validate").exists()


def test_accepted_rows_that_were_written_wrong_do_not_stay(tmp_path, monkeypatch):
    write_all(tmp_path / "artifacts/download")

    def write_too_many(path, verdict):
        pq.write_table(pa.table({"row": [*range(verdict.rows), 0]}), path)

    monkeypatch.setattr("minivlm.data.validation.accepted.write_accepted", write_too_many)
    with pytest.raises(UserError, match=r"^pretrain\.parquet cannot be used: of its accepted rows, ") as error:
        run(tmp_path)
    assert "not above the one before" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "artifacts/validate").exists()
    report = json.loads((tmp_path / "reports/validate/sft.json").read_text(encoding="utf-8"))
    failed = [entry["name"] for entry in report["expectations"] if not entry["success"]]
    assert failed == ["rows_ascend", "rows_as_reported"]
