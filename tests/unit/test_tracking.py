"""What reaches MLflow, which run it belongs to, and what a dead server costs: temporary stores, no network."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from minivlm.config import load_params
from minivlm.errors import UserError
from minivlm.files import write_json
from minivlm.paths import Paths
from minivlm.tracking import NullRun, courier, delivery, facts, stage_run, stages
from minivlm.tracking.journal import Journal, JournalReader
from minivlm.tracking.reproduction import _is_dvc, execution_key, join
from minivlm.tracking.store import connect, exclusive, local_uri

ROOT = Path(__file__).resolve().parents[2]
PARAMS = load_params(ROOT / "params.yaml")


class ThreadInsteadOfProcess:
    """Delivers as the courier's process does, without the seconds that a process takes to import MLflow."""

    def __init__(self, journal, home, experiment):
        pipe, end = os.pipe()
        self.stdin = os.fdopen(end, "wb", buffering=0)
        self._thread = threading.Thread(target=self._deliver, args=(journal, home, experiment, pipe))
        self._thread.start()

    def _deliver(self, journal, home, experiment, pipe):
        courier.deliver(journal, home, experiment, pipe)
        os.close(pipe)

    def wait(self, seconds):
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise subprocess.TimeoutExpired("courier", seconds)
        return 0


@pytest.fixture
def paths(checkout, monkeypatch):
    """A checkout of its own, whose courier is a thread."""
    monkeypatch.setattr(courier, "start", ThreadInsteadOfProcess)
    return checkout


@pytest.fixture
def checkout(tmp_path, monkeypatch, template_store):
    """A checkout of its own, with a store that has its tables already: making them takes seconds."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    paths = Paths(tmp_path)
    paths.tracking.mkdir()
    (paths.tracking / "mlflow.db").write_bytes(template_store)
    return paths


@pytest.fixture(scope="session")
def template_store(tmp_path_factory):
    home = tmp_path_factory.mktemp("store")
    connect(home, "template")
    return (home / "mlflow.db").read_bytes()


def stored(paths):
    """All runs of the store, oldest first."""
    client, experiment = connect(paths.tracking, PARAMS.tracking.experiment)
    return client, client.search_runs([experiment], order_by=["attributes.start_time"])


def wait_for(condition, seconds=60.0):
    """Until the condition holds; an error after too long."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def by_stage(paths):
    return {run.data.tags["stage"]: run for run in stored(paths)[1]}


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


def test_thousands_of_metrics_arrive_whole(paths):
    with stage_run("sft", PARAMS, paths) as run:
        for step in range(2500):
            run.log_metrics({"loss": step}, step=step)
    client, _ = stored(paths)
    run_id = by_stage(paths)["sft"].info.run_id
    assert [m.value for m in client.get_metric_history(run_id, "loss")] == list(range(2500))


def test_a_metric_that_is_no_number_is_refused(paths):
    with pytest.raises(TypeError, match="loss"), stage_run("sft", PARAMS, paths) as run:
        run.log_metrics({"loss": "low"})


def test_stages_of_one_execution_share_a_parent_that_carries_their_results(paths):
    with stage_run("pretrain", PARAMS, paths, key="a") as run:
        run.log_metrics({"val_loss": 2.0})
    with stage_run("evaluate", PARAMS, paths, key="a") as run:
        run.log_metrics({"sft": {"heldout": {"attribute_recall": 0.9}}})
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
    assert figures["hours"] == pytest.approx(figures["pretrain.hours"] + figures["evaluate.hours"])
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


def test_a_finished_run_leaves_no_journal(paths):
    with stage_run("sft", PARAMS, paths) as run:
        assert list(paths.journal.glob("*.jsonl"))
        run.log_image(Image.new("RGB", (4, 4)), "dot")
    assert list(paths.journal.iterdir()) == []


