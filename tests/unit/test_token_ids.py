"""Numbers that end a process inside the tokenizers library are refused before it reads them. Found by fuzzing."""

import json
import shutil

import pytest

from minivlm.data.tokenizer_files import read_tokenizer
from minivlm.errors import UserError
from minivlm.generation.loading import load_model
from minivlm.model.minimind.processor import read_tokenizer as read_originals
from minivlm.token_ids import HIGHEST, check_numbers


def with_id(llava_directory, tmp_path, number):
    directory = shutil.copytree(llava_directory, tmp_path / "model")
    content = json.loads((directory / "tokenizer.json").read_text())
    content["model"]["vocab"]["M"] = number
    (directory / "tokenizer.json").write_text(json.dumps(content))
    return directory


@pytest.mark.parametrize("read", [load_model, read_tokenizer, lambda directory: read_originals(directory, 400)])
@pytest.mark.parametrize("number", [2**31, 2**63, -(2**40), 10**400])
def test_an_id_that_no_table_is_long_enough_for_is_refused(llava_directory, tmp_path, read, number):
    with pytest.raises(UserError, match=r"tokenizer\.json: not a tokenizer: it says .*no id or length") as caught:
        read(with_id(llava_directory, tmp_path, number))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("content", ["", "{", b"\xff", "[" * 100_000])
def test_what_is_no_json_is_one_line(content):
    with pytest.raises(UserError, match="x: not a tokenizer: not JSON"):
        check_numbers(content, "x")


def test_numbers_of_real_tokenizers_pass():
    check_numbers(json.dumps({"a": [{"id": HIGHEST}, 1e300, True, None, "9" * 50]}), "x")
    with pytest.raises(UserError):
        check_numbers(json.dumps({"padding": {"strategy": {"Fixed": HIGHEST + 1}}}), "x")
