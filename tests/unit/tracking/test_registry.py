"""A judged model becomes one version, however often and brokenly it is told; the alias follows the rule."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException, RestException

from minivlm.files import sha256_tree
from minivlm.tracking import Candidate, delivery, stage_run
from minivlm.tracking.champion import Score
from minivlm.tracking.store import connect
from tests.unit.tracking.toys import (
    PARAMS,
    CuttingClient,
    LeftStage,
    by_stage,
    calls_that_may_be_cut,
    cutting,
    stored,
    sync,
)

ROWS = "a" * 16
CALLS = 42  # of MLflow's client, that a delivery of one model makes


def directory(paths, content="weights"):
    """A model's files; the registry carries them and looks into none."""
    folder = paths.root / f"{content} of" / "model"
    (folder / "more").mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_text(content)
    (folder / "more" / "config.json").write_text("{}")
    return folder


# fmt: off
def candidate(paths, content="weights", score=0.9, rows=ROWS, name="minivlm", figure="attribute_recall",
              question="这是什么？", length=128, description=""):
    return Candidate(
        name=name, stage="sft", directory=directory(paths, content), question=question, max_new_tokens=length,
        example="data:image/png;base64,AAAA", description=description or f"heldout: {score}",
        score=None if score is None else Score(figure, score, rows),
    )
# fmt: on


def left(paths, number, *candidates):
    """A stage `evaluate` that tells of models, and is gone: its journal is left."""
    stage = LeftStage(paths, run=f"{number:032x}", parent=f"{number + 100:032x}", stage="evaluate")
    stage.run.set_tags({"reproduction": f"abc {number}", "git.commit": "c" * 40, "mlflow.user": "someone"})
    stage.parent.log_params({"sft.learning_rate": 1e-3})
    stage.run.log_metrics({"sft.heldout.attribute_recall": 0.9, "pretrain.heldout.attribute_recall": 0.1})
    for each in candidates:
        stage.run.log_model(each)
    stage.end().die()
    return stage


def tell(paths, number, *candidates):
    """The same, delivered."""
    left(paths, number, *candidates)
    assert not sync(paths).waiting


def versions(paths, name="minivlm"):
    """The versions by number, with their tags, and which of them is champion (0: none)."""
    client, _ = connect(paths.tracking, PARAMS.tracking.experiment)
    found = client.search_model_versions(f"name = '{name}'")
    holder = client.get_registered_model(name).aliases.get("champion", 0)
    return {int(version.version): version for version in found}, int(holder)


def test_a_version_has_files_signature_example_tags_and_its_run(alone):
    model = candidate(alone)
    tell(alone, 1, model)
    found, champion = versions(alone)
    version = found[1]
    assert champion == 1 and version.tags["champion.rule"] == "became champion: there was none"
    assert version.description == "heldout: 0.9"
    told = {"attribute_recall": "0.9", "heldout": ROWS, "reproduction": "abc 1", "git.commit": "c" * 40}
    assert told.items() <= version.tags.items()
    runs = by_stage(alone)
    assert version.run_id == runs["evaluate"].info.run_id
    folder = Path(version.source.removeprefix("file://"))
    assert sha256_tree(folder / "data" / "model") == sha256_tree(model.directory)
    assert (folder / "code/minivlm/serving/pyfunc.py").is_file()
    code = {file.relative_to(folder / "code").as_posix() for file in (folder / "code").rglob("*.*")}
    assert "minivlm/generation/captions.py" in code and "minivlm/training/loop.py" not in code
    assert not [name for name in code if "config" in name]  # which is imported for its types alone
    assert all(name.endswith(".py") for name in code)
    for file in folder.glob("*"):  # nothing of this machine is in what MLflow reads
        assert file.is_dir() or str(alone.root) not in file.read_text(encoding="utf-8")
    pinned = (folder / "requirements.txt").read_text().splitlines()
    assert {line.split("==")[0] for line in pinned} >= {"mlflow", "torch", "transformers", "pillow"}
    assert all("==" in line and "+" not in line for line in pinned)
    client, _ = stored(alone)
    (logged,) = client.search_logged_models([version_experiment(alone)])
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "minivlm", "version": "1"}]
    assert logged.params == {"sft.learning_rate": "0.001"} and logged.tags["mlflow.user"] == "someone"
    assert [metric.key for metric in logged.metrics] == ["sft.heldout.attribute_recall"]
    for run in runs.values():
        assert [output.model_id for output in run.outputs.model_outputs] == [logged.model_id]
    assert len(client.get_metric_history(version.run_id, "sft.heldout.attribute_recall")) == 1
    assert list(alone.journal.iterdir()) == []


