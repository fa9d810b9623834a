"""What a dead, slow or refusing store costs, and what a killed stage leaves: seconds, and nothing lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from PIL import Image

from minivlm.errors import StoppedError
from minivlm.tracking import courier, delivery, stage_run
from minivlm.tracking.backlog import deliver_left
from minivlm.tracking.journal import Journal
from minivlm.tracking.reproduction import Reproduction
from minivlm.tracking.store import connect
from tests.unit.tracking.toys import PARAMS, ROOT, LeftStage, by_stage, stored, wait_for


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


@pytest.mark.parametrize("stop", [StoppedError("x"), KeyboardInterrupt(), None])
def test_a_store_that_never_answers_is_left_to_the_courier(paths, monkeypatch, capsys, stop):
    """Who asks a stage to stop does not wait long for it: `docker stop` kills after 10 s."""
    answers = threading.Event()
    monkeypatch.setattr(courier, "PATIENCE", 60.0 if stop else 0.1)
    monkeypatch.setattr(courier, "PATIENCE_STOPPED", 0.1 if stop else 60.0)
    monkeypatch.setattr(delivery, "connect", lambda *place: answers.wait(60) and connect(*place))
    with pytest.raises(type(stop)) if stop else nullcontext(), stage_run("sft", PARAMS, paths) as run:
        run.log_metrics({"loss": 1.0})
        if stop:
            raise stop
    assert not answers.is_set()
    (journal,) = paths.journal.glob("*.jsonl")
    assert f"still sent, from {journal}" in capsys.readouterr().err
    answers.set()
    wait_for(lambda: not journal.exists())
    assert by_stage(paths)["sft"].info.status == ("KILLED" if stop else "FINISHED")


@pytest.mark.parametrize("address", ["http://me:secret@[bad:5000", "http://me:secret@127.0.0.1:9/x", "http://a b"])
def test_an_address_that_leads_nowhere_costs_a_warning_without_its_password(checkout, monkeypatch, capfd, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with stage_run("sft", PARAMS, checkout) as run:
        run.log_metrics({"loss": 1.0}, step=1)
    (journal,) = checkout.journal.glob("*.jsonl")
    said = capfd.readouterr().err + journal.read_text(encoding="utf-8")
    assert "warning: MLflow: " in said and "secret" not in said


def test_what_mlflow_says_of_an_address_is_told_without_its_password():
    said = "API request to http://me:sec@ret@h:5/api failed: http://h:5/x@y, sqlite:///a@b, https://u:p@other."
    told = "API request to http://h:5/api failed: http://h:5/x@y, sqlite:///a@b, https://other."
    assert delivery.one_line(ValueError(said)) == told


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


def test_what_mlflow_refuses_does_not_hold_up_the_rest(paths, capsys):
    with stage_run("sft", PARAMS, paths) as run:
        run.log_params({"width": 1})
        run.log_params({"width": 2})  # a parameter keeps its value
        run.log_metrics({"loss": 1.0})
    assert "MLflow refuses params" in capsys.readouterr().err
    assert by_stage(paths)["sft"].data.metrics["loss"] == 1.0


def test_thousands_of_metrics_arrive_whole(paths):
    with stage_run("sft", PARAMS, paths) as run:
        for step in range(2500):
            run.log_metrics({"loss": step}, step=step)
    client, _ = stored(paths)
    run_id = by_stage(paths)["sft"].info.run_id
    assert [m.value for m in client.get_metric_history(run_id, "loss")] == list(range(2500))


def test_of_a_batch_only_the_metric_that_mlflow_refuses_is_missing(paths, capsys):
    with stage_run("sft", PARAMS, paths) as run:
        for step in range(1, 6):
            run.log_metrics({"loss": step, "lo$$": step} if step == 3 else {"loss": step}, step=step)
    client, _ = stored(paths)
    found = by_stage(paths)["sft"]
    assert [m.step for m in client.get_metric_history(found.info.run_id, "loss")] == [1, 2, 3, 4, 5]
    assert "lo$$" not in found.data.metrics
    assert capsys.readouterr().err.count("MLflow refuses metrics") == 1


def test_numbers_that_are_none_are_there_once_though_they_are_sent_again(paths):
    with stage_run("sft", PARAMS, paths) as run:
        for _ in range(2):
            run.log_metrics({"loss": float("nan"), "peak": float("inf")}, step=1, time_ms=1_767_225_600_000)
            run.flush()
    client, _ = stored(paths)
    run_id = by_stage(paths)["sft"].info.run_id
    assert [len(client.get_metric_history(run_id, key)) for key in ("loss", "peak")] == [1, 1]


def test_a_file_of_the_journal_that_is_gone_does_not_hold_up_the_rest(alone, tmp_path, monkeypatch, capsys):
    report = tmp_path / "report.md"
    report.write_text("x", encoding="utf-8")
    stage = LeftStage(alone)
    stage.run.log_artifact(report)
    stage.run.log_image(Image.new("RGB", (4, 4)), "dot")
    for number, file in enumerate(sorted(path for path in stage.journal.files.rglob("*") if path.is_file())):
        file.write_bytes(b"") if number else file.unlink()
    stage.tell(1, 3).end().die()
    assert deliver_left(alone.journal, alone.tracking, PARAMS.tracking.experiment).delivered == ["sft"]
    assert by_stage(alone)["sft"].data.metrics["loss"] == pytest.approx(1 / 3)
    errors = capsys.readouterr().err
    assert "MLflow refuses artifact" in errors and "MLflow refuses image" in errors


def test_a_full_disk_costs_part_of_the_tracking_and_not_the_run(paths, capsys, tmp_path):
    report = tmp_path / "report.md"
    report.write_text("x", encoding="utf-8")
    with stage_run("sft", PARAMS, paths) as run:
        run.log_metrics({"loss": 1.0}, step=1)
        journal = run._courier.journal
        whole = journal._stream
        journal._stream = os.open("/dev/full", os.O_WRONLY)
        for step in range(2, 5):
            run.log_metrics({"loss": 1.0}, step=step)
        os.close(journal._stream)
        journal._stream = whole
        run.log_metrics({"loss": 1.0}, step=5)
    assert "No space left on device" in (errors := capsys.readouterr().err) and errors.count("warning:") == 1
    client, _ = stored(paths)
    found = by_stage(paths)["sft"]
    assert [m.step for m in client.get_metric_history(found.info.run_id, "loss")] == [1, 5]
    assert found.info.status == "FINISHED"


def test_copies_that_find_no_room_cost_no_run(paths, capsys, monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "keep", full)
    monkeypatch.setattr(Reproduction, "add", full)
    with stage_run("sft", PARAMS, paths) as run:
        run.log_artifact(tmp_path)
        run.log_image(Image.new("RGB", (4, 4)), "dot")
        run.log_table({"picture": [Image.new("RGB", (4, 4))]}, "table.json")
        run.log_metrics({"loss": 1.0})
    assert capsys.readouterr().err.count("No space left on device") == 2
    found = by_stage(paths)["sft"]
    assert (found.info.status, found.data.metrics["loss"]) == ("FINISHED", 1.0)


def test_a_stage_without_a_courier_goes_on_and_leaves_its_journal(alone, capsys):
    with stage_run("sft", PARAMS, alone) as run:
        run.log_metrics({"loss": 1.0}, step=1)
        run.flush()
    (journal,) = alone.journal.glob("*.jsonl")
    assert f"it is kept in {journal}, and `minivlm sync`" in capsys.readouterr().err
    assert deliver_left(alone.journal, alone.tracking, "").points > 0
    assert by_stage(alone)["sft"].info.status == "FINISHED"


def test_a_courier_finds_nothing_to_do_where_the_journal_is_gone(tmp_path):
    pipe, end = os.pipe()
    os.close(end)
    assert courier.deliver(tmp_path / "gone.jsonl", tmp_path, "x", pipe)
    assert list(tmp_path.iterdir()) == []
    os.close(pipe)
