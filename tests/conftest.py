"""What all tests share."""

import pytest


def pytest_runtest_setup(item):
    """Skip what is marked `gpu` without CUDA: with -m gpu the marker alone would run it, and it would fail."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
