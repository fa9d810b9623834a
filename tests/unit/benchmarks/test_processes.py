"""Commands in processes of their own: what they took is theirs and their children's."""

import sys

import pytest

from benchmarks.processes import measured

HOLDS = "import time; held = bytearray(200 << 20); time.sleep(0.6)"


def test_memory_of_a_child_counts(tmp_path):
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLDS!r}])"
    done = measured([sys.executable, "-c", code], tmp_path)
    assert done.peak_memory > 200 << 20 and done.seconds > 0.6


def test_a_command_that_fails_is_named_with_what_it_said(tmp_path):
    with pytest.raises(RuntimeError, match="no such thing"):
        measured([sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path)
