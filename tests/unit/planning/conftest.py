import shutil

import pytest

from minivlm.cli.profile import merged
from minivlm.config import load_params
from minivlm.paths import Paths
from minivlm.planning.present import Present

COMMITTED = Paths()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with parameters and questions, without artifacts; the hub's cache is an empty folder."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    shutil.copy(COMMITTED.params, tmp_path)
    shutil.copytree(COMMITTED.profiles, tmp_path / "profiles")
    (tmp_path / "data").mkdir()
    shutil.copy(COMMITTED.questions, tmp_path / "data")
    return Paths(tmp_path)


@pytest.fixture
def with_profile(checkout):
    """Merge a profile into the checkout's parameters: (parameters, what is present)."""

    def merge(name):
        if name:
            text, _ = merged(checkout.params, checkout.profiles / f"{name}.yaml")
            checkout.params.write_text(text, encoding="utf-8")
        return load_params(checkout.params), Present(checkout)

    return merge


@pytest.fixture
def as_it_was():
    """Threads and determinism of torch as before: stages set them."""
    import torch

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
