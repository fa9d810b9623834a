"""Data sets as inputs, and the runs that made what a reproduction has of stages that it skipped."""

import json
import os

import pyarrow
import pyarrow.parquet
import pytest

from minivlm.files import sha256_file, write_json, write_text
from minivlm.tracking import facts, reused
from minivlm.tracking.datasets import USED, datasets
from minivlm.tracking.lineage import reused_tags
from tests.unit.tracking.toys import by_stage, started, stored


def write_rows(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = {"conversations": ["[]"] * rows, "image_bytes": [b"x"] * rows}
    pyarrow.parquet.write_table(pyarrow.table(columns), file)


def make(paths, stage, content="first"):
    """What the stage leaves."""
    write_text(paths.artifacts(stage) / "model.bin", content)


def test_a_stage_has_the_data_sets_that_it_uses_and_the_reproduction_those_of_all(paths):
    for split in ("pretrain", "sft", "heldout"):
        write_rows(paths.table(split), 3)
    write_rows(paths.accepted("sft"), 2)
    started(paths, "sft", key="a")
    started(paths, "evaluate", key="a")
    found = {stage: run.inputs.dataset_inputs for stage, run in by_stage(paths).items()}
    assert [each.dataset.name for each in found["sft"]] == ["sft.parquet"]
    assert [each.dataset.name for each in found["evaluate"]] == ["heldout.parquet"]
    assert {each.dataset.name for each in found["reproduction"]} >= {"sft.parquet", "heldout.parquet"}
    (said,) = found["sft"]
    digest = sha256_file(paths.table("sft"))
    assert said.dataset.digest == digest[:36]
    assert {tag.key: tag.value for tag in said.tags} == {"mlflow.data.context": "training", "sha256": digest}
    assert json.loads(said.dataset.source) == {"uri": "artifacts/download/sft.parquet"}
    assert json.loads(said.dataset.profile).items() >= {"num_rows": 3, "accepted_rows": 2}.items()
    columns = json.loads(said.dataset.schema)["mlflow_colspec"]
    assert columns == [{"name": "conversations", "type": "string"}, {"name": "image_bytes", "type": "binary"}]
    assert {tag.value for each in found["evaluate"] for tag in each.tags} >= {"evaluation"}


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no rows at all"])
def test_rows_that_cannot_be_read_are_no_data_set_and_no_failure_of_the_tracking(paths, content):
    paths.table("sft").parent.mkdir(parents=True)
    paths.table("sft").write_bytes(content)
    assert datasets(paths, "sft") == []


def test_every_stage_but_the_first_uses_rows():
    assert set(USED) == {"reproduction", "validate", "base", "tokenize", "pretrain", "sft", "evaluate"}


def test_a_large_file_is_told_by_its_size_and_pieces_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "_HASHED_BYTES", 0)
    file = tmp_path / "rows.parquet"
    file.write_bytes(os.urandom(3 << 20))
    first = facts.content_digest(file)
    assert first.startswith("sampled-sha256:") and first == facts.content_digest(file)
    with file.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([file.read_bytes()[-1] ^ 1]))
    assert facts.content_digest(file) != first


def test_a_stage_that_was_skipped_is_linked_to_the_run_that_made_it(paths):
    for stage in ("base", "pretrain"):
        started(paths, stage, key="a", does=lambda run, stage=stage: make(paths, stage))
    makers = {stage: run.info.run_id for stage, run in by_stage(paths).items()}
    started(paths, "sft", key="b")
    tags = by_stage(paths)["reproduction"].data.tags
    assert (tags["reused.base"], tags["reused.pretrain"]) == (makers["base"], makers["pretrain"])
    assert tags["reused"] == "base, pretrain"
    note = tags["mlflow.note.content"]
    for stage in ("base", "pretrain"):
        assert f"[{stage} of no commit 1](#/experiments/2/runs/{makers[stage]}?" in note


def test_a_stage_that_was_skipped_between_two_that_ran_is_linked_too(paths):
    for stage in ("base", "tokenize", "pretrain"):
        write_text(paths.reports(stage) / "metrics.json", '{"rows": 5}')
        started(paths, stage, key="a", does=lambda run, stage=stage: make(paths, stage))
    makers = {stage: run.info.run_id for stage, run in by_stage(paths).items()}
    for stage in ("tokenize", "sft"):  # tokenize left what it had left before, so pretrain was skipped
        started(paths, stage, key="b", does=lambda run, stage=stage: make(paths, stage))
    tags = by_stage(paths)["reproduction"].data.tags
    assert (tags["reused.base"], tags["reused.pretrain"]) == (makers["base"], makers["pretrain"])
    assert tags["reused"] == "base, pretrain" and "reused.tokenize" not in tags
    assert tags["mlflow.note.content"].startswith("One run of the pipeline")
    assert "[base of" in tags["mlflow.note.content"] and "[pretrain of" in tags["mlflow.note.content"]
    assert by_stage(paths)["reproduction"].data.metrics["pretrain.rows"] == 5


