"""The tiny LLaVA, saved once and loaded once for all unit tests."""

import pytest

from tests.unit.evaluation.toys import write_llava


@pytest.fixture(scope="session")
def llava_directory(tmp_path_factory):
    return write_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def llava(llava_directory):
    from minivlm.generation.loading import load_model

    return load_model(llava_directory)
