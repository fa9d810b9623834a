"""A stage from stores to reports, and what it refuses to start with."""

import csv
import itertools
import os
import re
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from minivlm.config import Prices
from minivlm.data.store import TokenStore
from minivlm.errors import StoppedError, TrainingError, UserError
from minivlm.files import read_json, sha256_tree, write_json
from minivlm.model import checkpoint
from minivlm.model.llava import assemble
from minivlm.tracking import NullRun
from minivlm.training import loop
from minivlm.training.places import Machine, Places
from minivlm.training.result import DivergedError
from minivlm.training.resume import trained_state
from minivlm.training.states import OTHERS_KEPT
from minivlm.training.vision_language import train_vision_language
from tests.unit.model.tiny import picture, rows
from tests.unit.training.stores import write_inputs

OPTIONS = dict(
    epochs=2.0,
    learning_rate=1e-2,
    min_learning_rate_ratio=0.1,
    warmup_ratio=0.1,
    weight_decay=0.01,
    max_grad_norm=1.0,
    precision="fp32",
    batch_tokens=128,
    accumulation=2,
    compile=False,
    validations=2,
    log_steps=3,
)


class Notes(NullRun):
    """A tracker that remembers, and does something at a step."""

    def __init__(self, run=""):
        super().__init__()
        self.points, self.results, self.artifacts, self.times = [], {}, [], []
        self._run, self._at = run, {}

    @property
    def id(self):
        return self._run

    def go_on(self, run, seconds=0.0):
        self._run = run

    def at(self, step, action):
        self._at[step] = action

    def log_metrics(self, metrics, step=None, time_ms=None):
        if step is None:
            self.results.update(metrics)
        else:
            self.points.append((step, metrics))
            self.times.append(time_ms)
            self._at.get(step, lambda: None)()

    def log_artifact(self, path, folder=""):
        self.artifacts.append(path.name)


@pytest.fixture(scope="module")
def root(base, tmp_path_factory):
    root = tmp_path_factory.mktemp("stage")
    write_inputs(base, root / "base", root / "tokens", root / "pictures")
    return root


PRICES = Prices(currency="CNY", cpu_hour=1.0, gpu_hour={"RTX 4090": 2.0})


def train(
    root, out, *, stage="pretrain", freeze="projector", start=None, tracker=None, features=None, save_minutes=None,
    is_over=True, **options,
):  # fmt: skip
    finish = train_vision_language(
        stage,
        places=Places(
            base=root / "base",
            start=start,
            tokens=root / "tokens",
            pictures=root / "pictures",
            artifacts=out / "artifacts",
            reports=out / "reports",
            state=out / "state",
            features=features,
        ),
        machine=Machine("cpu", 1, 0, PRICES, save_minutes=save_minutes),
        tracker=tracker or NullRun(),
        seed=4,
        freeze=freeze,
        **{**OPTIONS, **options},
    )
    if is_over:
        finish()
    return out


@pytest.fixture(scope="module")
def pretrained(root, tmp_path_factory):
    return train(root, tmp_path_factory.mktemp("pretrain"))


def test_it_writes_the_model_the_last_state_and_the_reports(root, pretrained):
    metrics = read_json(pretrained / "reports" / "metrics.json")
    assert metrics.keys() == {
        "train_loss", "val_loss", "steps", "samples", "tokens", "best_step", "trained_parameters"
    }  # fmt: skip
    assert (metrics["samples"], metrics["trained_parameters"]) == (40, 24 * 32)
    trained = read_json(pretrained / "reports" / "trained_parameters.json")
    assert trained["parameters"] == {"model.multi_modal_projector.linear_1.weight": 24 * 32}
    with (pretrained / "reports" / "loss.csv").open(newline="") as stream:
        history = list(csv.DictReader(stream))
    assert list(history[0]) == ["step", "loss", "val_loss", "learning_rate", "grad_norm"]
    assert history[0]["val_loss"] == "" and float(history[-1]["val_loss"]) >= metrics["val_loss"]
    assert int(history[-1]["step"]) == metrics["steps"]
    cost = read_json(pretrained / "reports" / "cost.json")
    assert cost["samples"] == 40 and cost["flops"] > 2 * cost["validation_flops"] > 0
    assert cost["projected"].keys() == {"RTX 3090", "RTX 4090", "H200"}
    last = load_file(pretrained / "artifacts" / "last.safetensors")
    assert last.keys() == trained["parameters"].keys()


