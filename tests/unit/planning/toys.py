"""A toy checkout whose base and tokenize have run, and its training stages."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from minivlm.config import Params, load_params, parse_params
from minivlm.data.store_writer import PictureWriter, TokenWriter
from minivlm.model.fingerprint import write_fingerprint
from minivlm.model.llava import assemble
from minivlm.paths import Paths
from minivlm.tracking import NullRun
from minivlm.training.places import Machine, Places
from minivlm.training.vision_language import train_vision_language
from tests.unit.model.tiny import IMAGE_ID, IMAGE_TOKENS, picture, rows, write_base

STAGES = ("pretrain", "sft")
STATED = {"rows": {"pretrain": 595_000, "sft": 300_000}, "tokens": {"pretrain": 250.0, "sft": 400.0}}
"""What the original's README says of its rows, for an estimate."""
ROWS = 40  # of a stage; every eighth is for validation


def write_checkout(root: Path) -> Paths:
    """Committed parameters, a tiny base, token stores of both stages over eight pictures."""
    paths = Paths(root)
    shutil.copy(Paths().params, paths.params)
    base = write_base(paths.artifacts("base"))
    write_fingerprint(assemble(base, seed=0), base, seed=0)
    pictures = PictureWriter(paths.tokens("pictures"))
    for number in range(8):
        stream = io.BytesIO()
        Image.fromarray(picture(number).permute(1, 2, 0).numpy()).save(stream, "PNG")
        pictures.add(stream.getvalue())
    pictures.close()
    torch.manual_seed(3)
    for seed, stage in enumerate(STAGES):
        tokens = TokenWriter(paths.tokens(stage), "uint16")
        for number, row in enumerate(rows(ROWS, seed=seed, pictures=8)):
            tokens.add(number, np.array(row.ids), np.array(row.mask), row.pictures)
        meta = {"image_token_id": IMAGE_ID, "image_tokens": IMAGE_TOKENS, "pad_token_id": 0}
        tokens.close(np.arange(ROWS) % 8 == 7, meta)
    return paths


def train_stage(stage: str, params: Params, paths: Paths) -> None:
    """Run a training stage in this process, as its command does."""
    train_vision_language(
        stage,
        places=Places(
            base=paths.artifacts("base"),
            start=None if stage == "pretrain" else paths.model("pretrain"),
            tokens=paths.tokens(stage),
            pictures=paths.tokens("pictures"),
            artifacts=paths.artifacts(stage),
            reports=paths.reports(stage),
            state=paths.state / stage,
            features=paths.state / "features" if params.runtime.feature_cache else None,
        ),
        machine=Machine("cpu", 1, 0, params.prices),
        tracker=NullRun(),
        seed=params.seed,
        **params.section(stage).model_dump(),
    )


def toy_params(paths: Paths, **options: Any) -> Params:
    """The committed parameters at a size that trains in seconds, on a CPU."""
    values = load_params(paths.params).model_dump(by_alias=True)
    for stage in STAGES:
        values[stage] |= {"precision": "fp32", "validations": 2, "accumulation": 1, "batch_tokens": 128} | options
    values["tokenize"]["max_length"] = 128
    values["threads"] = 1
    values["runtime"]["device"] = "cpu"
    return parse_params(values)


def cached(params: Params) -> Params:
    """The same, with a feature cache."""
    return params.model_copy(update={"runtime": params.runtime.model_copy(update={"feature_cache": True})})