def version_experiment(paths):
    return connect(paths.tracking, PARAMS.tracking.experiment)[1]


def test_mlflow_reads_signature_and_example_of_a_version(alone, monkeypatch):
    from mlflow.models import Model

    tell(alone, 1, candidate(alone))
    folder = Path(versions(alone)[0][1].source.removeprefix("file://"))
    model = Model.load(str(folder))
    assert [(c.name, c.type.name, c.required) for c in model.signature.inputs] == [
        ("image", "string", True),
        ("question", "string", False),
    ]
    assert [(c.name, c.type.name) for c in model.signature.outputs] == [("caption", "string")]
    assert [(p.name, p.default) for p in model.signature.params] == [("max_new_tokens", 128)]
    example = model.load_input_example(str(folder)).to_dict("records")
    assert example == [{"image": "data:image/png;base64,AAAA", "question": "这是什么？"}]
    assert model.model_size_bytes > (folder / "data/model/model.safetensors").stat().st_size
    assert model.flavors["python_function"]["config"] == {
        "question": "这是什么？",
        "max_new_tokens": 128,
        "device": "auto",
    }


def test_the_same_files_evaluated_again_make_no_second_version(alone):
    tell(alone, 1, candidate(alone))
    tell(alone, 2, candidate(alone))
    found, champion = versions(alone)
    assert list(found) == [1] and champion == 1
    assert found[1].tags["reproduction"] == "abc 1"  # of the run that it is from
    assert len(list((alone.tracking / "artifacts/models").iterdir())) == 1


@pytest.mark.parametrize(
    ("first", "second", "champion"),
    [(0.9, 0.95, 2), (0.9, 0.9, 1), (0.9, 0.8, 1), (None, 0.1, 2), (0.9, None, 1), (None, None, 0)],
    ids=["higher", "equal", "lower", "the first has none", "the second has none", "neither has one"],
)
def test_the_alias_follows_the_figure(alone, first, second, champion):
    tell(alone, 1, candidate(alone, "one", first))
    tell(alone, 2, candidate(alone, "two", second))
    assert versions(alone)[1] == champion


def test_other_pictures_or_another_figure_never_take_the_alias(alone):
    others = [
        candidate(alone, "two", 0.99, rows="b" * 16),
        candidate(alone, "three", 9.0, rows="b" * 16, figure="cider"),
        candidate(alone, "four", 9.5, rows="b" * 16, figure="cider"),
    ]
    tell(alone, 1, candidate(alone, "one", 0.9), *others)
    found, champion = versions(alone)
    assert champion == 1 and len(found) == 4
    assert "on other held-out pictures" in found[2].tags["champion.rule"]
    assert "by cider" in found[3].tags["champion.rule"]


def test_judged_on_other_pictures_a_version_takes_the_new_figures_and_is_judged_anew(alone):
    tell(alone, 1, candidate(alone, "one", 0.9), candidate(alone, "two", 0.8))
    tell(alone, 2, candidate(alone, "two", 5.0, rows="b" * 16, figure="cider"))
    found, champion = versions(alone)
    assert champion == 1
    assert "attribute_recall" not in found[2].tags and found[2].tags["cider"] == "5.0"
    assert "this one by cider" in found[2].tags["champion.rule"]
    tell(alone, 3, candidate(alone, "two", 0.95))
    assert versions(alone)[1] == 2
    tell(alone, 4, candidate(alone, "two", 0.99))  # the champion itself, with another figure
    found, champion = versions(alone)
    assert champion == 2 and found[2].tags["champion.rule"] == "is champion already"
    assert found[2].tags["attribute_recall"] == "0.99" and "cider" not in found[2].tags


