"""What all tests share: how they begin, and the tiny LLaVA."""

import os
import signal

import pytest

from minivlm.threads import share_cores

# What tells a command how to write is the same on a terminal, in a pipe and on a forge's runner, for each test and
# every process it starts; a test of one of these sets it.
for name in ("CI", "GITHUB_ACTIONS", "PY_COLORS", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
    os.environ.pop(name, None)
os.environ["TERM"] = "xterm"
share_cores()  # several processes of tests, and what they start, have the same cores


def pytest_runtest_setup(item):
    """Hear Ctrl-C, and skip what is marked `gpu` without CUDA: with -m gpu the marker alone would run it.

    A shell has what it starts in the background ignore Ctrl-C, and a command that it has ended ignores more of it:
    so would all that a test starts.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def llava_directory(tmp_path_factory):
    """The tiny LLaVA, saved once for all tests: a test that changes its files takes a copy."""
    from tests.unit.evaluation.toys import write_llava

    return write_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def llava(llava_directory):
    """(model, processor), loaded once."""
    from minivlm.generation.loading import load_model

    return load_model(llava_directory)
