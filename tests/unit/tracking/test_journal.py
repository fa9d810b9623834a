"""The file that everything is in before MLflow hears of it."""

import json
from pathlib import Path

from minivlm.tracking.journal import Journal, JournalReader, OpenRuns
from minivlm.tracking.store import local_uri, server_name, uri_of


def test_a_line_that_is_half_written_waits_for_its_rest(tmp_path):
    journal = Journal.create(tmp_path, "sft")
    reader = JournalReader(journal.path)
    journal.append({"op": "tags", "run": "a", "tags": {"名": "值"}})
    assert [record["op"] for record in reader.read()] == ["tags"]
    line = json.dumps({"seq": 2, "op": "end", "run": "a", "name": "结束"}, ensure_ascii=False).encode() + b"\n"
    for part in (line[:-8], line[-8:]):
        with journal.path.open("ab") as stream:
            stream.write(part)
        read = reader.read()
    assert read == [{"seq": 2, "op": "end", "run": "a", "name": "结束"}]
    assert reader.read() == []


def test_a_line_that_is_no_json_is_skipped(tmp_path):
    journal = Journal.create(tmp_path, "sft")
    journal.append({"op": "tags", "run": "a"})
    with journal.path.open("ab") as stream:
        stream.write(b'{"seq": 2, "op": "me\n\xff\0\n[1, 2]\n7\n')
    journal.append({"op": "end", "run": "a"})
    assert [record["op"] for record in JournalReader(journal.path).read()] == ["tags", "end"]


def test_what_no_text_can_hold_is_written_as_far_as_it_can_be(tmp_path):
    journal = Journal.create(tmp_path, "sft")
    journal.append({"op": "tags", "run": "a", "tags": {"error": "bilder/\udcff.png: 没有"}})
    [read] = JournalReader(journal.path).read()
    assert read["tags"] == {"error": "bilder/?.png: 没有"}


def test_the_end_of_runs_is_not_glued_to_a_line_that_a_crash_has_cut(tmp_path):
    journal = Journal.create(tmp_path, "sft")
    journal.append({"op": "run", "run": "a"})
    with journal.path.open("ab") as stream:
        stream.write(b'{"seq": 2, "op": "me')
    reader, runs = JournalReader(journal.path), OpenRuns()
    for operation in reader.read():
        runs.see(operation)
    journal.end_runs(runs, 5)
    written = [(each["op"], each["run"]) for each in JournalReader(journal.path).read()]
    assert written == [("run", "a"), ("end", "a")]


def test_a_journal_that_somebody_writes_to_cannot_be_seized(tmp_path):
    journal = Journal.create(tmp_path, "sft")
    follower = Journal.follow(journal.path)
    assert follower is not None
    for holder in (journal, follower):
        assert Journal.seize(journal.path) is None
        holder.close()
    seized = Journal.seize(journal.path)
    assert seized is not None
    assert Journal.seize(journal.path) is None and Journal.follow(journal.path) is None
    seized.discard()
    assert Journal.seize(journal.path) is None and list(tmp_path.iterdir()) == []
    seized.close()


def test_a_journal_names_its_server_without_user_and_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@team.example/mlflow?x=1")
    assert server_name() == "https://team.example/mlflow?x=1"
    assert uri_of(server_name(), Path("mlruns")) == "https://me:secret@team.example/mlflow?x=1"
    assert uri_of("http://other", Path("mlruns")) == "http://other"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert server_name() == "" and uri_of("", Path("/a")) == local_uri(Path("/a"))
