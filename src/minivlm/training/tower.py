"""The vision tower made here: a CLIP trained from random weights on picture–caption pairs, or left random."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.pairs import DecodedPictures, Pairs
from minivlm.data.phrases import Phrases
from minivlm.files import write_json
from minivlm.training.keeping import Keep, kept, steps_done
from minivlm.training.mishaps import kept_when_diverged, memory_advice, smaller_batch
from minivlm.training.result import FitResult

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from minivlm.training.contrastive import PairBatch

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI CLIP's, by channel
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
_PICTURES_FOR_INITIALIZATION = 512


def train_tower(
    pairs: Pairs,
    captions: Sequence[npt.NDArray[np.int64]],
    validation: npt.NDArray[np.bool_],
    directory: Path,
    *,
    shape: Mapping[str, int],
    batch_size: int,
    phrases: int,
    phrase_weight: float,
    grayscale: float,
    epochs: float,
    vocabulary: int,
    pad_token_id: int,
    seed: int,
    keep: Keep | None = None,
    **optimization: Any,
) -> FitResult:
    """Train, and write the vision half as a CLIPVisionModel directory with its preprocessor_config.json.

    `captions`: token ids of each pair's caption, special tokens included; `validation` (pairs,): pairs that are
    not trained on; `shape`: the sizes that `make_clip` takes; `phrases`: at most so many are predicted; `keep`:
    where states are kept that it goes on from; `optimization` goes to `fit` as it is. TrainingError when memory
    does not suffice, or a loss is not finite, with the best weights until then kept beside the states.
    """
    import numpy as np
    import torch

    from minivlm.model.clip import initialize_tower, make_clip
    from minivlm.training.contrastive import TowerLoss
    from minivlm.training.cost import muon_flops
    from minivlm.training.loop import fit
    from minivlm.training.mean_loss import mean_loss
    from minivlm.training.muon import MuonWithAdamW, hidden_matrices
    from minivlm.training.operations import TowerCounter
    from minivlm.training.optimizer import restore_state

    clip = make_clip(
        **shape, vocabulary=vocabulary, pad_token_id=pad_token_id, text_length=max(map(len, captions))
    )
    found = Phrases.find([ids[1:-1] for ids in captions], phrases)
    objective = TowerLoss(clip, torch.from_numpy(found.frequency), phrase_weight, grayscale, IMAGE_MEAN, IMAGE_STD)
    decoded = DecodedPictures(pairs.pictures, shape["image_size"])
    train, held = np.flatnonzero(~validation), np.flatnonzero(validation)
    some = [decoded[int(pairs.picture[i])] for i in train[:_PICTURES_FOR_INITIALIZATION]]
    initialize_tower(clip.vision_model, objective.normalized(torch.from_numpy(np.stack(some))))

    def batch(rows: npt.NDArray[np.int64]) -> PairBatch:
        return _collate(rows, pairs, captions, found, decoded, pad_token_id)

    total = max(1, int(epochs * (len(train) // min(batch_size, len(train)))))
    checks = [held[i : i + batch_size] for i in range(0, len(held), batch_size)]
    products = muon_flops(tuple(p.shape) for p in hidden_matrices(objective, [objective.head]))
    counter = TowerCounter(clip.config, len(found.frequency) if phrase_weight else 0, products)

    def rows_of(step: int) -> list[str]:
        [rows] = islice(_batches(train, batch_size, total, seed), step - 1, step)
        return [pairs.ids[i] for i in rows]

    smaller = "make base.vision_tower smaller (layers, hidden_size)"
    advice = smaller_batch("base.vision_tower.batch_size", batch_size, otherwise=smaller)
    with (
        memory_advice("base: vision tower", optimization["device"], advice),
        kept_when_diverged(keep.folder if keep else None, rows_of),
        kept(keep, counter) as keeping,
    ):

        def validate() -> float:
            return mean_loss(objective, counter.watch_validation(map(batch, checks)), stop=keeping["stop"])

        planned = islice(_batches(train, batch_size, total, seed), steps_done(keeping), None)
        result = fit(
            objective,
            counter.watch([batch(rows)] for rows in planned),
            total_steps=total,
            validate=validate if checks else None,
            optimizer=partial(MuonWithAdamW, outputs=[objective.head]),
            label="base: vision tower",
            **keeping,
            **optimization,
        )
    objective.to("cpu")
    restore_state(objective, result.best_state)
    _save(clip, directory)
    return counter.note(result)


def random_tower(directory: Path, *, shape: Mapping[str, int]) -> None:
    """Write a CLIPVisionModel directory as `train_tower` does, with the weights that torch's generator draws."""
    from minivlm.model.clip import make_clip

    _save(make_clip(**shape, vocabulary=3, pad_token_id=0, text_length=1), directory)


def _batches(rows: npt.NDArray[np.int64], size: int, total: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """`total` batches of `size` rows, each epoch in an order of its own; the rest of an epoch is left out."""
    import numpy as np

    size, epoch = min(size, len(rows)), 0
    while True:
        order = np.random.default_rng((seed, epoch)).permutation(rows)
        for start in range(0, len(order) - size + 1, size):
            if total == 0:
                return
            total -= 1
            yield order[start : start + size]
        epoch += 1


def _collate(
    rows: npt.NDArray[np.int64],
    pairs: Pairs,
    captions: Sequence[npt.NDArray[np.int64]],
    phrases: Phrases,
    decoded: DecodedPictures,
    pad_token_id: int,
) -> PairBatch:
    import numpy as np
    import torch

    from minivlm.training.contrastive import PairBatch

    texts = [captions[i] for i in rows]
    lengths = np.array([len(text) for text in texts])
    held = [phrases.held[i] for i in rows]
    pixels = np.stack([decoded[int(pairs.picture[i])] for i in rows])
    parts = (pixels, _padded(texts, pad_token_id), lengths, _padded(held, len(phrases.frequency)))
    return PairBatch(*map(torch.from_numpy, parts))


def _padded(rows: Sequence[npt.NDArray[np.int64]], filler: int) -> npt.NDArray[np.int64]:
    """(rows, the longest's length), filled up on the right."""
    import numpy as np

    table = np.full((len(rows), max(map(len, rows))), filler, dtype=np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table


def _save(clip: Any, directory: Path) -> None:
    from transformers import CLIPVisionModel

    from minivlm.model.checkpoint import quiet

    tower = CLIPVisionModel(clip.config.vision_config)
    tower.load_state_dict(clip.vision_model.state_dict())
    with quiet():
        tower.save_pretrained(directory)
    side = clip.config.vision_config.image_size
    write_json(
        directory / "preprocessor_config.json",
        {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": side},
            "resample": 3,  # Pillow's bicubic
            "do_center_crop": True,
            "crop_size": {"height": side, "width": side},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(IMAGE_MEAN),
            "image_std": list(IMAGE_STD),
        },
    )
