"""What is marked `gpu` is skipped without CUDA, whoever asks for it."""

from types import SimpleNamespace

import pytest

from tests.conftest import pytest_runtest_setup


def test_what_needs_a_gpu_is_skipped_where_there_is_none(monkeypatch):
    marked, other = (SimpleNamespace(get_closest_marker={"gpu": mark}.get) for mark in ("a marker", None))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    pytest_runtest_setup(other)
    with pytest.raises(pytest.skip.Exception, match="CUDA"):
        pytest_runtest_setup(marked)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    pytest_runtest_setup(marked)