def test_a_dead_server_costs_seconds_and_loses_nothing(paths, monkeypatch, capsys, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{probe.getsockname()[1]}")
    report = tmp_path / "report.md"
    report.write_text("first", encoding="utf-8")
    started = time.monotonic()
    with stage_run("sft", PARAMS, paths) as run:
        for step in range(1500):
            run.log_metrics({"loss": step}, step=step)
        run.log_artifact(report)
        run.log_image(Image.new("RGB", (4, 4)), "dot")
    assert time.monotonic() - started < 5
    report.write_text("second", encoding="utf-8")
    (journal,) = paths.journal.glob("*.jsonl")
    assert capsys.readouterr().err.count(str(journal)) == 2  # once when it fails, once at the end
    records = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    assert records[0]["format"] == 1
    assert not any("delivered" in record for record in records)
    operations = [record["op"] for record in records if "op" in record]
    assert operations.count("run") == operations.count("end") == 2
    values = [m[1] for r in records if r.get("op") == "metrics" for m in r["metrics"] if m[0] == "loss"]
    assert values == list(range(1500))
    (copy,) = [record["file"] for record in records if record.get("op") == "artifact"]
    assert Path(copy).read_text(encoding="utf-8") == "first"


def test_what_waited_is_sent_when_the_store_comes_back(paths, monkeypatch, capsys):
    def away(*_):
        raise ConnectionError("away")

    monkeypatch.setattr(delivery, "connect", away)
    with stage_run("sft", PARAMS, paths) as run:
        run.log_metrics({"loss": 3.0}, step=1)
        wait_for(lambda: "going on, everything is kept" in capsys.readouterr().err)
        monkeypatch.setattr(delivery, "connect", connect)
    found = by_stage(paths)
    assert found["sft"].data.metrics["loss"] == 3.0
    assert found["sft"].info.status == "FINISHED"
    assert list(paths.journal.iterdir()) == []


def test_a_store_that_does_not_answer_does_not_hold_up_the_stage(paths, monkeypatch):
    answers = threading.Event()

    def slow(*place):
        assert answers.wait(60)
        return connect(*place)

    monkeypatch.setattr(delivery, "connect", slow)
    with stage_run("sft", PARAMS, paths) as run:
        for step in range(10_000):  # as many pokes as would fill a pipe, and more metrics than a batch
            run.log_metrics({"loss": step}, step=step)
            run.flush()
        answers.set()  # were the stage held up by the store, this line would not be reached
    assert by_stage(paths)["sft"].data.metrics["loss"] == 9999


def test_a_store_that_never_answers_is_left_to_the_courier(paths, monkeypatch, capsys):
    answers = threading.Event()
    monkeypatch.setattr(courier, "PATIENCE", 0.1)
    monkeypatch.setattr(delivery, "connect", lambda *place: answers.wait(60) and connect(*place))
    with stage_run("sft", PARAMS, paths) as run:
        run.log_metrics({"loss": 1.0})
    (journal,) = paths.journal.glob("*.jsonl")
    assert f"still sent, from {journal}" in capsys.readouterr().err
    answers.set()
    wait_for(lambda: not journal.exists())
    assert by_stage(paths)["sft"].info.status == "FINISHED"


def test_a_killed_stage_is_delivered_by_its_courier_and_ends_as_killed(checkout):
    script = (
        "import os, sys; from pathlib import Path; from minivlm.config import load_params;"
        "from minivlm.paths import Paths; from minivlm.tracking import stage_run\n"
        "with stage_run('sft', load_params(Path(sys.argv[1])), Paths(Path(sys.argv[2]))) as run:\n"
        "    run.log_metrics({'loss': 1.5}, step=3)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", script, str(ROOT / "params.yaml"), str(checkout.root)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    wait_for(lambda: not list(checkout.journal.glob("*.jsonl")))
    found = by_stage(checkout)
    assert found["sft"].data.metrics["loss"] == 1.5
    assert found["sft"].info.status == found["reproduction"].info.status == "KILLED"


def test_a_courier_that_fails_leaves_the_journal_and_says_so(checkout, monkeypatch, capfd):
    monkeypatch.setattr(courier, "start", lambda *_: subprocess.Popen(["false"], stdin=subprocess.PIPE))
    with stage_run("sft", PARAMS, checkout) as run:
        run.log_metrics({"loss": 1.0}, step=1)
        run.flush()
    (journal,) = checkout.journal.glob("*.jsonl")
    assert f"MLflow lacks part of this run; it is kept in {journal}" in capfd.readouterr().err


def test_a_line_that_is_half_written_waits_for_its_rest(tmp_path):
    journal = Journal.create(tmp_path, "sft")
    reader = JournalReader(journal.path)
    journal.append({"op": "tags", "tags": {"名": "值"}})
    assert [record["op"] for record in reader.read()] == ["tags"]
    line = json.dumps({"seq": 2, "op": "end", "name": "结束"}, ensure_ascii=False).encode() + b"\n"
    for part in (line[:-8], line[-8:]):
        with journal.path.open("ab") as stream:
            stream.write(part)
        read = reader.read()
    assert read == [{"seq": 2, "op": "end", "name": "结束"}]
    assert reader.read() == []


def test_what_mlflow_refuses_does_not_hold_up_the_rest(paths, capsys):
    with stage_run("sft", PARAMS, paths) as run:
        run.log_params({"width": 1})
        run.log_params({"width": 2})  # a parameter keeps its value
        run.log_metrics({"loss": 1.0})
    assert "MLflow refuses params" in capsys.readouterr().err
    assert by_stage(paths)["sft"].data.metrics["loss"] == 1.0


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


def test_the_dirty_flag_ignores_what_the_pipeline_writes(tmp_path):
    def git(*arguments):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    git("config", "user.email", "test@example.com")
    git("config", "user.name", "test")
    (tmp_path / "code.py").write_text("1", encoding="utf-8")
    git("add", ".")
    git("commit", "-qm", "first")
    (tmp_path / "dvc.lock").write_text("changed", encoding="utf-8")
    write_json(tmp_path / "reports" / "sft" / "metrics.json", {})
    assert facts.git_dirty(tmp_path) is False
    (tmp_path / "new.py").write_text("2", encoding="utf-8")
    assert facts.git_dirty(tmp_path) is True
    assert len(facts.git_commit(tmp_path) or "") == 40


def test_outside_git_there_is_no_commit(tmp_path):
    assert facts.git_tags(tmp_path) == {}


def test_inputs_are_hashed_by_name_and_code_as_one(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  sft:\n    cmd: x\n    deps: [src/a.py, src/b.py, artifacts/base, artifacts/gone]\n",
        encoding="utf-8",
    )
    (tmp_path / "dvc.lock").write_text(
        "stages:\n  base:\n    outs:\n    - {path: artifacts/base, hash: md5, md5: abc.dir}\n", encoding="utf-8"
    )
    for name in ("src/a.py", "src/b.py", "artifacts/base/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    tags = facts.input_tags(tmp_path, "sft")
    assert set(tags) == {"input.base", "input.code"}
    assert tags["input.base"].startswith("sha256:")
    (tmp_path / "src/b.py").write_text("changed", encoding="utf-8")
    assert facts.input_tags(tmp_path, "sft")["input.code"] != tags["input.code"]
    monkeypatch.setattr(facts, "_HASHED_BYTES", 0)
    assert facts.input_tags(tmp_path, "sft")["input.base"] == "md5:abc.dir"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["/venv/bin/python", "/venv/bin/dvc", "repro"], True),
        (["python3", "-m", "dvc", "exp", "run"], True),
        (["dvc", "repro"], True),
        (["vim", "notes", "dvc"], False),
        (["python", "-m", "pipelines.sft"], False),
        ([], False),
    ],
)
def test_a_dvc_process_is_told_by_its_command_line(command, expected):
    assert _is_dvc(command) is expected


