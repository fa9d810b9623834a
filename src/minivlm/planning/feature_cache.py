"""Disk of the cache of vision features, which no DVC output is part of: both stages share it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minivlm.config import Params
from minivlm.device import resolve_device
from minivlm.planning.figures import size
from minivlm.planning.present import Present

_BYTES = {"bf16": 2, "fp32": 4}


@dataclass(frozen=True)
class Pictures:
    """Pictures that the cache has room for; `high` None: nobody knows how many at most, and `why`."""

    low: int
    high: int | None
    why: str = ""


def pictures_of_rows(rows: Mapping[str, int | None]) -> Pictures | None:
    """From the rows of both stages, each with a picture; None where no stage's are known.

    The first stage already makes room for the pictures of both: at least those of the larger one, if the other
    shows the same, and at most one for each row of either.
    """
    known = [count for count in rows.values() if count is not None]
    if not known:
        return None
    missing = [stage for stage, count in rows.items() if count is None]
    if missing:
        return Pictures(max(known), None, f"rows of {', '.join(missing)} unknown, whose pictures it has too")
    return Pictures(max(known), sum(known))


def pictures_present(present: Present) -> Pictures:
    """Pictures of the token stores' common picture store."""
    from minivlm.data.store import PictureStore

    count = len(PictureStore(present.paths.tokens("pictures")))
    return Pictures(count, count)


def features_disk(
    pictures: Pictures, patches: int, width: int, precision: str, present: Present, kept: int = 0
) -> dict[str, Any]:
    """Bytes of the features (`patches`, `width`), bytes free where they will lie, and enough for what is missing?

    `kept`: bytes of them that are there already.
    """
    folder = present.paths.state
    while not folder.exists():
        folder = folder.parent
    each, free = patches * width * _BYTES[precision], shutil.disk_usage(folder).free
    most, fits = pictures.high, (pictures.high or pictures.low) * each - kept <= free
    return {
        "pictures": most,
        "pictures_at_least": pictures.low,
        "needed": None if most is None else size(most * each),
        "needed_at_least": size(pictures.low * each),
        **({"needed_why": pictures.why} if pictures.why else {}),
        "kept": size(kept),
        "free": size(free),
        "enough": None if fits and most is None else fits,
    }


def kept_bytes(params: Params, precision: str, present: Present) -> int:
    """Bytes of the features that earlier runs kept of the present pictures; 0 where the pictures are not there.

    The file has holes where nothing was computed yet: what counts are the blocks that it has.
    """
    from minivlm.training.feature_cache import features_key
    from minivlm.training.places import Places

    folder = Places.of(present.paths, "pretrain", None, keep_features=True).features
    if folder is None or not folder.is_dir():
        return 0
    tower, pictures = present.paths.base_part("vision_tower"), present.paths.tokens("pictures")
    device = resolve_device(params.runtime.device)
    key = features_key(tower, pictures, params.base.vision_feature_layer, precision, device)
    path = folder / key / "features.bin"
    return path.stat().st_blocks * 512 if path.exists() else 0
