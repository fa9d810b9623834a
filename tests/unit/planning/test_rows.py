"""Rows and bytes by split, from whatever is there."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minivlm.config import parse_params
from minivlm.data.scenes.build import build_scenes
from minivlm.errors import UserError
from minivlm.planning.data import download
from minivlm.planning.figures import Figure
from minivlm.planning.present import Present
from minivlm.planning.rows import accepted_rows, count_lines, missing_bytes, source_rows, splits

SHA = "0" * 64


def write_rows(path, count):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"row": pa.array(range(count), pa.int64())}), path)


def changed(params, **download_section):
    values = params.model_dump(by_alias=True)
    values["download"] |= download_section
    return parse_params(values)


def test_the_drawn_world_has_the_rows_that_it_writes(with_profile, tmp_path):
    params, present = with_profile("tiny")
    scenes = {"train_pictures": 4, "sft_rows": 6, "heldout_pictures": 2, "compositional_pictures": 2}
    params = changed(params, scenes=params.download.scenes.model_dump() | scenes)
    planned = {f"{split}_rows": f.value for split, f in source_rows(params, present).items()}
    written = build_scenes(tmp_path / "out", seed=1, workers=1, **params.download.scenes.model_dump())
    assert planned == {name: count for name, count in written.items() if name.endswith("_rows")}
    plan = download(params, present)
    assert plan["pictures"] == written["pictures"]
    size = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert size <= plan["disk"]["needed"]["bytes"]


def test_artifacts_say_more_than_parameters_and_validation_more_than_download(with_profile, checkout):
    params, present = with_profile(None)
    assert accepted_rows("sft", params, present).fields("rows")["rows_at_most"] == 12000
    write_rows(checkout.table("sft"), 70)
    assert accepted_rows("sft", params, present) == Figure(
        70, "artifacts/download/sft.parquet, before validation", exact=False
    )
    assert splits(params, present) == ["sft"]
    write_rows(checkout.accepted("sft"), 60)
    assert accepted_rows("sft", params, present) == Figure(60, "artifacts/validate/sft.parquet")


def test_a_damaged_table_is_one_line(with_profile, checkout):
    params, present = with_profile(None)
    checkout.accepted("sft").parent.mkdir(parents=True)
    checkout.accepted("sft").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match=r"sft\.parquet: cannot be read"):
        accepted_rows("sft", params, present)


def test_your_own_files_are_counted(with_profile, checkout):
    params, present = with_profile(None)
    write_rows(checkout.root / "p.parquet", 50)
    (checkout.root / "s.jsonl").write_text("{}\n{}\n{}", encoding="utf-8")
    local = {
        "pretrain": {"path": "p.parquet", "sha256": SHA},
        "sft": {"path": "s.jsonl", "sha256": SHA, "images": "pictures"},
        "heldout": {"path": "gone.parquet", "sha256": SHA},
        "limit": 40,
    }
    rows = source_rows(changed(params, source="local", local=local), present)
    assert (rows["pretrain"].value, rows["sft"].value, rows["heldout"].value) == (40, 3, None)
    assert "not found" in rows["heldout"].source


def test_rows_that_a_fraction_of_is_held_out_are_a_bound(with_profile, checkout):
    params, present = with_profile(None)
    write_rows(checkout.root / "p.parquet", 50)
    file = {"path": "p.parquet", "sha256": SHA}
    params = changed(params, source="local", local={"pretrain": file, "sft": file}, heldout_fraction=0.1)
    rows = source_rows(params, present)
    assert rows["pretrain"] == Figure(50, "p.parquet", exact=False) and rows["heldout"].value is None


@pytest.mark.parametrize(("text", "count"), [("", 0), ("a", 1), ("a\n", 1), ("a\nb", 2)])
def test_the_last_line_counts_with_or_without_its_end(checkout, text, count):
    plain, packed = checkout.root / "a.jsonl", checkout.root / "a.jsonl.gz"
    plain.write_text(text, encoding="utf-8")
    packed.write_bytes(gzip.compress(text.encode()))
    assert count_lines(plain, 0, Present(checkout)).value == count
    assert count_lines(packed, 0, Present(checkout)).value == count


def hub(params, revision, files):
    source = {
        "repo": "someone/rows",
        "rows": "rows.jsonl",
        "images": "p.zip",
        "revision": revision,
        "files": files,
    }
    return changed(params, source="hub", hub={"pretrain": source, "sft": source, "heldout": source})


def test_what_is_missing_of_a_hub_is_counted_once_and_what_is_cached_is_not(with_profile, checkout):
    revision, files = "a" * 40, {"rows.jsonl": {"size": 6, "sha256": SHA}, "p.zip": {"size": 1000, "sha256": SHA}}
    params, present = with_profile(None)
    params = hub(params, revision, files)
    plan = download(params, present)
    assert plan["fetch"]["bytes"] == 1006 and plan["rows"] is None

    snapshot = checkout.root / "hub" / "datasets--someone--rows" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "rows.jsonl").write_text("{}\n{}\n", encoding="utf-8")
    plan = download(params, present)
    assert plan["fetch"]["bytes"] == 1000 and plan["splits"]["sft"]["rows"] == 2
    assert plan["disk"]["needed"] is None and plan["disk"]["needed_at_least"]["bytes"] == 3 * 1006 + 1000


def test_a_source_without_pins_is_unknown_and_says_what_to_do(with_profile):
    params, present = with_profile("4090")
    plan = download(params, present)
    assert plan["fetch"] is None and "minivlm pin" in plan["fetch_why"]
    assert plan["disk"]["needed"] is None and "minivlm pin" in plan["disk"]["needed_why"]
    assert missing_bytes({"download.hub.sft": params.download.hub.sft}, "dataset").value is None
    json.dumps(plan)
