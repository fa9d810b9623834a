"""Model directories, checkpoints of the original, saved states of a training, stores of tokens and pictures."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from random import Random
from typing import Any

from tests.reliability.fuzz_kind import Kind
from tests.reliability.fuzz_mutation import mutate_bytes, mutate_json, mutate_safetensors


def _model(folder: Path, count: int, seed: int) -> Path:
    import torch

    from minivlm.model.checkpoint import save
    from minivlm.model.llava import assemble
    from tests.unit.model.tiny import write_base

    torch.set_num_threads(1)
    base = write_base(folder / "base", layers=1)
    save(assemble(base, seed=0), base, folder / "model", seed=0)
    return folder / "model"


def _make_model(model: Path, random: Random, number: int, folder: Path) -> None:
    shutil.copytree(model, folder / "model")
    fingerprint = folder / "model" / "fingerprint.json"
    if random.random() < 0.15:  # the file by which the others are known
        fingerprint.write_bytes(mutate_json(fingerprint.read_bytes(), random))
        return
    if random.random() < 0.9:  # nothing tells then what it was saved with
        fingerprint.unlink()
    files = sorted(path for path in (folder / "model").iterdir() if path.suffix != ".md")
    for path in random.sample(files, random.choice((1, 1, 1, 2))):
        data = path.read_bytes()
        if path.suffix == ".json":
            path.write_bytes(mutate_json(data, random))
        elif path.suffix == ".safetensors":
            path.write_bytes(mutate_safetensors(data, random))
        else:
            path.write_bytes(mutate_bytes(data, random, words=(b"{{", b"}}", b"{%", b"%}", b"messages", b"\xff")))


def _use_model(folder: Path) -> None:
    """As `minivlm caption`, `evaluate`, the trainings and `minivlm export` take a model."""
    from PIL import Image

    from minivlm.generation.captions import caption_pictures
    from minivlm.generation.loading import load_model
    from minivlm.model.fingerprint import FILE, check_fingerprint
    from minivlm.model.minimind.exporting import configuration, read_exportable

    model, processor = load_model(folder / "model")
    if (folder / "model" / FILE).exists():
        check_fingerprint(model, folder / "model")
    caption_pictures(model, processor, [Image.new("RGB", (20, 30))], "?", batch_size=1, max_new_tokens=3)
    read_exportable(folder / "model")
    configuration(folder / "model")


def _checkpoint(folder: Path, count: int, seed: int) -> list[bytes]:
    import torch

    from tests.numeric.original import Variant, random_state

    torch.set_num_threads(1)
    found = []
    for new in (True, False):
        stream = io.BytesIO()
        torch.save(random_state(Variant(), 24), stream, _use_new_zipfile_serialization=new)
        found.append(stream.getvalue())
    return found


def _make_checkpoint(found: list[bytes], random: Random, number: int, folder: Path) -> None:
    data, where = random.choice(found), random.random()
    start, end = (0, 4000) if where < 0.4 else (len(data) - 4000, len(data)) if where < 0.8 else (0, len(data))
    start = max(0, start)
    changed = data[:start] + mutate_bytes(data[start:end], random) + data[end:]
    (folder / "x.pth").write_bytes(changed)


def _use_checkpoint(folder: Path) -> None:
    from minivlm.model.minimind.state import read_state

    read_state(folder / "x.pth")


def _states(folder: Path, count: int, seed: int) -> Path:
    from minivlm.tracking import NullRun
    from minivlm.training.logbook import Logbook
    from minivlm.training.states import StateFolder
    from tests.unit.training.test_resume import run

    states: list[Any] = []
    run(save_every=0.0, on_save=states.append)
    kept = StateFolder(folder / "key")
    for state in states[:2]:
        kept.save(state)
    (folder / "key" / "run").write_text("0123456789abcdef-0123456789abcdef")
    book = Logbook(folder / "key", NullRun().log_metrics)
    for step in range(5):
        book(step, {"loss": 1.0 / (step + 1), "learning_rate": 0.1})
    return folder / "key"


def _make_state(key: Path, random: Random, number: int, folder: Path) -> None:
    from minivlm.files import sha256_file

    shutil.copytree(key, folder / "key")
    path = random.choice(sorted((folder / "key").iterdir()))
    data = path.read_bytes()
    path.write_bytes(
        mutate_safetensors(data, random) if path.suffix == ".safetensors" else mutate_bytes(data, random)
    )
    if path.suffix == ".safetensors" and random.random() < 0.7:  # as if it had been saved so
        path.rename(path.with_name(f"{path.name[:14]}{sha256_file(path)[:16]}.safetensors"))


def _use_state(folder: Path) -> None:
    from minivlm.tracking import NullRun
    from minivlm.training.logbook import Logbook, take_up
    from minivlm.training.states import StateFolder

    StateFolder(folder / "key").newest()
    take_up(folder / "key", NullRun())
    Logbook(folder / "key", NullRun().log_metrics)


def _stores(folder: Path, count: int, seed: int) -> Path:
    from tests.unit.model.tiny import write_base
    from tests.unit.training.stores import write_inputs

    write_inputs(write_base(folder / "base", layers=1), folder / "copy", folder / "tokens", folder / "pictures")
    return folder


def _make_store(stores: Path, random: Random, number: int, folder: Path) -> None:
    for name in ("tokens", "pictures"):
        shutil.copytree(stores / name, folder / name)
    files = sorted(path for name in ("tokens", "pictures") for path in (folder / name).iterdir())
    path = random.choice(files)
    data = path.read_bytes()
    path.write_bytes(mutate_json(data, random) if path.suffix == ".json" else mutate_bytes(data, random))


def _use_store(folder: Path) -> None:
    import numpy as np

    from minivlm.data.store import PictureStore, TokenStore

    tokens, pictures = TokenStore(folder / "tokens"), PictureStore(folder / "pictures")
    rows = tokens.training_rows()
    assert tokens.image_token_id >= 0 and tokens.image_tokens >= 0
    tokens.padded(rows, int(np.max(tokens.lengths[rows], initial=1)))
    for row in rows:
        tokens.pictures(row)
    for number in range(len(pictures)):
        pictures.bytes(number)


def _features(folder: Path, count: int, seed: int) -> Path:
    import numpy as np

    from minivlm.data.features import FeatureStore

    store = FeatureStore.create(folder / "cache", len(_kept_features()), (2, 8), "fp32")
    store.write(np.arange(len(store) - 1), _kept_features()[:-1])  # the last one is missing
    store.flush()
    return folder / "cache"


def _kept_features() -> Any:
    import torch

    return torch.arange(8 * 16, dtype=torch.float32).reshape(8, 2, 8)


def _make_features(cache: Path, random: Random, number: int, folder: Path) -> None:
    shutil.copytree(cache, folder / "cache")
    path = folder / "cache" / random.choice(("features.bin", "sums.npy"))
    path.write_bytes(mutate_bytes(path.read_bytes(), random))


def _use_features(folder: Path) -> None:
    import numpy as np

    from minivlm.data.features import FeatureStore

    expected = _kept_features()
    store = FeatureStore(folder / "cache", len(expected), (2, 8), "fp32")
    for number in range(len(expected) - 1):
        assert store.read(np.array([number])).equal(expected[number : number + 1]), "other features were read"


KINDS = (
    Kind("model directories", 40, _model, _make_model, _use_model, 60.0),
    Kind("checkpoints (.pth)", 30, _checkpoint, _make_checkpoint, _use_checkpoint),
    Kind("training states", 40, _states, _make_state, _use_state),
    Kind("token and picture stores", 30, _stores, _make_store, _use_store),
    Kind("feature caches", 10, _features, _make_features, _use_features),
)