def test_of_two_runs_that_left_the_same_the_later_one_made_it_and_a_failed_one_made_nothing(paths):
    for key in "ab":
        started(paths, "pretrain", key=key, does=lambda run: make(paths, "pretrain"))
    second = [run for run in stored(paths)[1] if run.data.tags["stage"] == "pretrain"][-1]
    with pytest.raises(ZeroDivisionError):
        started(paths, "pretrain", key="c", does=lambda run: 1 / 0)
    started(paths, "sft", key="d")
    assert by_stage(paths)["reproduction"].data.tags["reused.pretrain"] == second.info.run_id


def test_a_run_that_began_later_made_nothing_of_what_was_there_before(paths):
    started(paths, "pretrain", key="a", does=lambda run: make(paths, "pretrain"))
    client, (_, maker) = stored(paths)
    stage = {"pretrain": maker.data.tags["outputs"]}
    for began, made in ((maker.info.start_time, maker.info.run_id), (maker.info.start_time - 1, "made elsewhere")):
        told = {"note": "", "stages": stage, "before": began}
        assert reused_tags(client, maker.info.experiment_id, told)["reused.pretrain"] == made


def test_what_no_run_here_has_left_was_made_elsewhere(paths):
    started(paths, "pretrain", key="a", does=lambda run: make(paths, "pretrain", "of this machine"))
    make(paths, "pretrain", "from the cache of another")
    started(paths, "sft", key="b")
    tags = by_stage(paths)["reproduction"].data.tags
    assert tags["reused.pretrain"] == "made elsewhere"
    assert "| pretrain&emsp;| made elsewhere" in tags["mlflow.note.content"]


def test_a_reproduction_has_the_loss_curves_of_its_stages_and_of_those_that_it_skipped(paths):
    write_text(paths.reports("pretrain") / "loss.csv", "step,loss,val_loss\n1,3.5,\n2,3.25,3.125\n")
    started(paths, "sft", key="a", does=lambda run: run.log_metrics({"loss": 2.0, "grad_norm": 1.0}, step=4))
    client, _ = stored(paths)
    parent = by_stage(paths)["reproduction"]

    def curve(name):
        return [(point.step, point.value) for point in client.get_metric_history(parent.info.run_id, name)]

    assert curve("sft.loss") == [(4, 2.0)]
    assert curve("pretrain.loss") == [(1, 3.5), (2, 3.25)]
    assert curve("pretrain.val_loss") == [(2, 3.125)]
    assert "sft.grad_norm" not in parent.data.metrics


@pytest.mark.parametrize("content", ["", "<<<<<<< HEAD\nstep,loss\n1,2\n", "step,loss\nx,y\n", "loss\n1\n"])
def test_damaged_reports_of_a_skipped_stage_cost_their_curves_alone(paths, content):
    write_text(paths.reports("pretrain") / "loss.csv", content)
    write_text(paths.reports("pretrain") / "metrics.json", content or "[1]")
    assert list(reused.curves(["pretrain"], paths)) == [] and reused.figures(["pretrain"], paths) == {}


def test_figures_that_are_no_numbers_are_left_out(paths):
    write_text(
        paths.reports("sft") / "metrics.json", '{"a": 1, "b": NaN, "c": Infinity, "d": true, "e": "1", "f": 1.5}'
    )
    assert reused.figures(["sft"], paths) == {"sft": {"a": 1, "f": 1.5}}


def train(paths):
    """What base and pretrain tell and leave: losses, and how fast it went."""

    def base(run):
        run.log_metrics({"llm.loss": 2.5}, step=1)
        run.log_metrics({"llm": {"val_loss": 2.0}, "mfu": 0.5, "projected": {"h200": {"hours": 1.0}}})
        write_json(paths.reports("base") / "metrics.json", {"llm": {"val_loss": 2.0}})
        make(paths, "base")

    def pretrain(run):
        run.log_metrics({"loss": 3.123456789, "grad_norm": 1.0}, step=1)
        run.log_metrics({"val_loss": 3.0, "samples_per_second": 100.0})
        write_text(paths.reports("pretrain") / "loss.csv", "step,loss,val_loss\n1,3.12346,\n")
        write_json(paths.reports("pretrain") / "metrics.json", {"val_loss": 3.0})
        make(paths, "pretrain")

    return {"base": base, "pretrain": pretrain}


def test_reproductions_have_the_same_figures_of_a_stage_whether_it_ran_or_was_skipped(paths):
    """Else the page's comparison begins with what one of the two has alone."""
    for stage, does in train(paths).items():
        started(paths, stage, key="ran", does=does)
    for key in ("ran", "skipped"):
        started(paths, "sft", key=key)
    of_stages = [
        {name: value for name, value in run.data.metrics.items() if "." in name}
        for run in stored(paths)[1]
        if run.data.tags["stage"] == "reproduction"
    ]
    assert of_stages == 2 * [{"base.llm.val_loss": 2.0, "pretrain.loss": 3.12346, "pretrain.val_loss": 3.0}]


def test_what_a_stage_took_and_how_fast_it_was_is_on_its_own_run(paths):
    for stage, does in train(paths).items():
        started(paths, stage, key="a", does=does)
    found = by_stage(paths)
    assert found["base"].data.metrics.items() >= {"mfu": 0.5, "projected.h200.hours": 1.0, "llm.loss": 2.5}.items()
    assert found["pretrain"].data.metrics["samples_per_second"] == 100
    assert found["reproduction"].data.metrics["hours"] > 0
