"""docs/bad-input.md names the limits that the code has."""

from minivlm import config
from minivlm.data import texts
from minivlm.data.formats import jsonl
from minivlm.data.validation import picture
from minivlm.evaluation import caption_files
from tests.contract.imports import ROOT


def test_the_limits_in_the_documentation_are_those_of_the_code():
    text = (ROOT / "docs" / "bad-input.md").read_text(encoding="utf-8")
    for said in (
        f"larger than {config._LARGEST:,} bytes",
        f"a line over {jsonl._LONGEST_LINE:,} bytes; more than {picture.MAX_PICTURES} pictures",
        f"a line over {texts.LONGEST_LINE:,} bytes, also of a gzipped file",
        f"a file over {picture.MAX_PICTURE_BYTES:,} bytes",
        f"over {caption_files.LARGEST:,} pixels, or more than {caption_files.LONGEST} times",
        f"other formats than {', '.join(picture.FORMATS)};",
    ):
        assert said in text, said
