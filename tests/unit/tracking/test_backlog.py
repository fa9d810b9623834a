"""Journals that were left are delivered in order, once, and override nothing that came later."""

import json
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from minivlm.locks import exclusive
from minivlm.tracking import courier, delivery, stage_run
from minivlm.tracking.journal import JOURNAL_TAG, Journal, JournalReader
from minivlm.tracking.sender import Sender
from minivlm.tracking.store import connect
from tests.unit.tracking.toys import (
    PARAMS,
    LeftStage,
    ThreadInsteadOfProcess,
    by_stage,
    calls_that_may_be_cut,
    cutting,
    stored,
    sync,
)


def points(paths, database="mlflow.db"):
    """How often each (run's own id, metric, step) of a stage is in the table itself; its reproduction's are there
    once."""
    query = (
        "select tags.value, metrics.key, step from metrics join tags using (run_uuid) join runs using (run_uuid) "
        "where tags.key = 'minivlm.run' and lifecycle_stage = 'active'"
    )
    with closing(sqlite3.connect(paths.tracking / database)) as store:
        counted = Counter(store.execute(query))
    of_reproductions = {key: counted.pop(key) for key in list(counted) if key[1].startswith("sft.")}
    assert set(of_reproductions.values()) <= {1}
    return counted


def loss_once(last, run="r" * 32):
    return {(run, "loss", step): 1 for step in range(1, last + 1)}


def test_a_killed_stage_is_delivered_once_and_ends_as_killed_when_it_was_last_heard_of(alone):
    path = LeftStage(alone).tell(1, 30).die()
    last_written = path.stat().st_mtime_ns // 1_000_000
    left = sync(alone)
    assert left.line() == "delivered to MLflow what was left: 1 journal (sft), 60 metrics"
    assert points(alone) == loss_once(30)
    for run in by_stage(alone).values():
        assert (run.info.status, run.info.end_time) == ("KILLED", last_written)
    assert list(alone.journal.iterdir()) == []
    assert sync(alone).line() == "no journal waits for MLflow"


def test_metrics_of_a_stage_and_of_its_reproduction_are_sent_in_batches(alone, monkeypatch):
    """They are told in turn, one by one."""
    LeftStage(alone).tell(1, 700).end().die()
    batches, send = [], Sender._send_metrics
    monkeypatch.setattr(Sender, "_send_metrics", lambda *told: (batches.append(len(told[2])), send(*told)))
    sync(alone)
    assert batches == [700, 700]
    assert points(alone) == loss_once(700)


def test_a_stage_that_ended_while_the_server_was_away_keeps_its_status(alone):
    LeftStage(alone).tell(1, 3).end("FAILED").die()
    sync(alone)
    assert {run.info.status for run in by_stage(alone).values()} == {"FAILED"}


def test_a_stage_that_was_killed_before_its_run_began_is_no_run(alone):
    LeftStage(alone, run="").die()
    sync(alone)
    assert {name: run.info.status for name, run in by_stage(alone).items()} == {"reproduction": "KILLED"}


def test_a_run_that_was_gone_on_with_stays_though_nothing_more_was_told(alone):
    LeftStage(alone).tell(1, 3).die()
    LeftStage(alone, parent="q" * 32, goes_on="r" * 32).die()
    sync(alone)
    assert by_stage(alone)["sft"].info.status == "KILLED"
    assert points(alone) == loss_once(3)


@pytest.mark.parametrize("late", [False, True])
def test_a_run_that_was_killed_while_empty_is_gone_on_with(alone, late):
    path = LeftStage(alone).die()
    if not late:
        sync(alone)
    else:
        path.rename(path.with_suffix(".hidden"))
    LeftStage(alone, parent="q" * 32, goes_on="r" * 32).tell(1, 3).end().die()
    sync(alone)
    if late:
        path.with_suffix(".hidden").rename(path)
        sync(alone)
    assert by_stage(alone)["sft"].info.status == "FINISHED"
    assert points(alone) == loss_once(3)


