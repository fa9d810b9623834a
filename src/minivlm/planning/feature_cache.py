"""Disk of the cache of vision features, which no DVC output is part of: both stages share it."""

from __future__ import annotations

import shutil
from typing import Any

from minivlm.planning.figures import size
from minivlm.planning.present import Present

_BYTES = {"bf16": 2, "fp32": 4}


def features_disk(pictures: int, patches: int, width: int, precision: str, present: Present) -> dict[str, Any]:
    """Bytes of the features (`patches`, `width`) of some pictures, bytes free where they will lie, and enough?"""
    folder = present.paths.state
    while not folder.exists():
        folder = folder.parent
    needed, free = pictures * patches * width * _BYTES[precision], shutil.disk_usage(folder).free
    return {"pictures": pictures, "needed": size(needed), "free": size(free), "enough": needed <= free}


def present_pictures(present: Present) -> int:
    """Pictures of the token stores' common picture store."""
    from minivlm.data.store import PictureStore

    return len(PictureStore(present.paths.tokens("pictures")))
