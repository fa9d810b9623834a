"""Rows from your own Parquet files."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minivlm.data.local_files import PinnedRows, local_sources
from minivlm.data.sources import convert_rows
from minivlm.data.tables import table_schema
from minivlm.errors import UserError
from minivlm.files import sha256_file, sha256_tree


def write(path, rows=5, row_group_size=2, **changes):
    columns = {
        "extra": pa.array(range(rows)),
        "image_bytes": pa.array([b"picture %d" % i for i in range(rows)]),
        "conversations": pa.array([json.dumps([{"role": "user", "content": f"图{i}"}]) for i in range(rows)]),
        **changes,
    }
    kept = {name: column for name, column in columns.items() if column is not None}
    pq.write_table(pa.table(kept), path, row_group_size=row_group_size)
    return PinnedRows(path.name, sha256_file(path))


@pytest.fixture
def files(tmp_path):
    train = write(tmp_path / "train.parquet")
    return {"pretrain": train, "sft": train, "heldout": write(tmp_path / "val.parquet", rows=3)}


def copy_local(folder, *, files, root, limit=0, heldout_fraction=0.0):
    """Pinned files to the files of the stage."""
    return convert_rows(folder, local_sources(files, root), limit=limit, heldout_fraction=heldout_fraction)


def out(tmp_path):
    return tmp_path / "artifacts" / "download"


def test_files_come_out_under_the_contracts_names_and_columns(tmp_path, files):
    counts = copy_local(out(tmp_path), files=files, root=tmp_path)
    assert counts == {"pretrain_rows": 5, "sft_rows": 5, "heldout_rows": 3}
    assert sorted(path.stem for path in out(tmp_path).iterdir()) == ["heldout", "pretrain", "sft"]
    given = pq.read_table(tmp_path / "train.parquet", columns=["conversations", "image_bytes"])
    for split in ("pretrain", "sft"):
        assert pq.read_table(out(tmp_path) / f"{split}.parquet").equals(given)


def test_an_absolute_path_and_an_optional_split_are_taken(tmp_path, files):
    path = tmp_path / "new.parquet"
    files["compositional"] = PinnedRows(str(path), write(path).sha256)
    copy_local(out(tmp_path), files=files, root=tmp_path)
    assert pq.read_metadata(out(tmp_path) / "compositional.parquet").num_rows == 5


def test_large_types_become_the_contracts_types(tmp_path, files):
    files["sft"] = write(
        tmp_path / "large.parquet",
        conversations=pa.array(["[]"] * 5, pa.large_string()),
        image_bytes=pa.array([b"x"] * 5, pa.large_binary()),
    )
    copy_local(out(tmp_path), files=files, root=tmp_path)
    assert pq.read_schema(out(tmp_path) / "sft.parquet") == table_schema()


@pytest.mark.parametrize("limit", [1, 3, 4, 5, 9])
def test_limit_takes_the_first_rows_of_each_file(tmp_path, files, limit):
    copy_local(out(tmp_path), files=files, root=tmp_path, limit=limit)
    rows = pq.read_table(out(tmp_path) / "pretrain.parquet")["image_bytes"].to_pylist()
    assert rows == [b"picture %d" % i for i in range(min(limit, 5))]


def test_a_scene_is_kept_in_held_out_files_and_dropped_from_training(tmp_path, files):
    scene = pa.array(['{"sky": "day"}'] * 5)
    with_scene = write(tmp_path / "scene.parquet", scene=scene)
    copy_local(out(tmp_path), files=dict.fromkeys(files, with_scene), root=tmp_path)
    assert pq.read_schema(out(tmp_path) / "pretrain.parquet").names == ["conversations", "image_bytes"]
    assert pq.read_schema(out(tmp_path) / "sft.parquet").names == ["conversations", "image_bytes"]
    assert pq.read_table(out(tmp_path) / "heldout.parquet")["scene"].to_pylist() == scene.to_pylist()


def test_a_picture_that_repeats_is_stored_once_in_a_group(tmp_path, files):
    picture = bytes(range(256)) * 40
    files["sft"] = write(tmp_path / "same.parquet", rows=500, image_bytes=pa.array([picture] * 500))
    copy_local(out(tmp_path), files=files, root=tmp_path)
    assert (out(tmp_path) / "sft.parquet").stat().st_size < 10 * len(picture)


def test_the_same_files_give_the_same_bytes(tmp_path, files):
    copy_local(tmp_path / "a", files=files, root=tmp_path)
    copy_local(tmp_path / "b", files=files, root=tmp_path)
    for split in files:
        assert (tmp_path / "a" / f"{split}.parquet").read_bytes() == (
            tmp_path / "b" / f"{split}.parquet"
        ).read_bytes()


def changed(tmp_path, files):
    return {**files, "sft": PinnedRows("train.parquet", "0" * 64)}


def missing_file(tmp_path, files):
    return {**files, "heldout": PinnedRows("nowhere.parquet", "0" * 64)}


def missing_split(tmp_path, files):
    return {split: file for split, file in files.items() if split != "heldout"}


def missing_column(tmp_path, files):
    return {**files, "sft": write(tmp_path / "bad.parquet", conversations=None)}


def wrong_type(tmp_path, files):
    return {**files, "sft": write(tmp_path / "bad.parquet", image_bytes=pa.array([1] * 5))}


def cut(tmp_path, files):
    write(tmp_path / "bad.parquet")
    (tmp_path / "bad.parquet").write_bytes((tmp_path / "bad.parquet").read_bytes()[:-20])
    return {**files, "sft": PinnedRows("bad.parquet", sha256_file(tmp_path / "bad.parquet"))}


def no_images_hash(tmp_path, files):
    (tmp_path / "pictures").mkdir()
    return {**files, "sft": files["sft"]._replace(images="pictures")}


def other_images(tmp_path, files):
    (tmp_path / "pictures.zip").write_bytes(b"")
    return {**files, "sft": files["sft"]._replace(images="pictures.zip", images_sha256="0" * 64)}


def no_images(tmp_path, files):
    return {**files, "sft": files["sft"]._replace(images="nowhere", images_sha256="0" * 64)}


def neither(tmp_path, files):
    (tmp_path / "bad.parquet").write_text("conversations,image_bytes\n")
    return {**files, "sft": PinnedRows("bad.parquet", sha256_file(tmp_path / "bad.parquet"))}


def damaged(tmp_path, files):
    write(tmp_path / "bad.parquet", rows=2000, row_group_size=1000, extra=None)
    data = bytearray((tmp_path / "bad.parquet").read_bytes())
    data[4:2000] = bytes(1996)
    (tmp_path / "bad.parquet").write_bytes(data)
    return {**files, "sft": PinnedRows("bad.parquet", sha256_file(tmp_path / "bad.parquet"))}


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (changed, r"train\.parquet: its sha256 is [0-9a-f]{64}, download\.local\.sft\.sha256 expects 0{64}; .+"),
        (missing_file, r"nowhere\.parquet: not found; set download\.local\.heldout\.path in params\.yaml"),
        (missing_split, r"download\.local\.heldout is missing; .+ or set download\.heldout_fraction, .+"),
        (no_images, r"nowhere: not found; set download\.local\.sft\.images in params\.yaml"),
        (no_images_hash, r"pictures: download\.local\.sft\.images_sha256 is missing in params\.yaml; .+"),
        (other_images, r"pictures\.zip: its sha256 is [0-9a-f]{64}, .*\.sft\.images_sha256 expects .+"),
        (missing_column, r"bad\.parquet: one column 'conversations' is needed; the file has: extra, image_bytes"),
        (wrong_type, r"bad\.parquet: column 'image_bytes' must be binary or lists of it, it is int64"),
        (neither, r"bad\.parquet: neither a Parquet file nor JSON lines"),
        (cut, r"bad\.parquet: not a Parquet file: .+"),
        (damaged, r"bad\.parquet: cannot be read: .+"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line_and_nothing_is_written(tmp_path, files, fault, says):
    out(tmp_path).mkdir(parents=True)
    (out(tmp_path) / "old").touch()
    with pytest.raises(UserError) as error:
        copy_local(out(tmp_path), files=fault(tmp_path, files), root=tmp_path)
    assert re.search(says + "$", str(error.value))
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == ["download"]
    assert [path.name for path in out(tmp_path).iterdir()] == ["old"]


def write_lines(folder, name, count, first=0):
    """JSON lines of rows with a picture each, and their folder."""
    (folder / f"{name}_images").mkdir()
    lines = []
    for number in range(first, first + count):
        (folder / f"{name}_images" / f"{number}.jpg").write_bytes(b"picture %d" % number)
        turns = [{"role": "user", "content": f"<image>{number}"}, {"role": "assistant", "content": "好"}]
        lines.append(json.dumps({"conversations": turns, "image": f"{number}.jpg"}))
    (folder / f"{name}_data.jsonl").write_text("\n".join(lines) + "\n")
    return PinnedRows(
        f"{name}_data.jsonl",
        sha256_file(folder / f"{name}_data.jsonl"),
        f"{name}_images",
        sha256_tree(folder / f"{name}_images"),
    )


def test_json_lines_and_parquet_may_stand_side_by_side(tmp_path, files):
    files["sft"] = write_lines(tmp_path, "sft", 4)
    counts = copy_local(out(tmp_path), files=files, root=tmp_path)
    assert counts == {"pretrain_rows": 5, "sft_rows": 4, "heldout_rows": 3}
    rows = pq.read_table(out(tmp_path) / "sft.parquet").to_pylist()
    assert [row["image_bytes"] for row in rows] == [b"picture %d" % number for number in range(4)]
    assert {row["fault"] for row in rows} == {None}


def test_a_picture_that_changed_in_its_folder_is_noticed(tmp_path, files):
    files["sft"] = write_lines(tmp_path, "sft", 4)
    (tmp_path / "sft_images" / "2.jpg").write_bytes(b"another")
    with pytest.raises(UserError, match=r"sft_images: its sha256 is .+ download\.local\.sft\.images_sha256"):
        copy_local(out(tmp_path), files=files, root=tmp_path)


def test_progress_is_a_line_where_there_is_no_terminal(tmp_path, files, capsys):
    copy_local(out(tmp_path), files=files, root=tmp_path)
    assert re.fullmatch(r"copying: 13 of 13 rows, \d+ a second\n", capsys.readouterr().err)
