"""Real MLflow servers, over SQLite and PostgreSQL, that are away while a stage runs: each metric comes, once.

`python -m tests.reliability.tracking` does the same at length and counts.
"""

import os
import signal
import sys

import pytest

from tests.integration.mlflow_server import MlflowServer, database, postgres_missing, wait_until
from tests.integration.toy_stage import Stage, write_toy_inputs
from tests.integration.tracked_stage import CURVES, TrackedStage
from tests.reliability.tracking import SCENARIOS, attempt

pytestmark = pytest.mark.slow
STEPS = 1500  # as many as take some seconds, for the server to be taken away between


IN_BOTH = ("down", "killed_in_the_middle", "gone_on_late")  # of the scenarios, to be quicker than all of them
SHORT = ("sqlite down", "sqlite killed", "sqlite model")  # the others take minutes together: `-m long`


def on(kind, *values, name):
    """A test's values on a kind of database, skipped where it is not to be had."""
    missing = postgres_missing() if kind == "postgresql" else ""
    marks = [pytest.mark.skipif(bool(missing), reason=missing)]
    if f"{kind} {name}" not in SHORT:
        marks.append(pytest.mark.long)
    return pytest.param(kind, *values, marks=marks, id=f"{kind} {name}")


CASES = [
    *(on("sqlite", scenario, name=scenario.__name__) for scenario in SCENARIOS),
    *(on("postgresql", each, name=each.__name__) for each in SCENARIOS if each.__name__ in IN_BOTH),
]


@pytest.mark.parametrize(("kind", "scenario"), CASES)
def test_everything_told_is_in_the_database_once(kind, scenario, tmp_path):
    outcome = attempt(scenario, kind, tmp_path, STEPS)
    assert outcome.faults == []
    assert outcome.unhandled == 0
    assert outcome.told > len(CURVES)


@pytest.mark.parametrize("kind", [on("sqlite", name="killed"), on("postgresql", name="killed")])
def test_a_training_that_is_killed_without_a_server_goes_on_as_one_run_on_it(kind, tmp_path):
    inputs = write_toy_inputs(tmp_path / "inputs", tmp_path / "scratch")
    stage = Stage(tmp_path / "checkout", inputs).set(tracking=True, epochs=40.0, log_steps=1, save_minutes=0.0)
    with database(kind, tmp_path) as store, MlflowServer(tmp_path, store) as server:
        process = stage.start(*training(server), start_new_session=True)
        wait_until(lambda: told_points(stage) >= 20)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        (left,) = (stage.root / ".state/tracking").glob("*.jsonl")
        server.start()
        code, _, errors = stage.run(*training(server))
        assert code == 0 and "delivered to MLflow what was left: 1 journal (pretrain)" in errors
        steps = [int(row["step"]) for row in stage.history()]
        runs = server.rows(
            "select t.value, r.status, r.run_uuid from runs r join tags t on t.run_uuid = r.run_uuid "
            "where t.key = 'stage' and r.lifecycle_stage = 'active'"
        )
        assert sorted(run[:2] for run in runs) == [("pretrain", "FINISHED"), ("reproduction", "FINISHED")]
        (run,) = [run for stage_name, _, run in runs if stage_name == "pretrain"]
        told = server.rows(f"select step from metrics where run_uuid = '{run}' and key = 'loss' order by step")
        assert [step for (step,) in told] == steps
        assert not left.exists()


def told_points(stage):
    """Steps that the training has told the tracker of."""
    return sum(path.read_bytes().count(b"\n") for path in stage.root.glob(".state/pretrain/*/points.jsonl"))


def training(server):
    """The toy stage's command, with a tracking server."""
    code = (
        f"import os, runpy; os.environ['MLFLOW_TRACKING_URI'] = {server.uri!r}; "
        "runpy.run_module('pipelines.pretrain', run_name='__main__', alter_sys=True)"
    )
    return sys.executable, "-c", code


def test_a_stage_waits_at_its_end_no_longer_than_its_patience(tmp_path):
    """The server answers nothing at all, and the courier waits for it much longer than the stage."""
    with database("sqlite", tmp_path) as store, MlflowServer(tmp_path, store) as server:
        server.start()
        server.freeze()
        stage = TrackedStage(tmp_path / "checkout", server.uri, MLFLOW_HTTP_REQUEST_TIMEOUT="600")
        _, errors = stage.start(10, patience=3.0).communicate(timeout=240)
        (journal,) = stage.journals()
        assert errors == f"warning: MLflow is slow; this run is still sent, from {journal}\n"
        said, _ = stage.sync().communicate(timeout=120)
        assert said == "1 journal of a stage that runs, left alone\n"
        server.thaw()  # and the courier, which has gone on, delivers
        while stage.journals():
            stage.sync().communicate(timeout=120)
        assert server.rows("select count(*) from metrics where key = 'loss'") == [(10,)]


@pytest.mark.parametrize("kind", [on("sqlite", name="model"), on("postgresql", name="model")])
def test_a_model_whose_server_is_killed_while_it_takes_the_files_is_one_version(kind, tmp_path):
    with database(kind, tmp_path) as store, MlflowServer(tmp_path, store) as server:
        server.start()
        stage = TrackedStage(tmp_path / "checkout", server.uri)
        process = stage.start(10, model=True)
        wait_until(lambda: server.rows("select 1 from logged_models"))  # then come its files, one by one
        server.kill()
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0 and "Traceback" not in errors
        assert len(stage.journals()) == 1
        server.start()
        for each in [stage.sync(), stage.sync()]:
            _, errors = each.communicate(timeout=240)
            assert "Traceback" not in errors
        assert not stage.journals()
        assert server.rows("select version from model_versions") == [(1,)]
        assert server.rows("select alias, version from registered_model_aliases") == [("champion", 1)]
        assert len(server.rows("select 1 from logged_models")) == 1
        assert server.rows("select value from model_version_tags where key = 'champion.rule'")
        [folder] = (tmp_path / "artifacts").glob("*/models/*/artifacts")
        weights = (stage.root / "artifacts/model/model.safetensors").read_bytes()
        assert (folder / "data/model/model.safetensors").read_bytes() == weights
        assert (folder / "code/minivlm/serving/pyfunc.py").is_file()
