"""Vision features kept on disk: the same training, the tower run once for each picture."""

import errno
import io
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minivlm import hardware
from minivlm.data.batches import Batches
from minivlm.data.features import FeatureStore
from minivlm.data.pictures import Preparation
from minivlm.data.pixels import PixelReader
from minivlm.data.store import PictureStore, TokenStore
from minivlm.data.store_writer import PictureWriter, TokenWriter
from minivlm.errors import UserError
from minivlm.model.llava import assemble
from minivlm.model.vision_language import VisionLanguageLoss
from minivlm.training import device, feature_cache
from minivlm.training.feature_cache import BATCH, features_key, fill_features
from minivlm.training.optimizer import freeze
from tests.unit.model.tiny import IMAGE_ID, IMAGE_TOKENS, MEAN, SIZE, STD, picture, rows

PICTURES = BATCH + 6
SHAPE = (IMAGE_TOKENS, 24)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    root = tmp_path_factory.mktemp("features")
    writer = PictureWriter(root / "pictures")
    for number in range(PICTURES):
        stream = io.BytesIO()
        Image.fromarray(picture(number).permute(1, 2, 0).numpy()).save(stream, "PNG")
        writer.add(stream.getvalue())
    writer.close()
    torch.manual_seed(3)
    tokens = TokenWriter(root / "tokens", "uint16")
    for number, row in enumerate(rows(12, pictures=PICTURES)):
        tokens.add(number, np.array(row.ids), np.array(row.mask), row.pictures)
    tokens.close(np.zeros(12, bool), {"image_token_id": IMAGE_ID, "image_tokens": IMAGE_TOKENS, "pad_token_id": 0})
    return TokenStore(root / "tokens"), PictureStore(root / "pictures")


@pytest.fixture
def objective(base):
    model = assemble(base, seed=1)
    freeze(model, "projector")
    return VisionLanguageLoss(model, MEAN, STD).train()


@pytest.fixture
def tower_calls(objective, monkeypatch):
    """The number of pictures of each pass through the tower."""
    calls, compute = [], objective.picture_features
    monkeypatch.setattr(objective, "picture_features", lambda pixels: calls.append(len(pixels)) or compute(pixels))
    return calls


def store_at(folder, precision="fp32"):
    return FeatureStore.create(folder, PICTURES, SHAPE, precision)


def fill(store, objective, pictures, precision="fp32", wanted=PICTURES, workers=0):
    reader, options = PixelReader(pictures, Preparation(SIZE, SIZE)), dict(precision=precision, workers=workers)
    return fill_features(store, np.arange(wanted), objective, reader, device="cpu", **options)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_on_kept_features_has_the_same_losses(stores, objective, tower_calls, tmp_path, precision):
    store = store_at(tmp_path / "cache", precision)
    assert fill(store, objective, stores[1], precision) == PICTURES and tower_calls == [BATCH, 6]
    options = dict(preparation=Preparation(SIZE, SIZE), image_token_id=IMAGE_ID)
    plan = [np.arange(0, 7), np.arange(7, 12)]
    losses = []
    for features in (None, store_at(tmp_path / "cache", precision)):
        tower_calls.clear()
        found = []
        for batch in Batches(plan, *stores, **options, features=features):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                found.append(objective(batch).item())
            assert batch.pictures == len(batch.pixels if features is None else batch.features)
        losses.append(found)
        assert bool(tower_calls) is (features is None)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5 if precision == "fp32" else 1e-2)


def test_features_lose_nothing_on_the_disk_that_the_projector_reads(stores, objective, tmp_path):
    """In bf16 both are rounded before the projector: of the same group of pictures the losses are equal."""
    store, rows = store_at(tmp_path / "cache", "bf16"), np.arange(7)
    options = dict(preparation=Preparation(SIZE, SIZE), image_token_id=IMAGE_ID)
    (batch,) = Batches([rows], *stores, **options)
    with torch.autocast("cpu", torch.bfloat16):
        store.write(np.unique(stores[0].pictures_of(rows)), objective.picture_features(batch.pixels))
        (kept,) = Batches([rows], *stores, **options, features=store)
        assert objective(kept).item() == objective(batch).item()


def test_what_is_there_is_not_computed_again_and_its_company_changes_nothing(
    stores, objective, tower_calls, tmp_path
):
    whole, parts = store_at(tmp_path / "whole"), store_at(tmp_path / "parts")
    fill(whole, objective, stores[1])
    fill(parts, objective, stores[1], wanted=BATCH)
    tower_calls.clear()
    again = store_at(tmp_path / "parts")  # as a second process opens it
    assert again.missing(np.arange(PICTURES)).tolist() == list(range(BATCH, PICTURES))
    assert fill(again, objective, stores[1]) == 6 and tower_calls == [6]
    assert fill(again, objective, stores[1]) == 0 and tower_calls == [6]
    assert torch.equal(again.read(np.arange(PICTURES)), whole.read(np.arange(PICTURES)))
    copy = pickle.loads(pickle.dumps(again))  # as a worker gets it
    assert torch.equal(copy.read(np.array([3, 1])), whole.read(np.array([3, 1])))


