"""The base stage in a checkout: what it reads, what it writes, and what it tells the tracker."""

import hashlib
import json
import os
import pickle
import shutil
import signal
import sys
import time
from types import SimpleNamespace

import pytest

import minivlm.training
from minivlm.config import Base, load_params
from minivlm.errors import StoppedError, UserError
from minivlm.files import read_json, sha256_tree, write_json
from minivlm.paths import Paths, project_root
from minivlm.stage import StageRun
from minivlm.tracking import NullRun
from minivlm.training.keeping import StageClock
from pipelines.base import run
from tests.unit.data.toys import captions, tree, with_hash_of, write_source
from tests.unit.training.test_base import SECTION


class Recorder(NullRun):
    """Keeps what a stage logs, and takes nothing but numbers, as the tracker does."""

    def __init__(self, on_point=lambda metrics, step: None):
        """`on_point(metrics, step)`: called with each point of a curve."""
        super().__init__()
        self.metrics, self._on_point, self.earlier = {}, on_point, None

    @property
    def id(self):
        return "run"

    def go_on(self, run, seconds=0.0, is_said=False):
        self.earlier = seconds

    def log_metrics(self, metrics, step=None, time_ms=None):
        assert json.dumps(metrics).count('": "') == 0
        self.metrics |= metrics
        if step is not None:
            self._on_point(metrics, step)


def run_stage(root, tracker=None, save_minutes=5.0, **base):
    """Run it with the toy section of test_base, whose parts take the values given; the stage."""
    values = SECTION.model_dump(exclude_none=True)
    for key, changed in base.items():
        values[key] = values[key] | changed if isinstance(changed, dict) else changed
    params = load_params(project_root() / "params.yaml")
    runtime = params.runtime.model_copy(update={"save_minutes": save_minutes})
    params = params.model_copy(update={"threads": 1, "base": Base.model_validate(values), "runtime": runtime})
    stage = StageRun("base", params, Paths(root), tracker or Recorder())
    run(stage)()
    return stage