def test_asked_another_question_the_same_files_are_another_version(alone):
    """A figure is of what is served: of the model and the question that it answers."""
    from mlflow.models import Model

    tell(alone, 1, candidate(alone, score=0.9))
    tell(alone, 2, candidate(alone, score=0.4, question="有几只？"))
    tell(alone, 3, candidate(alone, score=0.95, length=16))
    found, champion = versions(alone)
    assert sorted(found) == [1, 2, 3] and champion == 3
    for number, recall, question in ((1, "0.9", "这是什么？"), (2, "0.4", "有几只？"), (3, "0.95", "这是什么？")):
        version, folder = found[number], Path(found[number].source.removeprefix("file://"))
        assert version.tags["attribute_recall"] == recall and version.description == f"heldout: {recall}"
        assert Model.load(str(folder)).flavors["python_function"]["config"]["question"] == question


@pytest.mark.parametrize("score", [0.9, 0.5], ids=["the same figure", "another figure"])
def test_judged_anew_a_version_and_its_model_are_described_anew(alone, score):
    tell(alone, 1, candidate(alone, score=0.9))
    tell(alone, 2, candidate(alone, score=score, rows="b" * 16, description="what the second evaluation says"))
    found, _ = versions(alone)
    (logged,) = stored(alone)[0].search_logged_models([version_experiment(alone)])
    assert list(found) == [1]
    assert found[1].description == logged.tags["mlflow.note.content"] == "what the second evaluation says"


def test_an_alias_that_somebody_moved_stays_until_a_better_version_comes(alone):
    tell(alone, 1, candidate(alone, "one", 0.8))
    tell(alone, 2, candidate(alone, "two", 0.9))
    client, _ = stored(alone)
    client.set_registered_model_alias("minivlm", "champion", "1")  # rolled back by hand
    tell(alone, 3, candidate(alone, "two", 0.9))
    assert versions(alone)[1] == 1
    tell(alone, 4, candidate(alone, "three", 0.85))
    assert versions(alone)[1] == 3


def test_what_an_older_journal_brings_late_changes_nothing_of_a_version(alone):
    stage = left(alone, 1, candidate(alone, "one", 0.5, rows="b" * 16, description="older"))
    hidden = stage.journal.path.with_suffix(".hidden")
    stage.journal.path.rename(hidden)
    tell(alone, 2, candidate(alone, "one", 0.9))
    hidden.rename(stage.journal.path)
    assert sync(alone).delivered == ["evaluate"]
    found, champion = versions(alone)
    assert list(found) == [1] and champion == 1
    assert (found[1].tags["attribute_recall"], found[1].tags["heldout"]) == ("0.9", ROWS)
    assert found[1].description == "heldout: 0.9"


@pytest.mark.parametrize("number", calls_that_may_be_cut(CALLS, quick=10))
def test_a_delivery_that_breaks_off_anywhere_makes_one_version(alone, monkeypatch, number):
    tell(alone, 1, candidate(alone, "one", 0.8))
    left(alone, 2, candidate(alone, "two", 0.9))
    cut = {"left": number}
    monkeypatch.setattr(delivery, "connect", lambda *place: cutting(cut, *place))
    assert sync(alone).waiting == ["evaluate"]
    monkeypatch.setattr(delivery, "connect", connect)
    assert sync(alone).delivered == ["evaluate"]
    found, champion = versions(alone)
    assert sorted(found) == [1, 2] and champion == 2
    assert found[2].tags["attribute_recall"] == "0.9" and "champion" in found[2].tags["champion.rule"]
    client, runs = stored(alone)
    models = {model.model_id: model for model in client.search_logged_models([version_experiment(alone)])}
    assert [model.status for model in models.values()] == ["READY", "READY"]
    (second,) = [m for m in models.values() if '"2"' in m.tags["mlflow.modelVersions"]]
    assert [metric.key for metric in second.metrics] == ["sft.heldout.attribute_recall"]
    for run in runs[2:]:
        assert [output.model_id for output in run.outputs.model_outputs] == [second.model_id]
    with closing(sqlite3.connect(alone.tracking / "mlflow.db")) as store:
        points = store.execute("select count(*) from metrics where key like '%recall'").fetchone()
    assert points == (4,)  # two of each of the two runs


def test_the_cuts_above_reach_the_last_call(alone, monkeypatch):
    """As many calls are made as the test above cuts: else its last steps would go untested."""
    tell(alone, 1, candidate(alone, "one", 0.8))
    left(alone, 2, candidate(alone, "two", 0.9))
    clients = []

    def counted(*place):
        client, experiment = connect(*place)
        clients.append(CuttingClient(client, 1000))
        return clients[-1], experiment

    monkeypatch.setattr(delivery, "connect", counted)
    assert sync(alone).delivered == ["evaluate"]
    assert sum(1000 - client._left for client in clients) == CALLS