def test_a_complete_cache_starts_no_process(stores, objective, tmp_path, monkeypatch):
    store = store_at(tmp_path / "cache")
    fill(store, objective, stores[1])
    monkeypatch.setattr(feature_cache, "load", None)  # its processes would import torch, to decode nothing
    assert fill(store_at(tmp_path / "cache"), objective, stores[1]) == 0


@pytest.mark.parametrize(("rows_worth", "spare"), [(0, 3), (PICTURES * 2, 0)])
def test_pictures_are_decoded_by_the_processes_that_a_training_would_have(
    stores, objective, tmp_path, monkeypatch, rows_worth, spare
):
    monkeypatch.setattr(hardware, "cores", lambda: torch.get_num_threads() + 3)
    monkeypatch.setattr(device, "ROWS_WORTH_A_WORKER", {"cpu": rows_worth})
    given, decode = [], feature_cache.load
    monkeypatch.setattr(
        feature_cache, "load", lambda source, plan, workers, pin: given.append(workers) or decode(source, plan)
    )
    fill(store_at(tmp_path / "cache"), objective, stores[1], workers=8)
    assert given == [spare]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stage_that_wants_other_pictures_writes_the_same_features(
    stores, objective, tower_calls, tmp_path, precision
):
    whole, some = store_at(tmp_path / "whole", precision), store_at(tmp_path / "some", precision)
    fill(whole, objective, stores[1], precision)
    tower_calls.clear()
    reader, wanted = PixelReader(stores[1], Preparation(SIZE, SIZE)), np.array([BATCH + 3, BATCH + 1])
    options = dict(precision=precision, device="cpu")
    assert fill_features(some, wanted, objective, reader, **options) == 6 and tower_calls == [6]
    assert torch.equal(some.read(wanted), whole.read(wanted))
    some.forget(np.array([BATCH + 2]))
    some.write(np.array([BATCH + 1]), torch.zeros(1, *SHAPE))  # marked: what is there stays as it is
    assert fill_features(some, np.array([BATCH + 2]), objective, reader, **options) == 1
    assert torch.equal(some.read(np.array([BATCH + 2])), whole.read(np.array([BATCH + 2])))
    assert not some.read(np.array([BATCH + 1])).any()


def test_the_tower_computes_with_weights_in_the_precision_of_its_products(
    stores, objective, tmp_path, monkeypatch
):
    found, compute = set(), objective.picture_features
    weight = objective.model.model.vision_tower.encoder.layers[0].mlp.fc1.weight
    monkeypatch.setattr(objective, "picture_features", lambda pixels: found.add(weight.dtype) or compute(pixels))
    fill(store_at(tmp_path / "cache", "bf16"), objective, stores[1], "bf16")
    assert found == {torch.bfloat16} and weight.dtype == torch.float32


def test_what_was_not_flushed_counts_as_missing(stores, objective, tmp_path):
    store = store_at(tmp_path / "cache")
    store.write(np.array([2]), torch.ones(1, *SHAPE))
    assert store.missing(np.array([1, 2])).tolist() == [1]
    assert store_at(tmp_path / "cache").missing(np.array([1, 2])).tolist() == [1, 2]
    store.flush()
    assert store_at(tmp_path / "cache").missing(np.array([1, 2])).tolist() == [1]


def test_a_damaged_cache_and_a_full_disk_are_one_line(tmp_path, monkeypatch):
    store_at(tmp_path / "cache")
    (tmp_path / "cache" / "sums.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match="damaged feature cache; delete the folder"):
        store_at(tmp_path / "cache")
    with pytest.raises(UserError, match=r"takes 100.0 GB and .* free; free some, or set runtime.feature_cache"):
        monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10**9})())
        FeatureStore.create(tmp_path / "large", 10**9, (5, 5), "fp32")


def test_a_process_that_does_not_see_the_folder_fails_instead_of_making_zeros(stores, objective, tmp_path):
    store = store_at(tmp_path / "cache")
    fill(store, objective, stores[1])
    sent = pickle.dumps(store)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(UserError, match="no feature cache here; one process writes it, and all have to see"):
        pickle.loads(sent)
    assert not (tmp_path / "cache").exists()


def test_features_that_are_not_there_are_not_read(tmp_path):
    store = store_at(tmp_path / "cache")
    store.write(np.array([2]), torch.ones(1, *SHAPE))
    assert store.read(np.array([2])).sum() == np.prod(SHAPE)
    with pytest.raises(UserError, match="no features of picture 3; delete the folder"):
        store.read(np.array([2, 3]))


