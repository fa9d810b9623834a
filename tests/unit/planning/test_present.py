"""Artifacts of other parameters are not taken for the present ones."""

import pytest

from minivlm.errors import UserError
from minivlm.planning.present import Present

PARAMS = "seed: 1\ndownload:\n  source: scenes\n  size: 96\ntokenize:\n  max_length: 320\n"
LOCK = """stages:
  download:
    params:
      params.yaml:
        seed: 1
        download:
          source: scenes
          size: {size}
  tokenize:
    params:
      params.yaml:
        tokenize:
          max_length: {length}
"""


@pytest.fixture
def present(checkout):
    """Present of parameters PARAMS after a run with others."""
    checkout.params.write_text(PARAMS, encoding="utf-8")
    for stage in ("download", "tokenize"):
        checkout.artifacts(stage).mkdir(parents=True)

    def after(size=96, length=320):
        (checkout.root / "dvc.lock").write_text(LOCK.format(size=size, length=length), encoding="utf-8")
        return Present(checkout)

    return after


def test_artifacts_of_the_present_parameters_count(present):
    found = present()
    assert found.has("download") and found.has("tokenize")
    assert not found.has("pretrain") and found.why_not("pretrain") == "pretrain has not run"


def test_a_changed_parameter_makes_its_stage_stale_and_not_those_before_it(present):
    found = present(length=640)
    assert found.has("download") and not found.has("tokenize")
    assert "tokenize.max_length: 640 → 320" in found.why_not("tokenize")


def test_what_comes_after_a_changed_stage_is_stale_too(present):
    found = present(size=64)
    assert not found.has("download") and not found.has("tokenize")
    assert "download.size: 64 → 96" in found.why_not("tokenize")


def test_a_parameter_that_was_added_or_taken_away_is_a_change(present, checkout):
    found = present()
    checkout.params.write_text(PARAMS.replace("  size: 96\n", "  side: 96\n"), encoding="utf-8")
    assert found.changed("download") == "download.size: 96 → (none)"
    checkout.params.write_text(
        PARAMS.replace("  size: 96\n", "  size: 96\n  jpeg_quality: 90\n"), encoding="utf-8"
    )
    assert Present(checkout).changed("download") == "download.jpeg_quality: (none) → 90"


def test_without_a_lock_file_artifacts_count_as_they_are(present, checkout):
    present(size=64)
    (checkout.root / "dvc.lock").unlink()
    assert Present(checkout).has("tokenize")


def test_a_broken_lock_file_is_one_line(present, checkout):
    found = present()
    (checkout.root / "dvc.lock").write_text("stages: [", encoding="utf-8")
    with pytest.raises(UserError, match=r"dvc\.lock: not valid YAML"):
        found.has("download")