def test_the_key_names_the_nearest_dvc_process_and_the_experiment(monkeypatch):
    class Process:
        def __init__(self, pid, command):
            self.pid, self._command = pid, command

        def cmdline(self):
            return self._command

        def create_time(self):
            return 12.5

    ancestors = [Process(3, ["sh"]), Process(2, ["python", "-m", "dvc"]), Process(1, ["dvc", "queue"])]
    monkeypatch.setattr(psutil.Process, "parents", lambda self: ancestors)
    monkeypatch.setenv("DVC_EXP_NAME", "faster")
    assert execution_key() == "2:12.50:faster"
    ancestors[1:] = []
    assert execution_key() is None


def test_an_experiment_names_its_reproduction(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "slow-owl")
    assert join(tmp_path, "key", "0123456789").name == "slow-owl"
    again = join(tmp_path, "key", "0123456789")
    assert (again.name, again.is_new) == ("slow-owl", False)
    monkeypatch.delenv("DVC_EXP_NAME")
    assert join(tmp_path, None, "0123456789").name == "0123456 1"
    assert join(tmp_path, None, "0123456789").name == "0123456 2"


def test_the_local_store_is_the_same_from_every_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_uri(Path("mlruns")) == f"sqlite:///{tmp_path}/mlruns/mlflow.db"


def test_the_lock_is_released_when_its_block_ends(tmp_path):
    for _ in range(2):
        with exclusive(tmp_path / "lock"):
            pass


def test_a_failure_before_the_stage_starts_ends_its_runs(paths, monkeypatch):
    def fail(root, stage):
        raise OSError("disk")

    monkeypatch.setattr(stages.facts, "input_tags", fail)
    with pytest.raises(OSError, match="disk"), stage_run("sft", PARAMS, paths):
        pytest.fail("the stage must not run")
    assert by_stage(paths)["sft"].info.status == "FAILED"
