"""What reaches MLflow, and which run it belongs to: temporary stores, no network."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from PIL import Image

from minivlm.errors import StoppedError, UserError
from minivlm.files import write_json
from minivlm.paths import Paths
from minivlm.tracking import NullRun, stage_run, stages
from minivlm.tracking.results import Results
from minivlm.tracking.run import Run
from tests.unit.tracking.toys import PARAMS, by_stage, stored


def test_a_run_holds_parameters_metrics_and_what_it_was_made_from(paths):
    with stage_run("sft", PARAMS, paths) as run:
        for step in range(5):
            run.log_metrics({"loss": 5.0 - step}, step=step)
        run.log_metrics({"val_loss": 1.5, "nested": {"value": 2}, "not_measured": None})
        run.log_params({"model": {"width": 512}})
    client, _ = stored(paths)
    found = by_stage(paths)["sft"]
    assert found.info.status == "FINISHED"
    assert found.data.params["sft.learning_rate"] == str(PARAMS.sft.learning_rate)
    assert found.data.params["seed"] == str(PARAMS.seed)
    assert found.data.params["model.width"] == "512"
    assert found.data.metrics["val_loss"] == 1.5
    assert found.data.metrics["nested.value"] == 2
    assert found.data.metrics["hours"] > 0
    assert found.data.metrics["money"] == pytest.approx(found.data.metrics["hours"] * PARAMS.prices.cpu_hour)
    assert [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, "loss")] == [
        (step, 5.0 - step) for step in range(5)
    ]
    assert {"stage", "hardware.device", "hardware.cores", "version.torch"} <= set(found.data.tags)


def test_a_result_ends_the_curve_of_the_same_name(paths):
    with stage_run("sft", PARAMS, paths) as run:
        run.log_metrics({"val_loss": 2.0}, step=10)
        run.log_metrics({"val_loss": 1.0}, step=20)
        run.log_metrics({"val_loss": 0.9})
    client, _ = stored(paths)
    run_id = by_stage(paths)["sft"].info.run_id
    assert [(m.step, m.value) for m in client.get_metric_history(run_id, "val_loss")] == [
        (10, 2.0),
        (20, 1.0),
        (20, 0.9),
    ]
    assert client.get_run(run_id).data.metrics["val_loss"] == 0.9


def test_a_metric_that_is_no_number_is_refused(paths):
    with pytest.raises(TypeError, match="loss"), stage_run("sft", PARAMS, paths) as run:
        run.log_metrics({"loss": "low"})


def test_stages_of_one_execution_share_a_parent_that_carries_their_results(paths):
    with stage_run("pretrain", PARAMS, paths, key="a"):
        write_json(paths.reports("pretrain") / "metrics.json", {"val_loss": 2.0})
    with stage_run("evaluate", PARAMS, paths, key="a"):
        scores = {"sft": {"heldout": {"attribute_recall": 0.9}}}
        write_json(paths.reports("evaluate") / "metrics.json", scores)
    with stage_run("sft", PARAMS, paths, key="b"):
        pass
    _, runs = stored(paths)
    parents = [run for run in runs if run.data.tags["stage"] == "reproduction"]
    assert [run.info.run_name for run in parents] == ["no commit 1", "no commit 2"]
    found = by_stage(paths)
    assert found["pretrain"].data.tags["mlflow.parentRunId"] == parents[0].info.run_id
    assert found["evaluate"].data.tags["mlflow.parentRunId"] == parents[0].info.run_id
    assert found["sft"].data.tags["mlflow.parentRunId"] == parents[1].info.run_id
    figures = parents[0].data.metrics
    assert figures["pretrain.val_loss"] == 2.0
    assert figures["evaluate.sft.heldout.attribute_recall"] == 0.9
    hours = [found[stage].data.metrics["hours"] for stage in ("pretrain", "evaluate")]
    assert figures["hours"] == pytest.approx(sum(hours), rel=1e-5)
    assert parents[0].data.params["sft.learning_rate"] == str(PARAMS.sft.learning_rate)
    assert parents[0].info.status == "FINISHED"


def test_a_stage_that_dvc_skipped_lends_its_figures_to_the_reproduction(paths):
    write_json(paths.reports("pretrain") / "metrics.json", {"val_loss": 1.25, "device": "none"})
    with stage_run("sft", PARAMS, paths):
        pass
    parent = by_stage(paths)["reproduction"]
    assert parent.data.metrics["pretrain.val_loss"] == 1.25
    assert parent.data.tags["reused"] == "pretrain"


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (UserError("the loss is not finite"), "FAILED", "the loss is not finite"),
        (ValueError("two\nlines"), "FAILED", "ValueError: two lines"),
        (KeyboardInterrupt(), "KILLED", "interrupted"),
    ],
)
def test_a_run_that_ends_early_says_why(paths, error, status, reason):
    with pytest.raises(type(error)), stage_run("sft", PARAMS, paths) as run:
        run.log_metrics({"loss": 1.0}, step=0)
        raise error
    found = by_stage(paths)
    assert found["sft"].info.status == found["reproduction"].info.status == status
    assert found["sft"].data.tags["error"] == reason
    assert found["reproduction"].data.tags["error"] == f"sft: {reason}"
    assert found["sft"].data.metrics["loss"] == 1.0


def test_pictures_tables_and_files_are_on_the_stage_and_on_the_reproduction(paths, tmp_path):
    (tmp_path / "captions.md").write_text("a table", encoding="utf-8")
    pictures = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    with stage_run("evaluate", PARAMS, paths) as run:
        run.log_artifact(tmp_path / "captions.md", "evaluate")
        run.log_image(pictures[0], "sunset")
        run.log_table({"picture": pictures, "SFT_vlm": ["红色", "蓝色"]}, "captions.json")
    client, _ = stored(paths)
    run_id = by_stage(paths)["evaluate"].info.run_id
    assert {item.path for item in client.list_artifacts(run_id)} >= {"captions.json", "evaluate", "images"}
    parent = by_stage(paths)["reproduction"]
    assert "captions.json" in parent.data.tags["mlflow.loggedArtifacts"]
    table = json.loads(Path(client.download_artifacts(parent.info.run_id, "captions.json")).read_text("utf-8"))
    assert [row[1] for row in table["data"]] == ["红色", "蓝色"]
    assert table["data"][0][0]["type"] == "image"


def test_a_file_that_is_missing_is_an_error(paths, tmp_path):
    with pytest.raises(FileNotFoundError), stage_run("evaluate", PARAMS, paths) as run:
        run.log_artifact(tmp_path / "nowhere")


def test_a_disabled_tracker_accepts_everything_and_writes_nothing(tmp_path):
    params = PARAMS.model_copy(update={"tracking": PARAMS.tracking.model_copy(update={"enabled": False})})
    paths = Paths(tmp_path)
    with stage_run("sft", params, paths) as run:
        assert isinstance(run, NullRun)
        run.log_params({"a": 1})
        run.log_metrics({"loss": 1.0}, step=1)
        run.set_tags({"a": "b"})
        run.log_artifact(tmp_path / "nowhere")
        run.log_image(tmp_path / "nowhere", "x")
        run.log_table({"a": [1]}, "a.json")
        run.flush()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in vars(Run) if not name.startswith("_")])
def test_a_disabled_tracker_has_whatever_a_run_has(name, tmp_path, monkeypatch):
    """Also what is not written yet: with any arguments, and without a file."""
    monkeypatch.chdir(tmp_path)
    member = getattr(NullRun(), name)
    for arguments in ((), ("a",), ({"a": 1}, 2)) if callable(member) else ():
        assert member(*arguments) is None
    assert callable(member) or not member
    assert list(tmp_path.iterdir()) == []


def test_a_failure_before_the_stage_starts_ends_its_runs(paths, monkeypatch):
    def fail(root, stage):
        raise OSError("disk")

    monkeypatch.setattr(stages.facts, "input_tags", fail)
    with pytest.raises(OSError, match="disk"), stage_run("sft", PARAMS, paths):
        pytest.fail("the stage must not run")
    assert by_stage(paths)["sft"].info.status == "FAILED"


def test_results_that_an_earlier_process_has_told_are_told_again_word_for_word(paths, tmp_path):
    """It was killed between its results and its end; what depends on the time is another number now."""
    memory, told = tmp_path / "results.jsonl", ""
    for key, seconds in (("a", 5.0), ("b", 6.0)):
        killed = pytest.raises(StoppedError) if key == "a" else nullcontext()
        with killed, stage_run("sft", PARAMS, paths, key=key, resumes=True) as run:
            run.remember(memory)
            if told:
                run.go_on(told)
            told = run.id
            run.log_metrics({"val_loss": 2.0}, step=10, time_ms=1_767_225_600_000)
            run.log_metrics({"val_loss": 1.5, "training_seconds": seconds})
            run.log_metrics({"training_seconds": seconds + 1})  # told twice by both
            if key == "a":
                raise StoppedError("killed, where a process cannot be spared")
            run.log_metrics({"later": 1.0})
            write_json(paths.reports("sft") / "metrics.json", {"val_loss": 1.5})
    client, _ = stored(paths)
    run_id = by_stage(paths)["sft"].info.run_id
    history = {
        key: [(point.step, point.value) for point in client.get_metric_history(run_id, key)]
        for key in ("val_loss", "training_seconds", "later")
    }
    assert history == {
        "val_loss": [(10, 2.0), (10, 1.5)],
        "training_seconds": [(0, 5.0), (0, 6.0)],
        "later": [(0, 1.0)],
    }
    parent = by_stage(paths)["reproduction"].info.run_id
    told = [(point.step, point.value) for point in client.get_metric_history(parent, "sft.val_loss")]
    assert told == [(10, 2.0), (10, 1.5)]


@pytest.mark.parametrize(
    "damage", [b"{", b"\xff", b"[]", b'["a"]', b"[1, 2, 3, 4]", b'["val_loss", "x", 1, 1]', b""]
)
def test_a_damaged_memory_of_results_costs_what_it_held(paths, tmp_path, damage):
    memory = tmp_path / "results.jsonl"
    memory.write_bytes(damage + b"\n" + b'["val_loss", 1.25, 1767225600000, 0]\n["torn", 1.0, 17672256')
    with stage_run("sft", PARAMS, paths, resumes=True) as run:
        run.remember(memory)
        run.log_metrics({"val_loss": 9.0, "torn": 2.0})
    assert by_stage(paths)["sft"].data.metrics.items() >= {"val_loss": 1.25, "torn": 2.0}.items()
    assert Results(memory).earlier("torn")[1] == 2.0


def test_a_full_disk_takes_no_result_from_mlflow(paths, tmp_path):
    with stage_run("sft", PARAMS, paths, resumes=True) as run:
        run.remember(tmp_path / "nowhere" / "results.jsonl")
        run.log_metrics({"val_loss": 9.0})
    assert by_stage(paths)["sft"].data.metrics["val_loss"] == 9.0


def test_a_journal_that_cannot_be_written_costs_the_tracking_and_not_the_stage(paths, capsys):
    paths.journal.parent.mkdir(exist_ok=True)
    paths.journal.write_text("a file")
    with stage_run("sft", PARAMS, paths) as run:
        run.log_metrics({"loss": 1.0}, step=1)
    assert capsys.readouterr().err.startswith(f"warning: MLflow gets nothing of this run: {paths.journal}: ")
    assert stored(paths)[1] == []


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b'{"no commit": "x"}'])
def test_damaged_counts_of_reproductions_cost_a_name_at_most(paths, damage):
    counts = paths.tracking / "reproductions" / "names" / "counts.json"
    counts.parent.mkdir(parents=True)
    counts.write_bytes(damage)
    with stage_run("sft", PARAMS, paths):
        pass
    assert by_stage(paths)["reproduction"].info.run_name == "no commit 1"


def test_where_nothing_can_be_noted_of_reproductions_the_stage_is_one_of_its_own(paths, capsys):
    (paths.tracking / "reproductions").write_text("a file")
    with stage_run("sft", PARAMS, paths) as run:
        run.log_metrics({"val_loss": 1.0})
    assert "this stage is a reproduction of its own" in capsys.readouterr().err
    assert by_stage(paths)["sft"].info.status == by_stage(paths)["reproduction"].info.status == "FINISHED"


def stop_and_go_on(paths, params):
    """A training that is stopped in one execution and ends in another, with `params`."""
    with pytest.raises(StoppedError), stage_run("sft", PARAMS, paths, key="a", resumes=True) as run:
        told = run.id
        run.remember(paths.state / "results.jsonl")
        run.begin()
        run.log_metrics({"loss": 1.0}, step=1)
        raise StoppedError("sft: after step 1 of 2")
    with stage_run("sft", params, paths, key="b", resumes=True) as run:
        run.remember(paths.state / "results.jsonl")
        run.go_on(told, 3600.0)
        run.log_metrics({"loss": 0.5}, step=2)
    with stage_run("evaluate", params, paths, key="b"):
        pass
    client, runs = stored(paths)
    assert sorted(run.data.tags["stage"] for run in runs).count("sft") == 1
    return client, {run.info.run_name: run for run in runs if run.data.tags["stage"] == "reproduction"}


def test_a_reproduction_that_was_stopped_goes_on_with_the_training(paths):
    """And what stopped it is over: one reproduction, with all its stages and what they cost together."""
    client, parents = stop_and_go_on(paths, PARAMS)
    (parent,) = parents.values()
    assert parent.info.run_name == "no commit 1" and parent.info.status == "FINISHED"
    found = by_stage(paths)
    for stage in ("sft", "evaluate"):
        assert found[stage].data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert found[stage].data.tags["reproduction"] == "no commit 1"
    assert [(m.step, m.value) for m in client.get_metric_history(found["sft"].info.run_id, "loss")] == [
        (1, 1.0),
        (2, 0.5),
    ]
    hours = found["sft"].data.metrics["hours"]
    assert parent.data.metrics["hours"] > hours > 1.0 and not parent.data.tags.get("error")


def test_with_other_parameters_the_training_goes_on_in_a_reproduction_of_its_own(paths):
    """Of a stage behind it: the training's own are the same, or it would have begun anew."""
    evaluate = PARAMS.evaluate.model_copy(update={"max_new_tokens": PARAMS.evaluate.max_new_tokens + 1})
    _, parents = stop_and_go_on(paths, PARAMS.model_copy(update={"evaluate": evaluate}))
    assert {name: run.info.status for name, run in parents.items()} == {
        "no commit 1": "KILLED",
        "no commit 2": "FINISHED",
    }
    assert by_stage(paths)["sft"].data.tags["mlflow.parentRunId"] == parents["no commit 2"].info.run_id


def test_a_reproduction_that_failed_is_no_failure_once_it_goes_on(paths):
    with pytest.raises(UserError), stage_run("sft", PARAMS, paths, key="a", resumes=True) as run:
        told = run.id
        run.begin()
        raise UserError("the disk is full")
    assert by_stage(paths)["reproduction"].data.tags["error"] == "sft: the disk is full"
    with stage_run("sft", PARAMS, paths, key="b", resumes=True) as run:
        run.go_on(told)
    found = by_stage(paths)
    assert [found[stage].data.tags["error"] for stage in ("sft", "reproduction")] == ["", ""]
    assert [found[stage].info.status for stage in ("sft", "reproduction")] == ["FINISHED", "FINISHED"]


def test_a_held_run_that_tells_nothing_is_there_all_the_same(paths):
    with pytest.raises(UserError), stage_run("sft", PARAMS, paths, resumes=True):
        raise UserError("no rows")
    found = by_stage(paths)
    assert {stage: run.info.status for stage, run in found.items()} == {"sft": "FAILED", "reproduction": "FAILED"}