@pytest.fixture
def checkout(tmp_path):
    """A checkout in which download and validate have run, and a file of texts beside it."""
    root = tmp_path / "checkout"
    write_source(root, "pretrain", captions(20))
    write_source(root, "sft", captions(10, first=20))
    lines = [json.dumps({"text": f"山上有{'一二三四五'[i % 5]}棵树。" * (1 + i % 7)}) for i in range(60)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return root


def test_it_trains_on_rows_and_texts_and_leaves_nothing_else_behind(checkout):
    digest = hashlib.sha256((checkout.parent / "texts.jsonl").read_bytes()).hexdigest()
    stage = run_stage(checkout, texts=[{"path": "../texts.jsonl", "sha256": digest, "limit": 50}])
    metrics = read_json(stage.reports / "metrics.json")
    assert metrics["llm"]["text_documents"] == 50
    assert metrics["vision_tower"]["steps"] > 0
    assert stage.tracker.metrics["llm"] == metrics["llm"]
    cost = read_json(stage.reports / "cost.json")
    assert cost["flops"] == cost["parts"]["vision_tower"]["flops"] + cost["parts"]["llm"]["flops"] > 0
    assert cost["optimizer_flops"] > 0 and cost["seconds"] > cost["parts"]["llm"]["seconds"]
    assert any(key.startswith("llm.") for key in stage.tracker.metrics)
    assert sorted(path.name for path in (checkout / "artifacts").iterdir()) == ["base", "download", "validate"]
    assert list((checkout / ".state" / "base").iterdir()) == []  # both trainings have saved their ends


def test_a_change_of_the_texts_is_refused_and_the_old_output_stays(checkout):
    (checkout / "artifacts" / "base").mkdir()
    (checkout / "artifacts" / "base" / "old").touch()
    with pytest.raises(UserError, match=r"texts\.jsonl: its sha256 is"):
        run_stage(checkout, texts=[{"path": "../texts.jsonl", "sha256": "0" * 64}])
    assert [path.name for path in (checkout / "artifacts" / "base").iterdir()] == ["old"]


@pytest.mark.parametrize("part", ["vision_tower", "llm"])
def test_rows_that_change_meanwhile_end_it_before_anything_is_saved_of_them(checkout, part):
    """The language model's points are told when it is trained: what is read then is seen at the end."""
    table = checkout / "artifacts" / "download" / "pretrain.parquet"

    def change(metrics, step):
        if any(name.startswith(part) for name in metrics):
            table.touch()

    with pytest.raises(UserError, match=r"pretrain\.parquet: changed while base was reading it"):
        run_stage(checkout, Recorder(change), save_minutes=0.0)
    assert not (checkout / "artifacts" / "base").exists()
    assert not (checkout / "reports").exists()
    states = (checkout / ".state" / "base").glob("*/vision_tower/step-*")
    assert bool(list(states)) == (part == "llm")


def test_what_went_on_costs_the_time_of_all_its_processes(checkout, monkeypatch):
    def stop(metrics, step):
        os.kill(os.getpid(), signal.SIGTERM)

    began = time.monotonic()
    with pytest.raises(StoppedError):
        run_stage(checkout, Recorder(stop))
    [noted] = (checkout / ".state" / "base").glob("*/seconds")
    assert 0 < float(noted.read_text()) < time.monotonic() - began
    noted.write_text("7200.5\n")  # as if it had been two hours
    began, tracker = time.monotonic(), Recorder()
    cost = read_json(run_stage(checkout, tracker).reports / "cost.json")
    assert tracker.earlier == 7200.5
    assert 7200.5 + cost["parts"]["llm"]["seconds"] < cost["seconds"] < 7200.5 + time.monotonic() - began
    assert cost["hours"] == pytest.approx(cost["seconds"] / 3600)
    assert cost["mfu"] * cost["seconds"] * cost["peak_flops_per_second"] == pytest.approx(
        cost["flops"] + cost["validation_flops"]
    )
    assert cost["money"] == pytest.approx(cost["hours"] * cost["price_per_hour"])
    assert not list((checkout / ".state" / "base").iterdir())


def test_another_process_notes_the_time_of_the_whole_stage(tmp_path):
    (tmp_path / "seconds").write_text("50.0\n")
    clock = StageClock(tmp_path / "seconds")
    time.sleep(0.05)
    pickle.loads(pickle.dumps(clock)).note()
    assert 50.05 <= float((tmp_path / "seconds").read_text()) < 60
    assert StageClock(tmp_path / "seconds").earlier > 50


@pytest.mark.parametrize("left", ["", "5.0.1", "-3", "nan", "inf"])
def test_a_damaged_note_of_the_time_counts_as_none(tmp_path, left):
    (tmp_path / "seconds").write_text(left)
    assert StageClock(tmp_path / "seconds").earlier == 0


def test_two_brought_models_need_no_rows(checkout, tmp_path, monkeypatch):
    made = run_stage(checkout, source="random").artifacts
    for part in ("vision_tower", "llm", "tokenizer"):
        shutil.copytree(made / part, tmp_path / "models" / part)

    def bring_vision_tower(source, directory):
        shutil.copytree(source, directory)

    def bring_language_model(source, tokenizer, llm_directory, tokenizer_directory, *, checkpoint, config):
        shutil.copytree(source, llm_directory)
        shutil.copytree(tokenizer, tokenizer_directory)

    double = SimpleNamespace(bring_vision_tower=bring_vision_tower, bring_language_model=bring_language_model)
    monkeypatch.setitem(sys.modules, "minivlm.training.pretrained", double)
    monkeypatch.setattr(minivlm.training, "pretrained", double, raising=False)

    def place(part):
        folder = tmp_path / "models" / part
        return {"pretrained": {"path": str(folder), "sha256": sha256_tree(folder)}}

    places = {part: place(part) for part in ("vision_tower", "llm", "tokenizer")}
    stage = run_stage(tmp_path / "bare", source="local", **places)
    layout = read_json(stage.artifacts / "layout.json")
    assert layout.pop("base_models") == ["a vision tower of your own", "a language model of your own"]
    write_json(stage.artifacts / "layout.json", layout)
    with_hash_of(stage.artifacts, "layout.json")
    assert tree(stage.artifacts) == tree(made)
    assert str(tmp_path) not in (stage.reports / "metrics.json").read_text(encoding="utf-8")
    assert "source" not in stage.tracker.metrics["llm"]
