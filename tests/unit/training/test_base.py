"""The stage base at toy size: one directory whose parts load, fit each other, and are the same every time."""

import json
import os
import shutil
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import CLIPVisionModel, LlamaForCausalLM

from minivlm.config import Base
from minivlm.data.encoding import ChatEncoder, image_token_count
from minivlm.data.pairs import is_validation, picture_key
from minivlm.data.rows import Row
from minivlm.data.validation.conversation import Turn
from minivlm.errors import StoppedError, UserError
from minivlm.model.checkpoint import load_strictly, make_processor
from minivlm.model.fingerprint import check_fingerprint
from minivlm.training import base, base_llm, loop, tower
from minivlm.training.base import train_base
from minivlm.training.keeping import Keep
from minivlm.training.result import FitResult
from minivlm.training.states import StateFolder
from tests.unit.data.toys import picture, tree

OPTIMIZATION = {"epochs": 1, "learning_rate": 1e-3, "precision": "fp32"}
SECTION = Base.model_validate(
    {
        "source": "train",
        "vision_feature_layer": -1,
        "validation_fraction": 0.2,
        "tokenizer": {"vocabulary": 300, "min_frequency": 2, "longest_token": 6},
        "vision_tower": {
            "image_size": 16, "patch_size": 8, "hidden_size": 16, "layers": 1, "text_layers": 1, "heads": 2,
            "intermediate_size": 32, "projection_size": 8, "batch_size": 8, "phrases": 64,
            "phrase_weight": 0.25, "grayscale": 0.2, **OPTIMIZATION,
        },
        "llm": {
            "hidden_size": 16, "layers": 1, "heads": 2, "key_value_heads": 1, "intermediate_size": 32,
            "max_position_embeddings": 128, "rope_theta": 1e4, "batch_tokens": 512, **OPTIMIZATION,
        },
    }
)  # fmt: skip
SHARED = {
    "device": "cpu", "validations": 1, "log_steps": 10, "price_per_hour": None, "currency": "",
    "on_log": lambda step, metrics: None,
}  # fmt: skip


def row(split, i, pictures=True):
    question = "<image>\n有几只鸟?" if pictures else "你好"
    turns = [Turn("user", question), Turn("assistant", f"图中有{'一二三四'[i % 4]}只红色的鸟。" * (1 + i % 2))]
    return Row(i, f"{split}:{i}", turns, (picture(i % 20),) if pictures else ())