def test_journals_are_delivered_in_the_order_in_which_they_were_begun(alone):
    first = LeftStage(alone, run="a" * 32).end().die()
    LeftStage(alone, run="b" * 32, stage="base").end().die()
    first.rename(first.with_name("zzz.jsonl"))
    assert sync(alone).delivered == ["sft", "base"]


def gone_on(paths):
    """What a killed stage has left, and the one that went on with its run; the older journal."""
    killed = LeftStage(paths, tags={"input": "old", "only": "old"})
    killed.run.set_tags({"version": "old", "told": "old"})
    first = killed.tell(1, 20).die()
    second = LeftStage(paths, parent="q" * 32, tags={"input": "new"}, goes_on="r" * 32)
    second.run.set_tags({"version": "new"})
    second.tell(1, 40).end().die()
    return first


@pytest.mark.parametrize("late", [False, True], ids=["in order", "the older one late"])
def test_a_run_that_was_gone_on_with_stays_as_the_later_journal_ended_it(alone, late):
    first = gone_on(alone)
    hidden = first.with_suffix(".hidden")
    if late:
        first.rename(hidden)
        sync(alone)
        hidden.rename(first)
    assert not sync(alone).waiting
    assert {key: n for key, n in points(alone).items() if key[1] == "loss"} == loss_once(40)
    runs = {run.data.tags["minivlm.run"]: run for run in stored(alone)[1]}
    assert set(runs) == {"r" * 32, "p" * 32, "q" * 32}
    assert runs["r" * 32].info.status == "FINISHED"
    tags = runs["r" * 32].data.tags
    assert [tags[name] for name in ("input", "only", "version", "told")] == ["new", "old", "new", "old"]
    assert tags["mlflow.parentRunId"] == runs["q" * 32].info.run_id
    assert runs["p" * 32].info.status == "KILLED"


def test_the_journal_of_a_process_that_lives_is_left_alone(alone):
    stage = LeftStage(alone).tell(1, 5)
    follower = Journal.follow(stage.journal.path)
    assert follower is not None
    for holder in (stage.journal, follower):  # a stage, and a courier that has outlived it
        left = sync(alone)
        assert left.line() == "1 journal of a stage that runs, left alone" and left.news() == ""
        assert stored(alone)[1] == []
        holder.close()
    assert sync(alone).delivered == ["sft"]


@pytest.mark.parametrize("tail", [b'{"seq": 9, "op": "metr', b"\0" * 500, b'{"delivered": 99', b"[1]\n"])
def test_a_last_line_that_a_power_cut_has_torn_is_no_error(alone, tail):
    path = LeftStage(alone).tell(1, 5).die()
    with path.open("ab") as stream:
        stream.write(tail)
    assert not sync(alone).waiting
    assert points(alone) == loss_once(5)
    assert {run.info.status for run in by_stage(alone).values()} == {"KILLED"}


@pytest.mark.parametrize("content", [b"", b"\0\0\0"])
def test_a_journal_without_anything_in_it_goes_unsaid(alone, content):
    alone.journal.mkdir(parents=True)
    (alone.journal / "x.jsonl").write_bytes(content)
    assert sync(alone).line() == "no journal waits for MLflow"
    assert list(alone.journal.iterdir()) == []


def test_a_journal_of_another_version_is_kept(alone):
    path = LeftStage(alone).die()
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    left = sync(alone)
    assert left.waiting == ["sft"] and "another version" in left.line()
    assert path.exists()


DATASET = {
    "name": "sft.parquet",
    "digest": "0" * 36,
    "context": "training",
    "tags": {"sha256": "0" * 64},
    "source": '{"uri": "artifacts/download/sft.parquet"}',
    "schema": "{}",
    "profile": "{}",
}