def test_only_the_projector_of_the_base_models_has_changed(root, pretrained):
    before = assemble(root / "base", seed=4).state_dict()
    after = checkpoint.load(pretrained / "artifacts" / "model").state_dict()
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert moved == {"model.multi_modal_projector.linear_1.weight"}


def test_the_saved_model_has_the_best_validation_loss(root, pretrained):
    """Computed again from what was saved, by transformers' own forward pass over the validation rows."""
    model = checkpoint.load(pretrained / "artifacts" / "model")
    mean, std = checkpoint.normalization(root / "base")
    torch.manual_seed(3)
    nats = count = 0.0
    for row in rows(24, pictures=6)[5::6]:
        labels = torch.tensor([row.ids]).masked_fill(~torch.tensor([row.mask]), -100)
        pixels = torch.stack([picture(number) for number in row.pictures]) if row.pictures else None
        if pixels is not None:
            pixels = (pixels / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([row.ids]), pixel_values=pixels, labels=labels).loss
        nats += float(loss) * sum(row.mask)
        count += sum(row.mask)
    assert nats / count == pytest.approx(read_json(pretrained / "reports" / "metrics.json")["val_loss"], rel=1e-4)


def test_the_second_stage_goes_on_from_the_first(root, pretrained, tmp_path):
    tracker = Notes()
    start = pretrained / "artifacts" / "model"
    train(root, tmp_path, stage="sft", freeze="llm", start=start, tracker=tracker)
    step, first = tracker.points[0]
    before = read_json(pretrained / "reports" / "metrics.json")["train_loss"]
    assert step == 1 and first["loss"] == pytest.approx(before, rel=0.1)
    assert tracker.results["train_loss"] < 0.9 * before and tracker.results["money"] > 0
    assert tracker.artifacts == ["trained_parameters.json"]


def test_the_same_seed_writes_the_same_bytes(root, pretrained, tmp_path):
    train(root, tmp_path)
    assert sha256_tree(tmp_path / "artifacts") == sha256_tree(pretrained / "artifacts")
    for name in ("metrics.json", "loss.csv", "trained_parameters.json"):
        assert (tmp_path / "reports" / name).read_bytes() == (pretrained / "reports" / name).read_bytes()


def test_a_stage_on_kept_features_learns_the_same_and_says_what_they_took(
    root, pretrained, tmp_path, monkeypatch, capsys
):
    expected = read_json(pretrained / "reports" / "metrics.json")
    for out, computed in ((tmp_path / "first", 6), (tmp_path / "second", 0)):
        train(root, out, features=tmp_path / "features")
        found = read_json(out / "reports" / "metrics.json")
        for name in ("train_loss", "val_loss"):
            assert found[name] == pytest.approx(expected[name], rel=1e-5)
        cost = read_json(out / "reports" / "cost.json")
        assert cost["features"]["pictures"] == computed
        assert cost["money"] == pytest.approx((cost["seconds"] + cost["features"]["seconds"]) / 3600)
        assert f"{computed:,} of them computed now" in capsys.readouterr().out
        # From here on the features are read: a tower that is run fails.
        monkeypatch.setattr("minivlm.model.vision_language.tower_features", None)
    assert "features" not in read_json(pretrained / "reports" / "cost.json")
    assert sha256_tree(tmp_path / "first" / "artifacts") == sha256_tree(tmp_path / "second" / "artifacts")


def test_a_row_that_does_not_fit_is_refused_before_features_are_computed(root, tmp_path):
    with pytest.raises(UserError, match="does not fit into batch_tokens"):
        train(root, tmp_path, features=tmp_path / "features", batch_tokens=16)
    assert not (tmp_path / "features").exists()


