"""The drawn splits as Parquet files."""

import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minivlm.data.scenes import build
from minivlm.data.scenes.conversations import IMAGE, LONG_ALONE, QUESTIONS_ALONE, sft_row
from minivlm.data.scenes.grammar import CANONICAL_LONG, CANONICAL_SHORT, LONG_PROMPTS, SHORT_PROMPTS
from minivlm.data.scenes.layout import sample_scene, stream
from minivlm.data.scenes.world import Scene, is_held_out

SIZES = {"train_pictures": 30, "sft_rows": 75, "heldout_pictures": 8, "compositional_pictures": 7}
FILES = ("pretrain", "sft", "heldout", "compositional")


def make(folder, workers=1, **changes):
    return build.build_scenes(folder, seed=1, size=48, jpeg_quality=85, workers=workers, **{**SIZES, **changes})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "download"
    return folder, make(folder)


@pytest.fixture(scope="module")
def rows(made):
    folder, _ = made
    return {file: pq.read_table(folder / f"{file}.parquet").to_pylist() for file in FILES}


def turns(row):
    return json.loads(row["conversations"])


def test_the_bytes_do_not_depend_on_the_number_of_workers(made, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "CHUNK", 7)  # so that there is work for two
    make(tmp_path / "download", workers=2)
    for file in FILES:
        assert (tmp_path / "download" / f"{file}.parquet").read_bytes() == (
            made[0] / f"{file}.parquet"
        ).read_bytes()


def test_another_seed_gives_other_rows(made, tmp_path):
    build.build_scenes(tmp_path / "x", seed=2, size=48, jpeg_quality=85, workers=1, **SIZES)
    assert not pq.read_table(tmp_path / "x/pretrain.parquet").equals(pq.read_table(made[0] / "pretrain.parquet"))


def test_columns_are_the_originals_and_the_scene_stands_in_held_out_files_alone(made):
    folder, _ = made
    fields = [("conversations", pa.string()), ("image_bytes", pa.binary())]
    for file in FILES:
        more = [("scene", pa.string())] if file in ("heldout", "compositional") else []
        assert pq.read_schema(folder / f"{file}.parquet") == pa.schema([*fields, *more]), file


def test_counts_are_those_of_the_files(made, rows):
    counts = made[1]
    assert {file: counts[f"{file}_rows"] for file in FILES} == {file: len(rows[file]) for file in FILES}
    assert [len(rows[file]) for file in FILES] == [30, 75, 24, 21]
    assert counts["pictures"] == 45
    assert 0 < counts["several_kinds"] < 1


def test_pretrain_has_one_short_caption_for_each_picture(rows):
    assert len({row["image_bytes"] for row in rows["pretrain"]}) == 30
    for row in rows["pretrain"]:
        assert [turn["role"] for turn in turns(row)] == ["user", "assistant"]
        assert turns(row)[0]["content"] in SHORT_PROMPTS


def test_sft_goes_over_the_same_pictures_in_turn(rows):
    uses = Counter(row["image_bytes"] for row in rows["sft"])
    assert set(uses) == {row["image_bytes"] for row in rows["pretrain"]}
    assert set(uses.values()) == {2, 3}


def test_fewer_sft_rows_than_pictures_leave_pictures_out(tmp_path, rows):
    make(tmp_path / "x", sft_rows=10)
    sft = pq.read_table(tmp_path / "x/sft.parquet").column("image_bytes").to_pylist()
    assert sft == [row["image_bytes"] for row in rows["pretrain"][:10]]


def test_the_image_mark_stands_once_at_the_front_of_the_first_turn(rows):
    for file in FILES:
        for row in rows[file]:
            first, *others = turns(row)
            assert first["content"].startswith(IMAGE)
            assert "<image>" not in first["content"].removeprefix(IMAGE)
            assert not any("<image>" in turn["content"] for turn in others)
            assert [turn["role"] for turn in turns(row)] == ["user", "assistant"] * (len(others) // 2 + 1)


def test_text_is_stored_as_people_read_it(rows):
    assert "\\u" not in "".join(row["conversations"] for row in rows["sft"])


def test_sft_rows_are_descriptions_questions_and_both_in_their_shares():
    scene = sample_scene(1, "train", 0)
    kinds = Counter()
    for number in range(600):
        conversation = json.loads(sft_row(scene, stream(1, "train", number, "sft")))
        described = conversation[0]["content"] in LONG_PROMPTS
        questions = len(conversation) // 2 - described
        assert questions in ({0, 1, 2} if described else {3, 4})
        kinds[described, questions > 0] += 1
    assert kinds[True, False] / 600 == pytest.approx(LONG_ALONE, abs=0.06)
    assert kinds[False, True] / 600 == pytest.approx(QUESTIONS_ALONE, abs=0.06)


@pytest.mark.parametrize("file", ["heldout", "compositional"])
def test_a_held_out_picture_has_caption_description_and_questions(rows, file):
    for start in range(0, len(rows[file]), 3):
        short, long, questions = rows[file][start : start + 3]
        assert short["image_bytes"] == long["image_bytes"] == questions["image_bytes"]
        assert short["scene"] == long["scene"] == questions["scene"]
        assert turns(short)[0]["content"] == CANONICAL_SHORT
        assert turns(long)[0]["content"] == CANONICAL_LONG
        assert [len(turns(row)) for row in (short, long, questions)] == [2, 2, 4]
        scene = Scene.from_json(json.loads(short["scene"]))
        assert is_held_out(scene.truth) == (file == "compositional")
        assert build.encode(build.render(scene, 48), 85) == short["image_bytes"]


def test_no_picture_is_in_training_and_held_out(rows):
    pictures = {file: {row["image_bytes"] for row in rows[file]} for file in FILES}
    assert len(pictures["pretrain"] | pictures["heldout"] | pictures["compositional"]) == 45


def test_equal_pictures_are_an_error_that_leaves_the_old_files(tmp_path, monkeypatch):
    old = tmp_path / "download"
    old.mkdir()
    (old / "pretrain.parquet").write_text("old")
    monkeypatch.setattr(build, "encode", lambda picture, quality: b"same")
    with pytest.raises(RuntimeError, match="44 of 45 pictures are not distinct"):
        make(old)
    assert [p.name for p in tmp_path.iterdir()] == ["download"]
    assert (old / "pretrain.parquet").read_text() == "old"