@pytest.mark.parametrize("number", calls_that_may_be_cut(26))
def test_a_delivery_that_breaks_off_anywhere_is_gone_on_with_and_doubles_nothing(alone, monkeypatch, number):
    stage = LeftStage(alone)
    stage.run.log_params({"width": 1})
    stage.tell(1, 5)
    stage.run.log_image(picture(), "dot")
    stage.run.log_table({"n": [1, 2]}, "table.json")
    stage.run.log_inputs([DATASET])
    stage.parent.log_reused("note", {"base": "sha256:0"})
    stage.end().die()
    cut = {"left": number}
    monkeypatch.setattr(delivery, "connect", lambda *place: cutting(cut, *place))
    assert sync(alone).waiting == ["sft"]
    monkeypatch.setattr(delivery, "connect", connect)
    assert sync(alone).delivered == ["sft"]
    assert points(alone) == loss_once(5)
    client, runs = stored(alone)
    assert sorted(run.info.status for run in runs) == ["FINISHED", "FINISHED"]
    for run in runs:
        pictures = [item.path for item in client.list_artifacts(run.info.run_id, "images")]
        assert len(pictures) == 2 and "mlflow.loggedImages" in run.data.tags  # with its small twin
        assert run.data.tags["mlflow.loggedArtifacts"] == '[{"path": "table.json", "type": "table"}]'
        table = json.loads(Path(client.download_artifacts(run.info.run_id, "table.json")).read_text("utf-8"))
        assert table["data"] == [[1], [2]]
    found = {run.data.tags["stage"]: run for run in runs}
    assert [each.dataset.name for each in found["sft"].inputs.dataset_inputs] == ["sft.parquet"]
    assert found["reproduction"].data.tags["reused.base"] == "made elsewhere"


def picture():
    return Image.new("RGB", (4, 4))


def test_a_store_that_was_made_anew_gets_everything_again(alone, template_store, monkeypatch):
    LeftStage(alone).tell(1, 5).end().die()
    monkeypatch.setattr(Sender, "_end", lambda *_: 1 / 0)
    assert sync(alone).waiting
    monkeypatch.undo()
    (alone.tracking / "mlflow.db").write_bytes(template_store)
    assert sync(alone).delivered == ["sft"]
    assert points(alone) == loss_once(5)


def test_a_store_that_loses_its_runs_under_a_courier_gets_everything_again(alone, capsys):
    """Without a word of single points that it refuses: they are in the journal, and so is the run's beginning."""
    stage = LeftStage(alone).tell(1, 3)
    journal, reader = Journal.follow(stage.journal.path), JournalReader(stage.journal.path)
    sending = delivery.Delivery(journal, alone.tracking, PARAMS.tracking.experiment, "")

    def bring():
        for operation in reader.read():
            sending.take(operation)
        assert sending.flush(now=True), sending.failure

    bring()
    with closing(sqlite3.connect(alone.tracking / "mlflow.db")) as store, store:
        for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
            store.execute(f"delete from {table}")
    stage.tell(4, 8).end()
    bring()
    journal.close()
    assert points(alone) == loss_once(8)
    assert {run.info.status for run in stored(alone)[1]} == {"FINISHED"}
    assert "refuses" not in capsys.readouterr().err


