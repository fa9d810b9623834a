"""The tiny LLaVA behind its address, in process; and one whose answers do not end by themselves."""

import pytest
from starlette.testclient import TestClient

from minivlm.generation.loading import load_model
from minivlm.serving.answering import Answerer
from minivlm.serving.app import build_app
from tests.unit.serving.asking import NAME


@pytest.fixture(scope="module")
def client(llava):
    return TestClient(build_app(Answerer(*llava), NAME))


@pytest.fixture
def endless(llava_directory):
    model, processor = load_model(llava_directory)
    model.generation_config.eos_token_id = None
    return model, processor
