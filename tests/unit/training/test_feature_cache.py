"""Vision features kept on disk: the same training, the tower run once for each picture."""

import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from minivlm.data.batches import Batches
from minivlm.data.features import FeatureStore, features_key
from minivlm.data.pictures import Preparation
from minivlm.data.pixels import PixelReader
from minivlm.data.store import PictureStore, TokenStore
from minivlm.data.store_writer import PictureWriter, TokenWriter
from minivlm.errors import UserError
from minivlm.model.llava import assemble
from minivlm.model.vision_language import VisionLanguageLoss
from minivlm.training.feature_cache import BATCH, fill_features
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
    return FeatureStore(folder, PICTURES, SHAPE, precision)


def fill(store, objective, pictures, precision="fp32", wanted=PICTURES):
    reader = PixelReader(pictures, Preparation(SIZE, SIZE))
    return fill_features(store, np.arange(wanted), objective, reader, precision=precision, device="cpu")


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


def test_what_was_not_flushed_counts_as_missing(stores, objective, tmp_path):
    store = store_at(tmp_path / "cache")
    store.write(np.array([2]), torch.ones(1, *SHAPE))
    assert store.missing(np.array([1, 2])).tolist() == [1]
    assert store_at(tmp_path / "cache").missing(np.array([1, 2])).tolist() == [1, 2]
    store.flush()
    assert store_at(tmp_path / "cache").missing(np.array([1, 2])).tolist() == [1]


def test_a_damaged_cache_and_a_full_disk_are_one_line(tmp_path, monkeypatch):
    store_at(tmp_path / "cache")
    (tmp_path / "cache" / "filled.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match="damaged feature cache; delete the folder"):
        store_at(tmp_path / "cache")
    with pytest.raises(UserError, match=r"takes 100.0 GB and .* free; free some, or set runtime.feature_cache"):
        monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10**9})())
        FeatureStore(tmp_path / "large", 10**9, (5, 5), "fp32")


def test_another_tower_layer_precision_or_picture_has_another_key(tmp_path):
    for name in ("tower", "pictures"):
        (tmp_path / name).mkdir()
    (tmp_path / "tower" / "weights").write_bytes(b"1")
    (tmp_path / "pictures" / "hashes.npy").write_bytes(b"1")
    tower, pictures = tmp_path / "tower", tmp_path / "pictures"
    keys = [
        features_key(tower, pictures, *rest) for rest in ((-1, "fp32"), (-1, "fp32"), (-2, "fp32"), (-1, "bf16"))
    ]
    (pictures / "hashes.npy").write_bytes(b"2")
    keys.append(features_key(tower, pictures, -1, "fp32"))
    (tower / "weights").write_bytes(b"2")
    keys.append(features_key(tower, pictures, -1, "fp32"))
    assert keys[0] == keys[1] and len(set(keys)) == 5