def test_of_two_at_once_one_delivers(alone):
    for name in "abcd":
        LeftStage(alone, run=name * 32).tell(1, 200).end().die()
    found = []
    threads = [threading.Thread(target=lambda: found.append(sync(alone, wait=True))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(left.delivered) for left in found) == [0, 4]
    assert points(alone) == {key: 1 for name in "abcd" for key in loss_once(200, name * 32)}


def test_who_does_not_wait_leaves_it_to_the_one_that_delivers(alone):
    path = LeftStage(alone).die()
    with exclusive(alone.tracking / ".backlog.lock"):
        assert sync(alone).line() == "no journal waits for MLflow"
    assert path.exists()


def test_a_journal_goes_to_the_store_that_its_run_was_meant_for(alone, template_store):
    for name in ("team", "other"):
        (alone.tracking / f"{name}.db").write_bytes(template_store)
    team, other = (f"sqlite:///{alone.tracking}/{name}.db" for name in ("team", "other"))
    LeftStage(alone, server=team).tell(1, 3).end().die()
    LeftStage(alone, run="b" * 32).tell(1, 4).end().die()
    assert not sync(alone).waiting
    assert points(alone, "team.db") == loss_once(3)
    assert points(alone) == loss_once(4, "b" * 32)
    LeftStage(alone, server=team).tell(1, 5).end().die()
    assert not sync(alone, to=other).waiting
    assert points(alone, "other.db") == loss_once(5)


def test_what_one_server_does_not_take_waits_in_order_and_holds_up_no_other(alone):
    for name in "ab":
        LeftStage(alone, run=name * 32, server="http://127.0.0.1:9").end().die()
    LeftStage(alone, run="c" * 32, stage="base").end().die()
    left = sync(alone)
    assert (left.waiting, left.delivered) == (["sft", "sft"], ["base"])
    assert "still waiting for MLflow: 2 journals (sft, sft) in " in left.line()
    assert "127.0.0.1:9" in left.line() and "\n" not in left.line()


def test_a_journal_that_the_store_cannot_take_holds_up_no_other(alone, monkeypatch):
    first = LeftStage(alone).tell(1, 3).end().die()
    LeftStage(alone, run="b" * 32, stage="base").end().die()
    monkeypatch.setattr(Sender, "_send_metrics", lambda *_: 1 / 0)
    left = sync(alone)
    assert (left.waiting, left.delivered) == (["sft"], ["base"])
    assert first.exists()


def test_the_next_stage_delivers_what_was_left_and_says_so(alone, monkeypatch, capsys):
    LeftStage(alone).tell(1, 7).die()
    capsys.readouterr()
    monkeypatch.setattr(courier, "start", ThreadInsteadOfProcess)
    with stage_run("base", PARAMS, alone):
        pass
    assert capsys.readouterr().err == "delivered to MLflow what was left: 1 journal (sft), 14 metrics\n"
    assert by_stage(alone)["sft"].info.status == "KILLED"
    assert by_stage(alone)["base"].info.status == "FINISHED"
    assert list(alone.journal.iterdir()) == []


def test_a_run_that_a_late_answer_has_made_twice_is_there_once(alone):
    client, _ = stored(alone)
    stage = LeftStage(alone).tell(1, 3)
    sync_of_living(alone, stage)
    experiment = client.get_experiment_by_name(PARAMS.tracking.experiment).experiment_id
    for _ in range(2):
        client.create_run(experiment, tags={"minivlm.run": "r" * 32, "stage": "sft"})
    (run,) = [run for run in stored(alone)[1] if JOURNAL_TAG in run.data.tags and run.data.tags["stage"] == "sft"]
    stage.end().die()
    sync(alone)
    (found,) = [run for run in stored(alone)[1] if run.data.tags["stage"] == "sft"]
    assert found.info.run_id == run.info.run_id and found.info.status == "FINISHED"


def sync_of_living(paths, stage):
    """Deliver a copy of what the stage has told so far, so that its runs are there."""
    follower, reader = Journal.follow(stage.journal.path), JournalReader(stage.journal.path)
    sending = delivery.Delivery(follower, paths.tracking, PARAMS.tracking.experiment, "")
    for operation in reader.read():
        sending.take(operation)
    assert sending.flush(now=True)
    reader.close()
    follower.close()


def test_a_run_that_was_deleted_in_the_page_takes_nothing_more_until_it_is_gone_on_with(alone, capsys):
    stage = LeftStage(alone).tell(1, 3)
    sync_of_living(alone, stage)
    client, _ = stored(alone)
    client.delete_run(by_stage(alone)["sft"].info.run_id)
    stage.tell(4, 6).end().die()
    assert not sync(alone).waiting
    assert "sft" not in by_stage(alone)
    LeftStage(alone, goes_on="r" * 32).tell(1, 8).end().die()
    assert not sync(alone).waiting
    assert by_stage(alone)["sft"].info.status == "FINISHED"
    assert points(alone) == loss_once(8)