@pytest.mark.parametrize("code", ["ENDPOINT_NOT_FOUND", "PERMISSION_DENIED", "INVALID_PARAMETER_VALUE"])
def test_a_store_that_takes_no_models_costs_a_warning_and_no_run(alone, monkeypatch, capsys, code):
    def refuses(*_, **__):
        raise RestException({"error_code": code, "message": "no registry here"})

    left(alone, 1, candidate(alone))
    monkeypatch.setattr("mlflow.tracking.MlflowClient.search_model_versions", refuses)
    assert sync(alone).delivered == ["evaluate"]
    assert "warning: MLflow refuses model: " in capsys.readouterr().err
    found = by_stage(alone)
    assert found["evaluate"].info.status == found["reproduction"].info.status == "FINISHED"


def test_a_store_that_fails_for_now_has_the_rest_and_gets_the_model_later(alone, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    left(alone, 1, candidate(alone))
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.tracking.MlflowClient.log_model_artifacts", full)
        assert sync(alone).waiting == ["evaluate"]
    assert {run.info.status for run in by_stage(alone).values()} == {"FINISHED"}
    assert sync(alone).delivered == ["evaluate"]
    assert versions(alone)[1] == 1
    assert {run.info.status for run in by_stage(alone).values()} == {"FINISHED"}


def test_somebody_else_may_make_the_registered_model_first(alone, monkeypatch):
    client, _ = stored(alone)
    client.create_registered_model("minivlm")
    monkeypatch.setattr("mlflow.tracking.MlflowClient.search_registered_models", lambda *_, **__: [])
    with pytest.raises(MlflowException):
        client.create_registered_model("minivlm")
    tell(alone, 1, candidate(alone))
    assert versions(alone)[1] == 1


def test_weights_that_wait_take_no_room_and_are_those_that_were_judged(alone, capsys):
    model = candidate(alone)
    stage = left(alone, 1, model)
    weights = model.directory / "model.safetensors"
    assert weights.stat().st_nlink == 2  # a second name beside the journal
    shutil.rmtree(model.directory)  # as DVC does before the stage runs again
    directory(alone, "weights")
    assert not sync(alone).waiting
    assert versions(alone)[1] == 1

    stage = left(alone, 2, candidate(alone, "others"))
    (alone.root / "others of/model/model.safetensors").write_text("written over, in place")
    assert not sync(alone).waiting
    assert "not the files of the model any more" in capsys.readouterr().err
    assert list(versions(alone)[0]) == [1]
    assert not stage.journal.path.exists()


def test_a_disk_without_second_names_gets_a_copy(alone, monkeypatch):
    def refuses(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuses)
    tell(alone, 1, candidate(alone))
    assert versions(alone)[1] == 1


def test_a_stage_registers_its_model(paths):
    with stage_run("evaluate", PARAMS, paths) as run:
        run.log_metrics({"sft.heldout.attribute_recall": 0.9})
        run.log_model(candidate(paths))
    assert versions(paths)[1] == 1


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_the_model_of_a_stage_that_fails_afterwards_is_no_version(paths, error):
    """What is served is never the work of an evaluation that did not come to its end."""
    with pytest.raises(type(error)), stage_run("evaluate", PARAMS, paths) as run:
        run.log_model(candidate(paths))
        raise error
    client, runs = stored(paths)
    assert {run.info.status for run in runs} in ({"FAILED"}, {"KILLED"})
    assert client.search_registered_models() == []
    assert list(paths.journal.iterdir()) == []  # nor are its weights left there


def test_copies_that_find_no_room_cost_the_version_and_not_the_stage(paths, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for name in ("minivlm.tracking.journal.Journal.keep", "minivlm.tracking.run.copy_code"):
        with monkeypatch.context() as patch, stage_run("evaluate", PARAMS, paths) as run:
            patch.setattr(name, full)
            run.log_model(candidate(paths))
        assert capsys.readouterr().err.count("No space left on device") == 1
    client, runs = stored(paths)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert client.search_registered_models() == []