def rows():
    return {
        "pretrain": [row("pretrain", i) for i in range(24)],
        "sft": [row("sft", i, pictures=i % 6 != 5) for i in range(12)],
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.set_num_threads(1)  # set up before `one_thread` is
    directory = tmp_path_factory.mktemp("base")
    return directory, train_base(rows(), directory, SECTION, seed=0, shared=SHARED)


def test_every_part_loads_and_they_fit_each_other(trained):
    directory, metrics = trained
    encoder = ChatEncoder(directory / "tokenizer")
    llm = load_strictly(LlamaForCausalLM, directory / "llm")
    vision = load_strictly(CLIPVisionModel, directory / "vision_tower")
    assert llm.config.vocab_size == encoder.vocabulary == metrics["tokenizer"]["tokens"]
    assert [llm.config.pad_token_id, llm.config.bos_token_id, llm.config.eos_token_id] == encoder.special_ids[:3]
    assert check_fingerprint(llm, directory) == pytest.approx(metrics["llm"]["fingerprint_loss"], abs=1e-5)
    assert image_token_count(directory / "vision_tower") == 4
    assert vision.config.hidden_size == 16
    assert json.loads((directory / "layout.json").read_text()) == {"vision_feature_layer": -1}


def test_the_figures_of_every_part_are_finite(trained):
    _, metrics = trained
    assert set(metrics) == {"tokenizer", "vision_tower", "llm"}
    for figures in metrics.values():
        assert all(np.isfinite(value) for value in figures.values())
    assert metrics["vision_tower"]["val_loss"] > 0
    assert metrics["llm"]["val_loss"] > 0


def test_side_by_side_they_are_the_same_as_one_after_the_other(trained, tmp_path):
    torch.set_num_threads(2)
    logged = []
    shared = SHARED | {"on_log": lambda step, metrics: logged.extend(metrics)}
    assert train_base(rows(), tmp_path / "base", SECTION, seed=0, shared=shared) == trained[1]
    assert torch.get_num_threads() == 2
    assert tree(tmp_path / "base") == tree(trained[0])
    assert {name.split(".")[0] for name in logged} == {"vision_tower", "llm"}


def test_the_same_rows_and_seed_give_the_same_bytes(trained, tmp_path):
    assert train_base(rows(), tmp_path / "base", SECTION, seed=0, shared=SHARED) == trained[1]
    assert tree(tmp_path / "base") == tree(trained[0])
    other = train_base(rows(), tmp_path / "other", SECTION, seed=1, shared=SHARED)
    assert other["llm"]["fingerprint_loss"] != trained[1]["llm"]["fingerprint_loss"]


class KilledError(Exception):
    """Stands for SIGKILL where a process cannot be spared."""


@pytest.mark.parametrize("part", ["vision_tower", "llm"])
def test_a_training_that_was_killed_goes_on_to_the_same_bytes_and_tells_each_step_once(trained, tmp_path, part):
    save, told = StateFolder.save, []

    def save_and_die(self, state):
        save(self, state)
        if self.path.name == part and state.result.steps == 2:
            raise KilledError

    shared = SHARED | {"log_steps": 1, "on_log": lambda step, metrics, time: told.append((step, *metrics, time))}
    keep = Keep(tmp_path / "state", 0.0)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(StateFolder, "save", save_and_die)
        train_base(rows(), tmp_path / "base", SECTION, seed=0, shared=shared, keep=keep)
    first = list(told)
    told.clear()
    shutil.rmtree(tmp_path / "base")
    assert train_base(rows(), tmp_path / "base", SECTION, seed=0, shared=shared, keep=keep) == trained[1]
    assert tree(tmp_path / "base") == tree(trained[0])
    assert set(first) <= set(told) and len(told) == len({(step, name) for step, name, *_ in told}) > len(first) > 0


@pytest.mark.parametrize("threads", [1, 2])
def test_a_signal_stops_both_and_they_go_on_to_the_same_bytes(trained, tmp_path, threads):
    torch.set_num_threads(threads)
    keep = Keep(tmp_path / "state", 60.0)
    shared = SHARED | {"on_log": lambda step, metrics, time: os.kill(os.getpid(), signal.SIGTERM)}
    with pytest.raises(StoppedError, match="base: vision tower: after step 1 of"):
        train_base(rows(), tmp_path / "base", SECTION, seed=0, shared=shared, keep=keep)
    assert len(list((tmp_path / "state" / "vision_tower").glob("step-00000001-*"))) == 1
    shutil.rmtree(tmp_path / "base")
    shared = SHARED | {"on_log": lambda step, metrics, time: None}
    assert train_base(rows(), tmp_path / "base", SECTION, seed=0, shared=shared, keep=keep) == trained[1]
    assert tree(tmp_path / "base") == tree(trained[0])


@pytest.mark.parametrize("minutes", [None, 60.0])
def test_ctrl_c_before_the_language_model_beside_has_begun_is_no_process_that_was_killed(
    tmp_path, monkeypatch, minutes
):
    def make_vision_tower(*arguments):
        # The other process imports for a second, and receives no signal as a wish yet.
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        return {}

    monkeypatch.setattr(base, "make_vision_tower", make_vision_tower)
    torch.set_num_threads(2)
    llm = SECTION.llm.model_copy(update={"epochs": 100_000})
    section = SECTION.model_copy(update={"llm": llm})
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # in the background a shell lets it be ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            train_base(
                rows(), tmp_path / "base", section, seed=0, shared=SHARED, keep=Keep(tmp_path / "state", minutes)
            )
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_too_late_for_the_tower_ends_it_before_the_language_model(tmp_path, monkeypatch):
    fit = loop.fit

    def fit_and_be_told(*arguments, **options):
        result = fit(*arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(loop, "fit", fit_and_be_told)
    shared = SHARED | {"on_log": lambda step, metrics, time: None}
    with pytest.raises(KeyboardInterrupt):
        train_base(rows(), tmp_path / "base", SECTION, seed=0, shared=shared, keep=Keep(tmp_path / "state", 60.0))
    assert not (tmp_path / "state" / "llm").exists()


def test_neither_model_is_trained_on_a_picture_that_is_held_back(monkeypatch, tmp_path):
    seen = {}

    class EnoughError(Exception):
        pass

    def keep_tower(pairs, captions, validation, directory, **options):
        seen["tower"] = (pairs, validation)
        return FitResult()

    def keep_llm(tasks, validation, directory, **options):
        seen["llm"] = (tasks, validation)
        raise EnoughError

    monkeypatch.setattr(tower, "train_tower", keep_tower)
    monkeypatch.setattr(base_llm, "train_llm", keep_llm)
    with pytest.raises(EnoughError):
        train_base(rows(), tmp_path / "base", SECTION, seed=0, shared=SHARED)
    of_split = rows()
    expected = [is_validation(picture_key(each), 0.2) for split in of_split.values() for each in split]
    assert any(expected)
    assert not all(expected)
    pairs, held = seen["tower"]
    assert held.tolist() == expected[: len(pairs.captions)]
    assert seen["llm"][1].tolist() == expected
    for task, each in zip(seen["llm"][0], [*of_split["pretrain"], *of_split["sft"]], strict=True):
        assert task.sources, each.id
        assert task.mask.any(), each.id


def test_rows_without_pictures_cannot_make_a_tower(tmp_path):
    some = {"pretrain": [row("pretrain", i, pictures=False) for i in range(8)], "sft": []}
    with pytest.raises(UserError, match="no row of the training data has a picture"):
        train_base(some, tmp_path / "base", SECTION, seed=0, shared=SHARED)


def test_pictures_that_are_all_held_back_cannot_make_a_tower(tmp_path):
    with pytest.raises(UserError, match=r"all pictures would be kept .* base\.validation_fraction"):
        train_base(
            {"pretrain": [row("pretrain", 0)], "sft": [row("sft", 1)]},
            tmp_path / "base",
            SECTION.model_copy(update={"validation_fraction": 0.999999}),
            seed=0,
            shared=SHARED,
        )


def test_the_processor_of_later_stages_can_be_made_of_it(trained):
    vision = SimpleNamespace(patch_size=8)
    config = SimpleNamespace(vision_config=vision, vision_feature_select_strategy="default")
    processor = make_processor(trained[0], config)
    assert processor.image_token == "<image>"
    assert processor.chat_template


def test_fewer_pictures_than_a_batch_are_seen_as_often_as_asked(tmp_path):
    few = {split: some[:6] for split, some in rows().items()}
    section = SECTION.model_copy(
        update={"vision_tower": SECTION.vision_tower.model_copy(update={"epochs": 5}), "validation_fraction": 0.0}
    )
    assert train_base(few, tmp_path, section, seed=0, shared=SHARED)["vision_tower"]["steps"] == 5


def test_answers_longer_than_the_model_are_cut_to_fit(tmp_path):
    turns = [Turn("user", "<image>\n有几只鸟?"), Turn("assistant", "图中有三只红色的鸟。" * 300)]
    long = {"pretrain": [Row(i, f"pretrain:{i}", turns, (picture(i),)) for i in range(8)], "sft": []}
    assert train_base(long, tmp_path, SECTION, seed=0, shared=SHARED)["llm"]["steps"] > 0


def test_rows_of_several_pictures_can_be_learnt_from(tmp_path):
    some = rows()
    turns = [Turn("user", "<image><image>\n哪一张有鸟?"), Turn("assistant", "图中有两只红色的鸟。")]
    some["sft"] += [Row(i, f"sft:{i}", turns, (picture(i % 20), picture(i % 7))) for i in range(12, 20)]
    metrics = train_base(some, tmp_path, SECTION, seed=0, shared=SHARED)
    assert metrics["llm"]["steps"] > 0 and np.isfinite(metrics["llm"]["train_loss"])
