"""The file that everything is in before MLflow hears of it."""

import json

from minivlm.tracking.journal import Journal, JournalReader


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
