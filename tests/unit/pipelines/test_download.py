"""The stage command: each source named in the parameters fills the same folder."""

import sys
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from minivlm.config import load_params
from minivlm.config.data import Download
from minivlm.errors import UserError
from minivlm.files import sha256_file
from minivlm.paths import Paths, project_root
from minivlm.stage import StageRun
from pipelines.download import run
from tests.contract.imports import ROOT
from tests.unit.data.validation.rows import good_rows, write_table

EXAMPLES = ROOT / "docs" / "examples"
SCENES = {"train_pictures": 3, "sft_rows": 3, "heldout_pictures": 2, "compositional_pictures": 2, "size": 32}


def stage(root, **download):
    """The stage on these parameters; returns what it logs."""
    section = Download.model_validate({"scenes": {**SCENES, "jpeg_quality": 80}, **download})
    params = load_params(project_root() / "params.yaml").model_copy(update={"download": section})
    logged = {}
    tracker = SimpleNamespace(log_metrics=logged.update)
    run(StageRun(name="download", params=params, paths=Paths(root), tracker=tracker))
    return logged


def files(root):
    return {path.stem: pq.read_metadata(path).num_rows for path in (root / "artifacts/download").iterdir()}


@pytest.fixture
def local(tmp_path):
    """Rows of two splits: Parquet, and the example of JSON lines with its zip."""
    table = write_table(tmp_path / "train.parquet", good_rows(40))
    lines, pictures = EXAMPLES / "sft_data.jsonl", EXAMPLES / "sft_images.zip"
    return {
        "pretrain": {"path": "train.parquet", "sha256": sha256_file(table)},
        "sft": {
            "path": str(lines),
            "sha256": sha256_file(lines),
            "images": str(pictures),
            "images_sha256": sha256_file(pictures),
        },
    }


def test_scenes_are_drawn(tmp_path):
    logged = stage(tmp_path, source="scenes")
    assert files(tmp_path) == {"pretrain": 3, "sft": 3, "heldout": 6, "compositional": 6}
    assert logged["pictures"] == 7


def test_local_files_of_both_layouts_are_taken(tmp_path, local):
    heldout = {"path": "train.parquet", "sha256": sha256_file(tmp_path / "train.parquet")}
    logged = stage(tmp_path, source="local", local={**local, "heldout": heldout, "limit": 15})
    assert files(tmp_path) == {"pretrain": 15, "sft": 15, "heldout": 15}
    assert logged == {"pretrain_rows": 15, "sft_rows": 15, "heldout_rows": 15}


def test_a_share_of_the_pictures_is_held_out_where_no_file_is(tmp_path, local):
    with pytest.raises(UserError, match=r"^download\.local\.heldout is missing; .+ download\.heldout_fraction"):
        stage(tmp_path, source="local", local=local)
    logged = stage(tmp_path, source="local", local=local, heldout_fraction=0.25)
    assert 0 < logged["heldout_rows"] < 30 and sum(logged.values()) == 60


class Pin(NamedTuple):
    """The fields that the hub's own has."""

    name: str
    repo: str
    kind: str
    revision: str | None
    files: dict[str, tuple[int, str]]


@pytest.fixture
def hub(monkeypatch):
    """In place of minivlm.hub: every repository is the folder of examples. What was asked for is noted."""
    asked = []

    def fetch(pins, *, place, downloads):
        asked.extend([*pins, place, downloads])
        return [EXAMPLES for _ in pins]

    module = ModuleType("minivlm.hub")
    module.__dict__.update(Pin=Pin, fetch=fetch)
    monkeypatch.setitem(sys.modules, "minivlm.hub", module)
    return asked


def pinned(rows, images=None):
    names = [name for name in (rows, images) if name]
    sizes = {name: {"size": (EXAMPLES / name).stat().st_size, "sha256": "0" * 64} for name in names}
    return {"repo": "some/rows", "revision": "a" * 40, "files": sizes, "rows": rows, "images": images}


def test_rows_of_a_hub_are_fetched_by_their_pins(tmp_path, hub):
    lines = pinned("sft_data.jsonl", "sft_images.zip")
    named = {"pretrain": lines, "sft": pinned("sft.parquet"), "limit": 0}
    logged = stage(tmp_path, source="hub", hub=named, heldout_fraction=0.4)
    assert set(files(tmp_path)) == {"pretrain", "sft", "heldout"} and logged["heldout_rows"] > 0
    first, second, place, downloads = hub
    assert (first.name, second.name) == ("download.hub.pretrain", "download.hub.sft")
    assert first == ("download.hub.pretrain", "some/rows", "dataset", "a" * 40, first.files)
    assert first.files["sft_images.zip"] == ((EXAMPLES / "sft_images.zip").stat().st_size, "0" * 64)
    assert (place, downloads) == ("auto", 4)


def test_a_file_without_a_pin_is_named_before_anything_is_fetched(tmp_path, hub):
    bad = {**pinned("sft_data.jsonl", "sft_images.zip"), "images": "other.zip"}
    named = {"pretrain": bad, "sft": bad}
    with pytest.raises(UserError, match=r"^download\.hub\.pretrain: other\.zip has no size and sha256; .+ pin"):
        stage(tmp_path, source="hub", hub=named, heldout_fraction=0.4)
    assert hub == []
