"""What a saved state is bound to, beyond parameters and inputs (test_resume.py)."""

from importlib import metadata

import pytest

from minivlm.training.resume_key import resume_key


@pytest.mark.parametrize("changed", ["torch", "transformers", "accelerate", "pillow", "numpy"])
def test_another_version_of_what_computes_has_another_key(tmp_path, monkeypatch, changed):
    key, installed = resume_key({}, [tmp_path]), metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.1" if name == changed else installed(name))
    assert key != resume_key({}, [tmp_path])