def test_features_that_a_disk_has_changed_are_not_read(tmp_path):
    """Zeros, as a lost block has them, and one bit."""
    store, size = store_at(tmp_path / "cache"), 4 * int(np.prod(SHAPE))
    store.write(np.arange(3), torch.ones(3, *SHAPE))
    store.flush()
    whole = (tmp_path / "cache" / "features.bin").read_bytes()
    for damaged in (bytes(size), bytes([whole[size] ^ 1]) + whole[size + 1 : 2 * size]):
        (tmp_path / "cache" / "features.bin").write_bytes(whole[:size] + damaged + whole[2 * size :])
        store = store_at(tmp_path / "cache")
        assert store.read(np.array([0, 2])).sum() == 2 * np.prod(SHAPE)
        with pytest.raises(UserError, match="the features of picture 1 are not those written there; delete the f"):
            store.read(np.array([0, 1]))


def test_a_creation_stopped_at_any_point_is_gone_on_with(tmp_path):
    for stopped_at in ("write", "truncate"):
        folder = tmp_path / stopped_at
        folder.mkdir()
        if stopped_at == "truncate":
            (folder / "features.bin").touch()
        np.save(folder / "sums.npy", np.ones(PICTURES, np.int64))  # of features that somebody removed
        assert len(store_at(folder).missing(np.arange(PICTURES))) == PICTURES
    (tmp_path / "write" / "sums.npy").unlink()
    assert len(store_at(tmp_path / "write").missing(np.arange(PICTURES))) == PICTURES


def test_a_stage_that_makes_the_cache_too_keeps_what_another_has_written(tmp_path, monkeypatch):
    store = store_at(tmp_path / "cache")
    store.write(np.array([2]), torch.ones(1, *SHAPE))
    monkeypatch.setattr(Path, "exists", lambda path: False)  # it looked before the other made it
    with pytest.raises(UserError, match="no feature cache"):
        store_at(tmp_path / "cache")
    assert store.read(np.array([2])).sum() == np.prod(SHAPE)


def test_two_that_fill_one_cache_keep_each_others_marks(tmp_path):
    first, second = store_at(tmp_path / "cache"), store_at(tmp_path / "cache")
    for store, picture_id in ((first, 2), (second, 3)):
        store.write(np.array([picture_id]), torch.ones(1, *SHAPE))
        store.flush()
    assert second.missing(np.arange(4)).tolist() == [0, 1]
    assert store_at(tmp_path / "cache").missing(np.arange(4)).tolist() == [0, 1]  # as a worker opens it


@pytest.mark.parametrize("where", ["write", "flush"])
def test_a_disk_that_fills_up_while_features_come_is_one_line(tmp_path, monkeypatch, where):
    store = store_at(tmp_path / "cache")
    full = OSError(errno.ENOSPC, "No space left on device")  # as a write raises it: without a file

    def refuse(*arguments, **options):
        raise full

    monkeypatch.setattr(*((Path, "open", refuse) if where == "write" else (os, "fsync", refuse)))
    with pytest.raises(UserError, match=r"features.bin: No space left on device; free some disk"):
        store.write(np.array([2]), torch.ones(1, *SHAPE))
        store.flush()


def test_reading_features_brings_none_of_the_file_into_the_memory(tmp_path):
    """As a map's pages would be: an epoch would count the whole file as this process's."""
    pictures, shape = 256, (256, 256)
    store = FeatureStore.create(tmp_path, pictures, shape, "fp32")
    for i in range(pictures):
        store.write(np.array([i]), torch.full((1, *shape), float(i)))
    before = _resident()
    for i in range(pictures):
        assert store.read(np.array([i]))[0, 0, 0] == i
    assert _resident() - before < 16 << 20 < pictures * 4 * 256 * 256


def _resident():
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("resident memory is read from Linux's /proc")
    return int(status.read_text().split("VmRSS:")[1].split()[0]) << 10


def test_another_tower_layer_precision_picture_device_code_or_library_has_another_key(tmp_path, monkeypatch):
    tower, pictures, code = (tmp_path / name for name in ("tower", "pictures", "code"))
    for file in (
        tower / "weights",
        pictures / "hashes.npy",
        code / "data" / "pictures.py",
        code / "model" / "a.py",
    ):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"1")
    monkeypatch.setattr("minivlm.training.feature_cache.PACKAGE", code)

    def key(layer=-1, precision="fp32", device="cpu"):
        return features_key(tower, pictures, layer, precision, device)

    keys = [key(), key(layer=-2), key(precision="bf16"), key(device="cuda:0")]
    assert key() == keys[0] and key(device="cuda:1") == keys[3]
    for file in (
        pictures / "hashes.npy",
        tower / "weights",
        code / "data" / "pictures.py",
        code / "model" / "a.py",
    ):
        file.write_bytes(b"2")
        keys.append(key())
    (code / "model" / "minimind").mkdir()
    (code / "model" / "minimind" / "a.py").write_bytes(b"1")
    assert key() == keys[-1]
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"another {name}")
    assert len({*keys, key()}) == 9
