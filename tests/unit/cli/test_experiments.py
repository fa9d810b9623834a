"""DVC's experiments in few columns: what each changed and what came of it."""

import json
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from minivlm.cli import experiments
from minivlm.cli.main import app


def data(rate: float, recall: float | None, **quality: float) -> dict[str, Any]:
    """What `dvc exp show --json` holds of a revision."""
    scores = quality if recall is None else {"attribute_recall": recall, **quality}
    metrics = {
        "reports/pretrain/metrics.json": {"data": {"val_loss": 9.0}},
        "reports/sft/metrics.json": {"data": {"val_loss": 0.2}},
        "reports/evaluate/metrics.json": {"data": {"sft": {"heldout": scores}}},
    }
    return {"params": {"params.yaml": {"data": {"seed": 20, "sft": {"learning_rate": rate}}}}, "metrics": metrics}


def revision(name: str | None, rev: str, of: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    return {"name": name, "rev": rev, "data": of, "error": None, "experiments": None, **more}


def experiment(name: str, of: dict[str, Any] | None, state: str | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "revs": [revision(name, "1" * 40, of, **more)], "executor": state and {"state": state}}


SHOWN = [
    revision(None, "workspace", data(1e-3, 0.5)),
    revision(
        "main",
        "a" * 40,
        data(1e-3, 0.5, image_gap=-0.0001),
        experiments=[
            experiment("faster", data(2e-3, 0.75), "success"),
            experiment("waiting", data(5e-4, 0.5), "queued"),
            experiment("broken", None, error={"type": "X", "msg": "no"}),
        ],
    ),
]


@pytest.fixture
def dvc(monkeypatch):
    """Stands for DVC; what it is asked is collected."""
    asked: list[list[str]] = []
    answer = SimpleNamespace(returncode=0, stdout=json.dumps(SHOWN), stderr="")

    def run(command, **options):
        asked.append(command[1:])
        return answer

    monkeypatch.setattr(subprocess, "run", run)
    return SimpleNamespace(asked=asked, answer=answer)


def test_each_experiment_says_what_it_changed_and_its_figures():
    rows = {row.name: row for row in experiments.read_rows(SHOWN, {})}
    assert list(rows) == ["workspace", "main", "faster", "waiting", "broken"]
    assert (rows["main"].changed, rows["workspace"].changed) == ({}, {})
    assert (rows["faster"].parent, rows["faster"].changed) == ("main", {"sft.learning_rate": 2e-3})
    assert rows["faster"].figures == {"sft loss": 0.2, "recall": 0.75}
    assert (rows["waiting"].state, rows["waiting"].figures) == ("queued", {}), "these are the commit's"
    assert (rows["broken"].state, rows["broken"].changed) == ("failed", {})


def locked(rate: float, *, evaluated: str = "m1") -> dict[str, Any]:
    """The stages of a dvc.lock; evaluate's figures are of the model `evaluated`, sft's model is m1."""
    model = {"path": "artifacts/sft/model", "md5": "m1"}
    code = {"path": "src/minivlm/files.py", "md5": "c"}
    return {
        "pretrain": {"deps": [code], "params": {"params.yaml": {"seed": 20}}, "outs": []},
        "sft": {
            "deps": [code],
            "params": {"params.yaml": {"seed": 20, "sft": {"learning_rate": rate}}},
            "outs": [model],
        },
        "evaluate": {"deps": [{**model, "md5": evaluated}], "outs": []},
    }


@pytest.mark.parametrize(
    ("lock", "state", "figures"),
    [
        (locked(1e-3), "", {"sft loss": 0.2, "recall": 0.5}),
        (locked(5e-3), "not run", {}),
        (locked(1e-3, evaluated="m0"), "not run", {"sft loss": 0.2}),
        ({}, "", {"sft loss": 0.2, "recall": 0.5}),
    ],
    ids=["as it ran", "a parameter edited since", "sft has run, evaluate not yet", "no lock"],
)
def test_the_workspace_shows_no_figures_of_other_parameters(lock, state, figures):
    workspace = next(experiments.read_rows(SHOWN, lock))
    assert (workspace.name, workspace.state, workspace.figures) == ("workspace", state, figures)


def test_rows_without_a_scene_show_cider():
    rows = list(experiments.read_rows([revision("main", "a" * 40, data(1e-3, None, cider=1.5))], {}))
    assert rows[0].figures == {"sft loss": 0.2, "recall": 1.5}


def test_the_table_has_few_named_columns_in_80_columns(dvc):
    result = CliRunner().invoke(app, ["experiments", "--commits", "2"], env={"COLUMNS": "80"})
    lines = [line.rstrip() for line in result.output.splitlines() if line.strip()]
    assert dvc.asked == [["-m", "dvc", "exp", "show", "--json", "--num", "2"]]
    header = ["experiment", "changed", "sft", "loss", "recall", "unseen", "gap"]
    assert lines[0].split() == header
    assert max(map(len, lines)) <= 80
    assert lines[4].split() == ["faster", "sft.learning_rate", "=", "0.002", "0.200", "0.750", "–", "–"]
    assert lines[3].split()[-1] == "0.000", "a gap that rounds to nothing has no sign"
    assert lines[5].split()[:2] == ["waiting", "queued"]
    assert "\n".join(lines[-3:]) == experiments.NOTE, "what each is over, and which way is better"


def test_json_holds_the_same(dvc):
    rows = json.loads(CliRunner().invoke(app, ["experiments", "--json"]).output)
    assert [row["name"] for row in rows] == ["workspace", "main", "faster", "waiting", "broken"]


def test_what_dvc_cannot_do_is_one_line(dvc):
    dvc.answer.returncode, dvc.answer.stderr = 255, "noise\nERROR: you are not inside of a DVC repository\n"
    result = CliRunner().invoke(app, ["experiments"])
    assert result.exit_code == 2
    assert result.stderr == "error: dvc exp show: you are not inside of a DVC repository\n"
