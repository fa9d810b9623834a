"""Pins that cannot be right end in one line before anything is asked for."""

import pytest

from minivlm.errors import UserError
from minivlm.hub import Pin, fetch

GOOD = Pin("download.hub.sft", "owner/name", "dataset", "a" * 40, {"sft.parquet": (10, "b" * 64)})


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"revision": None}, r"download.hub.sft.revision: owner/name is not pinned; `minivlm pin`"),
        ({"revision": "main"}, r"download.hub.sft.revision: 'main' is no commit of 40 hex digits"),
        ({"revision": "A" * 40}, r"no commit of 40 hex digits"),
        ({"revision": "a" * 39}, r"no commit of 40 hex digits"),
        ({"files": {}}, r"download.hub.sft.files: no file of owner/name is pinned; `minivlm pin`"),
        ({"files": {"/etc/passwd": (1, "b" * 64)}}, r"'/etc/passwd' is no path inside a repository"),
        ({"files": {"../x": (1, "b" * 64)}}, r"'\.\./x' is no path inside"),
        ({"files": {"a/../../x": (1, "b" * 64)}}, r"is no path inside"),
        ({"files": {"a/./x": (1, "b" * 64)}}, r"is no path inside"),
        ({"files": {"a//x": (1, "b" * 64)}}, r"is no path inside"),
        ({"files": {"": (1, "b" * 64)}}, r"'' is no path inside"),
        ({"files": {"..\\x": (1, "b" * 64)}}, r"is no path inside"),
        ({"files": {"C:/x": (1, "b" * 64)}}, r"is no path inside"),
        ({"files": {"x": (-1, "b" * 64)}}, r"x needs a size in bytes"),
        ({"files": {"x": (1, "b" * 63)}}, r"a sha256 of 64 hex digits"),
        ({"repo": "../../other"}, r"download.hub.sft.repo: '\.\./\.\./other' is no owner/name"),
        ({"repo": "a/b/c"}, r"is no owner/name"),
    ],
)
def test_a_pin_that_cannot_be_right_is_named(change, line, environment):
    with pytest.raises(UserError, match=line) as told:
        fetch([GOOD._replace(**change)])
    assert "\n" not in str(told.value)


def test_two_pins_of_one_file_have_to_agree(environment):
    other = GOOD._replace(name="download.hub.pretrain", files={"sft.parquet": (10, "c" * 64)})
    with pytest.raises(
        UserError, match=r"download.hub.pretrain and download.hub.sft pin sft.parquet .* differently"
    ):
        fetch([GOOD, other])
