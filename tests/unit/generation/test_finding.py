"""What users name becomes pictures: files, folders, patterns, lists and pictures by standard input."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from minivlm.data.validation.picture import FORMATS, MAX_PICTURE_BYTES
from minivlm.errors import UserError
from minivlm.generation.caption_files import PIPED
from minivlm.generation.finding import STANDARD_INPUT, find_pictures, is_picture
from tests.unit.evaluation.toys import picture


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "[c].png", "中文 名.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.png").write_bytes(b"x")
    return tmp_path


def names(places, data=b""):
    found = find_pictures([str(place) for place in places], lambda most: data)
    return [each if isinstance(each, bytes) else each.name for each in found]


def test_files_stay_in_order_and_folders_and_patterns_go_by_name(folder):
    assert names([folder / "b.png", folder, folder / "a.JPG"]) == [
        *("b.png", "[c].png", "a.JPG", "b.png", "中文 名.png", "a.JPG")
    ]
    assert names([folder / "*.png"]) == ["[c].png", "b.png", "中文 名.png"]
    assert names([folder / "**" / "*.png"]) == ["[c].png", "b.png", "d.png", "中文 名.png"]
    assert names([folder / "[c].png"]) == ["[c].png"]  # a file of that name is no pattern


@pytest.mark.parametrize("between", [b"\n", b"\r\n", b"\0"])
def test_a_list_has_a_path_a_line_or_as_find_print0_writes_it(folder, between):
    data = between.join(os.fsencode(folder / name) for name in ("b.png", "中文 名.png", "sub")) + between
    assert names([STANDARD_INPUT], data) == ["b.png", "中文 名.png", "d.png"]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_that_is_piped_in_is_known_by_its_first_bytes(folder, kind):
    stream = io.BytesIO()
    picture(0).save(stream, kind)
    assert names([folder / "b.png", STANDARD_INPUT], stream.getvalue()) == ["b.png", stream.getvalue()]


def test_names_of_a_list_are_no_patterns(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "c.png").write_bytes(b"x")
    assert names(["[c].png"]) == names([STANDARD_INPUT], b"[c].png\n") == ["[c].png"]
    (folder / "[c].png").unlink()
    assert names(["[c].png"]) == ["c.png"]
    assert names([STANDARD_INPUT], b"[c].png\n") == ["[c].png"], "that one is missing, and no other stands for it"


def test_a_link_that_leads_nowhere_is_a_name_and_no_pattern(folder):
    (folder / "[z].png").symlink_to("gone.png")
    assert names([folder / "[z].png"]) == ["[z].png"]


def test_a_file_may_be_called_a_dash(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "-").write_bytes(b"x")
    assert find_pictures(["./-", "-"], lambda most: b"./-\n-") == [Path("-")] * 3


@pytest.mark.parametrize("between", [b"\n", b"\0"])
@pytest.mark.parametrize("name", ["GIF89a.png", "II*", "RIFF1234WEBP.webp", "\udcff\udcd8\udcff.jpg"])
def test_a_list_may_begin_with_a_name_that_begins_like_a_picture(folder, monkeypatch, name, between):
    monkeypatch.chdir(folder)
    (folder / name).write_bytes(b"x")
    assert names([STANDARD_INPUT], between.join([os.fsencode(name), b"b.png", b""])) == [name, "b.png"]


def test_a_name_that_no_system_takes_is_one_of_the_list(folder):
    assert names([STANDARD_INPUT], b"a" * 5000) == ["a" * 5000]


@pytest.mark.parametrize("data", [b"BMW.jpg\nb", b"II.png", b"RIFF.webp", "图.png".encode(), b"a" * 40])
def test_no_path_is_taken_for_a_picture(data):
    assert not is_picture(data)


@pytest.mark.parametrize(
    ("places", "data", "said"),
    [
        ([], b"", "no pictures: name files, folders or patterns, or - for standard input"),
        (["-"], b"", "neither a picture nor a path"),
        (["-"], b" \n\n", "neither a picture nor a path"),
        (["-", "-"], b"a", "which can be read once"),
        (["nothing*.png"], b"", "no file matches this pattern"),
        (["-"], bytes(1) * (MAX_PICTURE_BYTES + 1), "and no picture"),
    ],
)
def test_nothing_found_is_said_in_one_line(folder, places, data, said):
    with pytest.raises(UserError, match=said) as error:
        names(places, data)
    assert "\n" not in str(error.value)


def test_a_place_without_a_picture_ends_nothing_for_the_others(folder):
    (folder / "empty").mkdir()
    places = [folder / "b.png", folder / "empty", folder / "*.gif", STANDARD_INPUT]
    listed = os.fsencode(folder / "empty") + b"\n" + os.fsencode(folder / "a.JPG")
    assert names(places, listed) == ["b.png", "empty", "*.gif", "empty", "a.JPG"]
    with pytest.raises(UserError, match="empty: no picture in this folder"):
        names([folder / "empty"])


def test_a_piped_picture_is_captioned_like_the_file(llava, tmp_path):
    from minivlm.generation.caption_files import caption_files

    picture(3).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    lines = list(
        caption_files(*llava, [tmp_path / "a.png", data, b"\xff\xd8\xff no"], "?", batch_size=3, max_new_tokens=5)
    )
    assert lines[0].caption == lines[1].caption and lines[1].picture == PIPED
    assert lines[2].error == "not a picture"
    assert Image.open(tmp_path / "a.png").size == (32, 32)


def test_an_empty_name_is_no_name_of_the_working_directory():
    with pytest.raises(UserError, match="an empty name"):
        names([""])


def test_a_list_as_windows_writes_it_begins_with_its_first_name(folder):
    data = b"\xef\xbb\xbf" + os.fsencode(folder / "b.png") + b"\r\n"
    assert names([STANDARD_INPUT], data) == ["b.png"]
