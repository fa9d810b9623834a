"""Every part of the base from its own source: trained on texts, drawn, or brought; and in any mixture of them."""

import gzip
import hashlib
import json
import math
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import minivlm.training
from minivlm.config import Base
from minivlm.data.encoding import ChatEncoder
from minivlm.data.texts import TextFile
from minivlm.errors import UserError
from minivlm.files import read_json, write_json
from minivlm.training import base_language
from minivlm.training.base import train_base
from tests.unit.data.toys import tree, with_hash_of
from tests.unit.training.test_base import SECTION, SHARED, rows


def section(tower="train", llm="train", **values):
    """The toy section of test_base with other sources; `values` go to the language model's."""
    changed = SECTION.model_dump(exclude_none=True)
    changed["vision_tower"] |= {"source": tower} | ({"pretrained": {}} if tower in ("hub", "local") else {})
    changed["llm"] |= {"source": llm} | ({"pretrained": {}} if llm in ("hub", "local") else {}) | values
    return Base.model_validate(changed)


def make(directory, of, data=None, seed=0, **options):
    return train_base(rows() if data is None else data, directory, of, seed=seed, shared=SHARED, **options)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A plain file of texts, a gzipped one of conversations."""
    folder = tmp_path_factory.mktemp("texts")
    plain, packed = folder / "texts.jsonl", folder / "chats.jsonl.gz"
    said = [f"山上有{'一二三四五'[i % 5]}棵树,树下有{'一二三四'[i % 4]}只鸟。" * (1 + i % 9) for i in range(80)]
    lines = [{"text": text} for text in said]
    plain.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), encoding="utf-8")
    chats = [
        {"conversations": [{"role": "user", "content": f"{i}只鸟?"}, {"role": "assistant", "content": f"{i}只。"}]}
        for i in range(40)
    ]
    packed.write_bytes(gzip.compress("\n".join(map(json.dumps, chats)).encode()))
    return [TextFile(path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in (plain, packed)]


@pytest.fixture(scope="module")
def on_texts(texts, tmp_path_factory):
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("on_texts") / "base"
    directory.mkdir()
    return directory, make(directory, section(tower="random", epochs=2, text_tasks=False), texts=texts)


class Unread:
    """Rows that nobody may go through."""

    def __iter__(self):
        raise AssertionError("these rows are not needed")


UNREAD = {"pretrain": Unread(), "sft": Unread()}


@pytest.fixture
def brought(trained, monkeypatch):
    """Folders of parts that exist, and a double of the module that brings them: it copies."""
    calls = []

    def bring_vision_tower(source, directory):
        calls.append(source)
        shutil.copytree(source, directory)

    def bring_language_model(source, tokenizer, llm_directory, tokenizer_directory, *, checkpoint=None, config=()):
        calls.append((source, tokenizer, checkpoint, dict(config)))
        shutil.copytree(source, llm_directory)
        shutil.copytree(tokenizer, tokenizer_directory)

    double = SimpleNamespace(bring_vision_tower=bring_vision_tower, bring_language_model=bring_language_model)
    monkeypatch.setitem(sys.modules, "minivlm.training.pretrained", double)
    monkeypatch.setattr(minivlm.training, "pretrained", double, raising=False)
    folders = {part: trained / part for part in ("vision_tower", "llm", "tokenizer")}
    return SimpleNamespace(calls=calls, folders=folders)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("sources") / "base"
    directory.mkdir()
    make(directory, SECTION)
    return directory


def test_texts_alone_make_a_language_model_with_its_figures(on_texts):
    directory, metrics = on_texts
    llm = metrics["llm"]
    assert llm["text_documents"] == 120
    assert llm["val_loss"] == llm["text_val_loss"]
    assert llm["text_perplexity"] == pytest.approx(math.exp(llm["text_val_loss"]), rel=1e-4)
    assert llm["text_perplexity"] < metrics["tokenizer"]["tokens"]
    assert "task_val_loss" not in llm
    assert llm["tokens"] < 2 * llm["text_tokens"]
    assert sorted(path.name for path in directory.iterdir()) == [
        "fingerprint.json", "layout.json", "llm", "tokenizer", "vision_tower",
    ]  # fmt: skip


def test_the_tokens_of_the_texts_are_removed_afterwards(on_texts):
    assert [path.name for path in on_texts[0].parent.iterdir()] == ["base"]


def test_they_are_removed_after_a_failure_too(texts, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        [folder] = (path for path in tmp_path.iterdir() if path.name != "base")
        assert folder.name.startswith(".base.")
        assert (folder / "tokens.bin").stat().st_size > 1000
        raise KeyboardInterrupt

    monkeypatch.setattr("minivlm.training.base_llm.train_llm", fail)
    (tmp_path / "base").mkdir()
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "base", section(tower="random", text_tasks=False), texts=texts)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_the_tokenizer_knows_the_rows_and_the_texts(on_texts):
    encoder = ChatEncoder(on_texts[0] / "tokenizer")
    of_rows, of_texts = "红色", "树"
    for text in (of_rows, of_texts):
        [ids] = encoder.encode_plain([text], framed=False)
        assert len(ids) < len(text.encode()), text


@pytest.fixture(scope="module")
def on_both(texts, tmp_path_factory):
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("on_both") / "base"
    directory.mkdir()
    return directory, make(directory, section(epochs=0.5), texts=texts)


def test_text_tasks_and_texts_together_have_a_loss_each(on_both):
    llm = on_both[1]["llm"]
    losses = sorted([llm["task_val_loss"], llm["text_val_loss"]])
    assert losses[0] <= llm["val_loss"] <= losses[1]
    assert llm["text_perplexity"] == pytest.approx(math.exp(llm["text_val_loss"]), rel=1e-4)
    assert llm["text_unigram_perplexity"] > 1


@pytest.mark.slow
def test_the_same_texts_give_the_same_bytes_side_by_side(on_both, texts, tmp_path):
    torch.set_num_threads(2)
    (tmp_path / "base").mkdir()
    assert make(tmp_path / "base", section(epochs=0.5), texts=texts) == on_both[1]
    assert tree(tmp_path / "base") == tree(on_both[0])
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_another_seed_gives_another_model_of_the_same_tokenizer(on_both, texts, tmp_path):
    (tmp_path / "base").mkdir()
    make(tmp_path / "base", section(epochs=0.5), texts=texts, seed=1)
    assert tree(tmp_path / "base" / "tokenizer") == tree(on_both[0] / "tokenizer")
    assert tree(tmp_path / "base" / "llm") != tree(on_both[0] / "llm")


def test_random_parts_have_their_sizes_and_are_trained_for_no_step(tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        metrics = make(tmp_path / name, section(tower="random", llm="random"), seed=seed)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    for part in ("vision_tower", "llm"):
        weights = [load_file(tmp_path / name / part / "model.safetensors") for name in ("one", "other")]
        assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
        count = sum(weight.numel() for weight in weights[0].values())
        figures = {"source": "random", "parameters": count, "steps": 0}
        assert metrics[part].items() >= figures.items()
    assert metrics["tokenizer"]["tokens"] > 260


def test_a_random_tower_needs_no_picture(tmp_path):
    data = {split: [each._replace(pictures=()) for each in some] for split, some in rows().items()}
    (tmp_path / "base").mkdir()
    assert make(tmp_path / "base", section(tower="random", llm="random"), data)["vision_tower"]["steps"] == 0


def test_no_row_is_read_when_both_models_are_brought(brought, trained, tmp_path):
    (tmp_path / "base").mkdir()
    metrics = make(tmp_path / "base", section(tower="hub", llm="local"), UNREAD, brought=brought.folders)
    layout = read_json(tmp_path / "base" / "layout.json")
    assert layout.pop("base_models") == ["a vision tower of your own", "a language model of your own"]
    write_json(tmp_path / "base" / "layout.json", layout)
    with_hash_of(tmp_path / "base", "layout.json")
    assert tree(tmp_path / "base") == tree(trained)
    assert brought.calls == [
        (brought.folders["llm"], brought.folders["tokenizer"], None, {}), brought.folders["vision_tower"],
    ]  # fmt: skip
    assert metrics["vision_tower"].keys() == {"source", "parameters"}
    assert metrics["llm"].keys() == {"source", "parameters", "fingerprint_loss"}
    assert (metrics["vision_tower"]["source"], metrics["llm"]["source"]) == ("hub", "local")
    assert str(tmp_path) not in json.dumps(metrics)


def test_what_was_made_here_can_be_brought_again_weight_by_weight(trained, tmp_path):
    (tmp_path / "base").mkdir()
    folders = {part: trained / part for part in ("vision_tower", "llm", "tokenizer")}
    metrics = make(tmp_path / "base", section(tower="local", llm="local"), UNREAD, brought=folders)
    for part in ("vision_tower", "llm"):
        weights, made = (load_file(base / part / "model.safetensors") for base in (tmp_path / "base", trained))
        assert weights.keys() == made.keys()
        assert all(torch.equal(weights[name], made[name]) for name in made)
        assert metrics[part]["parameters"] == sum(weight.numel() for weight in made.values())
    text = "图中有三只红色的鸟。"
    [[ids], [expected]] = (
        ChatEncoder(base / "tokenizer").encode_plain([text]) for base in (tmp_path / "base", trained)
    )
    assert ids.tolist() == expected.tolist()


def test_the_tokenizer_lies_beside_the_language_model_unless_named(brought, tmp_path):
    llm, tokenizer = brought.folders["llm"], brought.folders.pop("tokenizer")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert not (llm / name).exists()
    both = tmp_path / "both"
    shutil.copytree(llm, both)
    shutil.copytree(tokenizer, both, dirs_exist_ok=True)
    (tmp_path / "base").mkdir()
    make(tmp_path / "base", section(tower="random", llm="hub"), UNREAD, brought={"llm": both})
    assert brought.calls == [(both, both, None, {})]


def test_a_checkpoint_and_what_its_shapes_do_not_say_are_passed_on(brought, tmp_path):
    values = section(tower="random", llm="hub").model_dump(exclude_none=True)
    values["llm"]["pretrained"] = {"checkpoint": "llm_512.pth", "config": {"num_key_value_heads": 2}}
    (tmp_path / "base").mkdir()
    make(tmp_path / "base", Base.model_validate(values), UNREAD, brought=brought.folders)
    assert brought.calls[0][2:] == ("llm_512.pth", {"num_key_value_heads": 2})


def test_a_tower_is_trained_on_the_captions_in_the_tokens_of_a_brought_language_model(brought, trained, tmp_path):
    (tmp_path / "base").mkdir()
    metrics = make(tmp_path / "base", section(tower="train", llm="hub"), brought=brought.folders)
    assert metrics["vision_tower"]["steps"] > 0
    assert tree(tmp_path / "base" / "vision_tower") == tree(trained / "vision_tower")  # the tokenizer is the same


def test_a_language_model_is_trained_beside_a_brought_tower(brought, trained, tmp_path):
    (tmp_path / "base").mkdir()
    torch.set_num_threads(2)
    metrics = make(tmp_path / "base", section(tower="local", llm="train"), brought=brought.folders)
    assert metrics["vision_tower"]["source"] == "local"
    assert metrics["llm"]["steps"] > 0
    assert tree(tmp_path / "base" / "tokenizer") == tree(trained / "tokenizer")


def test_a_layer_that_a_brought_tower_does_not_have_is_refused(brought, tmp_path):
    deep = section(tower="hub", llm="random").model_copy(update={"vision_feature_layer": -9})
    (tmp_path / "base").mkdir()
    with pytest.raises(UserError, match=r"vision_feature_layer -9 is not in -2 to 1"):
        make(tmp_path / "base", deep, brought=brought.folders)


def test_parameters_are_counted_in_every_file_of_a_sharded_model(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(3, 4)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(5), "c": torch.zeros(())}, tmp_path / "model-00002-of-00002.safetensors")
    assert base_language.parameter_count(tmp_path) == 18


@pytest.mark.parametrize(
    ("of", "with_texts", "message"),
    [
        (section(text_tasks=False), False, "nothing to train on"),
        (section(llm="hub"), True, "nothing learns from them"),
        (section(text_length=129), True, "text_length 129 is more than max_position_embeddings 128"),
    ],
)
def test_values_that_exclude_each_other_are_refused_before_any_work(texts, tmp_path, of, with_texts, message):
    with pytest.raises(UserError, match=message):
        make(tmp_path / "base", of, UNREAD, texts=texts if with_texts else ())


def test_a_bad_line_stops_the_stage_before_any_work(texts, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": ""}\n')
    bad = TextFile(path, hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(UserError, match=r"a\.jsonl: line 2: text is empty"):
        make(tmp_path / "base", section(), UNREAD, texts=[*texts, bad])
    assert not (tmp_path / "base").exists()