def test_the_tower_has_its_low_precision_before_it_goes_anywhere(root, tmp_path, monkeypatch):
    """On a GPU the weights that are converted would else lie there too, beside what they became."""
    found = []

    def open_features(folder, tower, tokens, pictures, objective, **options):
        found.append(objective.model.model.vision_tower.encoder.layers[0].mlp.fc1.weight.dtype)
        raise UserError("enough")

    monkeypatch.setattr("minivlm.training.feature_cache.open_features", open_features)
    with pytest.raises(UserError, match="enough"):
        train(root, tmp_path, features=tmp_path / "features", precision="bf16")
    assert found == [torch.bfloat16]


def test_a_stage_that_ends_leaves_trainings_that_were_stopped_but_not_the_oldest(root, tmp_path):
    names = [f"stopped{number}" for number in range(OTHERS_KEPT + 1)]
    for age, name in enumerate(names):
        state = tmp_path / "state" / name / "step-00000001-0123456789abcdef.safetensors"
        state.parent.mkdir(parents=True)
        state.touch()
        os.utime(state, times=(time.time() - 100 * age,) * 2)
    train(root, tmp_path, save_minutes=0.0)
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == names[:OTHERS_KEPT]


def test_points_are_on_the_disk_before_a_state_says_that_their_steps_are_done(root, tmp_path, monkeypatch):
    """After a power cut nobody would tell them anew."""
    synced = []
    for module in ("logbook", "states"):
        monkeypatch.setattr(f"minivlm.training.{module}.sync", lambda path: synced.append(path.name))
    train(root, tmp_path, save_minutes=0.0)
    kinds = [name.partition("-")[0] for name in synced if name.startswith((".step-", "points"))]
    assert kinds == ["points.jsonl", ".step"] * (len(kinds) // 2) and kinds


def test_until_the_run_is_over_a_training_that_has_ended_can_be_gone_on_with(root, pretrained, tmp_path, capsys):
    train(root, tmp_path, save_minutes=0.0, is_over=False)
    shutil.rmtree(tmp_path / "artifacts")  # as DVC does before a stage
    train(root, tmp_path, save_minutes=0.0)
    assert "goes on after step" in capsys.readouterr().out
    assert sha256_tree(tmp_path / "artifacts") == sha256_tree(pretrained / "artifacts")
    assert not list((tmp_path / "state").iterdir())


def test_a_training_that_is_stopped_while_its_model_is_written_takes_no_step_anew(
    root, pretrained, tmp_path, monkeypatch, capsys
):
    def die(*arguments):
        raise KilledError

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr("minivlm.training.vision_language._write_results", die)
        train(root, tmp_path, save_minutes=60.0)
    monkeypatch.setattr("minivlm.training.loop._gradients", die)
    train(root, tmp_path, save_minutes=60.0)
    steps = read_json(tmp_path / "reports" / "metrics.json")["steps"]
    assert f"in {steps} steps over" in (said := capsys.readouterr().out) and f"goes on after step {steps}," in said
    assert sha256_tree(tmp_path / "artifacts") == sha256_tree(pretrained / "artifacts")
    for name in ("metrics.json", "loss.csv"):
        assert (tmp_path / "reports" / name).read_bytes() == (pretrained / "reports" / name).read_bytes()


def test_a_signal_stops_it_with_its_state_saved_and_it_goes_on_as_the_same_run(root, pretrained, tmp_path):
    first, second = Notes("first"), Notes("second")
    first.at(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(StoppedError, match="pretrain: after step 2 of"):
        train(root, tmp_path, tracker=first, save_minutes=60.0, log_steps=1)
    train(root, tmp_path, tracker=second, save_minutes=60.0, log_steps=1)
    assert second.id == "first"
    assert [step for step, _ in second.points] == list(range(1, len(second.points) + 1))
    assert second.points[:2] == first.points and second.times[:2] == first.times
    assert sha256_tree(tmp_path / "artifacts") == sha256_tree(pretrained / "artifacts")


def test_a_signal_after_the_last_step_is_not_dropped(root, pretrained, tmp_path):
    first = Notes("first")
    last = read_json(pretrained / "reports" / "metrics.json")["steps"]
    first.at(last, lambda: os.kill(os.getpid(), signal.SIGTERM))  # its row is told after the last validation
    with pytest.raises(StoppedError, match=f"pretrain: after step {last} of {last}"):
        train(root, tmp_path, tracker=first, save_minutes=60.0)
    assert not (tmp_path / "artifacts").exists()
    train(root, tmp_path, tracker=Notes("second"), save_minutes=60.0)
    assert sha256_tree(tmp_path / "artifacts") == sha256_tree(pretrained / "artifacts")


def test_a_signal_too_late_for_the_training_ends_the_stage(root, tmp_path, monkeypatch):
    fit = loop.fit

    def fit_and_be_told(*arguments, **options):
        result = fit(*arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(loop, "fit", fit_and_be_told)
    with pytest.raises(KeyboardInterrupt):
        train(root, tmp_path, save_minutes=60.0)
    assert not (tmp_path / "artifacts").exists()


class KilledError(Exception):
    """Stands for SIGKILL where a process cannot be spared."""


def test_steps_told_before_a_kill_are_told_again_word_for_word(root, tmp_path):
    def die():
        raise KilledError

    first, second = Notes("first"), Notes("second")
    first.at(4, die)  # no state is saved: all of it is computed again
    with pytest.raises(KilledError):
        train(root, tmp_path, tracker=first, log_steps=1)
    with next((tmp_path / "state").glob("*/points.jsonl")).open("a") as stream:
        stream.write('{"step": 5, "ti')  # the power went
    train(root, tmp_path, tracker=second, log_steps=1)
    assert [step for step, _ in second.points] == list(range(1, len(second.points) + 1))
    assert second.points[:4] == first.points and second.times[:4] == first.times


@pytest.mark.parametrize(("save_minutes", "saved"), [(0.0, ["step-00000001"]), (None, [])])
def test_an_input_that_changes_meanwhile_ends_it_before_anything_is_saved(root, tmp_path, save_minutes, saved):
    own = tmp_path / "root"
    shutil.copytree(root, own)
    tracker = Notes()
    tracker.at(2, lambda: (own / "tokens" / "tokens.bin").touch())
    with pytest.raises(UserError, match=r"tokens\.bin: changed while pretrain was reading it"):
        train(own, tmp_path, tracker=tracker, save_minutes=save_minutes, log_steps=1)
    assert not (tmp_path / "artifacts").exists()
    assert [path.name[:13] for path in (tmp_path / "state").glob("*/step-*")] == saved


def test_an_input_that_changes_after_the_last_save_ends_it_before_a_model_is_written(root, pretrained, tmp_path):
    own = shutil.copytree(root, tmp_path / "root")
    tracker = Notes()
    last = read_json(pretrained / "reports" / "metrics.json")["steps"]
    tracker.at(last, lambda: (own / "tokens" / "tokens.bin").touch())
    with pytest.raises(UserError, match=r"tokens\.bin: changed while pretrain was reading it"):
        train(own, tmp_path, tracker=tracker)
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize(("max_length", "fewer", "more"), [(30, 64, 4), (100, 100, 3)])
def test_too_little_memory_names_what_to_lower_and_to_what(root, tmp_path, monkeypatch, max_length, fewer, more):
    """Not below the longest that a row may be, though none of these is that long: it would be refused."""
    tokens = shutil.copytree(root / "tokens", tmp_path / "root" / "tokens")
    write_json(tokens / "meta.json", read_json(tokens / "meta.json") | {"max_length": max_length})
    for name in ("base", "pictures"):
        (tmp_path / "root" / name).symlink_to(root / name)

    def fit(objective, steps, **options):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("minivlm.training.loop.fit", fit)
    advice = rf"out of memory on this machine; set pretrain\.batch_tokens to {fewer} .*accumulation to {more}:"
    with pytest.raises(TrainingError, match=advice):
        train(tmp_path / "root", tmp_path)


def test_too_little_memory_for_the_features_says_to_do_without_them(root, tmp_path, monkeypatch):
    def picture_features(self, pixels):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("minivlm.model.vision_language.VisionLanguageLoss.picture_features", picture_features)
    with pytest.raises(TrainingError, match=r"out of memory on this machine; set runtime\.feature_cache to false"):
        train(root, tmp_path, features=tmp_path / "features")


def test_a_loading_process_killed_during_a_step_is_one_line(root, tmp_path, monkeypatch):
    def fit(objective, steps, **options):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")  # where torch raises it

    monkeypatch.setattr("minivlm.training.loop.fit", fit)
    with pytest.raises(UserError, match=r"process that loads rows was killed .*lower runtime\.workers"):
        train(root, tmp_path)


def test_an_error_of_another_kind_is_not_taken_for_one_of_memory(root, tmp_path, monkeypatch):
    def fit(objective, steps, **options):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("minivlm.training.loop.fit", fit)
    with pytest.raises(RuntimeError, match="shapes"):
        train(root, tmp_path)


def test_other_weights_than_were_saved_are_refused(root, pretrained, tmp_path):
    start = shutil.copytree(pretrained / "artifacts" / "model", tmp_path / "model")
    model = checkpoint.load(start)
    with torch.no_grad():
        model.model.language_model.layers[0].mlp.up_proj.weight.mul_(1.2)
    model.save_pretrained(start)
    with pytest.raises(UserError, match="not the file that the model was saved with"):
        train(root, tmp_path, stage="sft", start=start)
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *((name, lambda content: content + b" ") for name in ("tokenizer.json", "processor_config.json")),
        ("chat_template.jinja", lambda content: content.upper()),
        ("model.safetensors", lambda content: content[: len(content) // 2]),  # loading it would speak of a header
    ],
)
def test_the_second_stage_does_not_start_with_a_file_exchanged_for_another(
    root, pretrained, tmp_path, name, change
):
    start = shutil.copytree(pretrained / "artifacts" / "model", tmp_path / "model")
    (start / name).write_bytes(change((start / name).read_bytes()))
    with pytest.raises(UserError, match=f"{name}: not the file that the model was saved with"):
        train(root, tmp_path, stage="sft", start=start)
    assert not (tmp_path / "artifacts").exists()


def test_rows_encoded_with_another_tokenizer_are_not_trained_on(root, tmp_path):
    own = shutil.copytree(root, tmp_path / "root")
    meta = read_json(own / "tokens" / "meta.json")
    write_json(own / "tokens" / "meta.json", meta | {"tokenizer_sha256": "0" * 64})
    with pytest.raises(UserError, match=r"tokenizer\.json: not the tokenizer that .* was encoded with"):
        train(own, tmp_path)


@pytest.mark.parametrize("step", [1, 2, 5])
@pytest.mark.parametrize("validated", [True, False])
def test_a_run_that_diverges_names_its_rows_keeps_the_best_weights_and_writes_no_model(
    root, tmp_path, monkeypatch, validated, step
):
    seen = []

    def fit(objective, steps, **options):
        for batches in itertools.islice(steps, step):
            seen[:] = [ids for batch in batches for ids in batch.input_ids]
        raise DivergedError("loss nan", step, 1, trained_state(objective) if validated else {})

    monkeypatch.setattr("minivlm.training.loop.fit", fit)
    # A row's number in its file is not its place in the store: rows may have been left out before it.
    store = TokenStore(shutil.copytree(root / "tokens", tmp_path / "root" / "tokens"))
    np.save(store.directory / "rows.npy", store.row_numbers + 1000)
    for name in ("base", "pictures"):
        (tmp_path / "root" / name).symlink_to(root / name)
    with pytest.raises(TrainingError) as caught:
        train(tmp_path / "root", tmp_path)
    kept = tmp_path / "state" / "best.safetensors"
    best = f"; the weights that validated best, after step 1, are in {kept}" if validated else ""
    said = re.fullmatch(r"loss nan; rows of the step: (.*\d)" + re.escape(best), str(caught.value))
    named = [int(name.removeprefix("pretrain:")) - 1000 for name in said[1].split(", ")]
    assert len(named) == len(seen) > 1
    for row, ids in zip(named, seen, strict=True):
        tokens, _ = store.padded(np.array([row]), len(ids))
        assert tokens[0].tolist() == ids.tolist()
    assert not (tmp_path / "artifacts").exists()
    assert kept.exists() is validated
    if validated:
        assert load_file(kept).keys() == {"model.multi_modal_projector.linear_1.weight"}
