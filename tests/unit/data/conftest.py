"""A tokenizer, trained once for all tests of this folder, and stores written with it."""

import pytest

from minivlm.data.encoding import ChatEncoder
from minivlm.data.store import PictureStore, TokenStore
from minivlm.data.tokenization import write_stores
from tests.unit.data.toys import IMAGE_TOKENS, captions, conversation, picture, write_source, write_tokenizer


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def encoder(tokenizer_directory):
    return ChatEncoder(tokenizer_directory)


@pytest.fixture(scope="session")
def written(tmp_path_factory, encoder):
    """The folder of stores of 60 pretrain rows: two more questions on known pictures, one row of text alone."""
    folder = tmp_path_factory.mktemp("stores")
    rows = captions(57)
    rows += [(conversation("有几只鸟?", "三只。"), picture(i)) for i in (3, 4)]
    rows += [(conversation("你好", "你好。", image=""), None)]
    source = write_source(folder, "pretrain", rows)
    write_stores(
        {"pretrain": source},
        folder / "tokenize",
        encoder=encoder,
        image_tokens=IMAGE_TOKENS,
        max_length=128,
        validation_fraction=0.2,
    )
    return folder / "tokenize"


@pytest.fixture
def tokens(written):
    return TokenStore(written / "pretrain")


@pytest.fixture
def pictures(written):
    return PictureStore(written / "pictures")
