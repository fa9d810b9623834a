"""A random checkpoint with its CLIP directory and tokenizer, and the directory imported from it."""

import pytest
import torch

from minivlm.model.minimind import import_checkpoint
from tests.numeric.original import Variant, write_variant


@pytest.fixture(scope="session")
def variant():
    return Variant()


@pytest.fixture(scope="session")
def source(variant, tmp_path_factory):
    return write_variant(tmp_path_factory.mktemp("source"), variant)


@pytest.fixture(scope="session")
def imported(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("imported") / "model"
    import_checkpoint(
        source / "checkpoint.pth", source / "clip", source / "tokenizer", out, config=source / "config.json"
    )
    return out


@pytest.fixture
def state(source):
    return torch.load(source / "checkpoint.pth", weights_only=True)
