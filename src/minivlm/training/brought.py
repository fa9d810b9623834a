"""Where the parts of the base that exist already lie on this disk: fetched from a hub, or a folder of the user's.

Every part is pinned: a hub's by commit and by size and sha256 of each file, a folder by one sha256 of its names
and contents. A folder outside the repository is no dependency that DVC could see: the hash in params.yaml is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.config import Base
from minivlm.errors import UserError
from minivlm.files import sha256_tree

if TYPE_CHECKING:
    from minivlm.config.base import Pretrained
    from minivlm.hub import Pin

BROUGHT = ("hub", "local")


def find_parts(section: Base, root: Path, *, place: str = "auto", downloads: int = 4) -> dict[str, Path]:
    """`vision_tower`, `llm`, `tokenizer` → folder, of those that are brought; `root`: what local paths start from.

    `place` and `downloads` go to `minivlm.hub.fetch`. UserError when a place or a pin is missing, or a folder is
    not what its hash says. Nothing is fetched before all folders are right.
    """
    wanted = _wanted(section)
    found = {
        part: _local(pretrained, f"base.{part}.pretrained", root)
        for part, (origin, pretrained) in wanted.items()
        if origin == "local"
    }
    pinned = {part: pretrained for part, (origin, pretrained) in wanted.items() if origin == "hub"}
    if pinned:
        from minivlm import hub

        pins = [_pin(pretrained, f"base.{part}.pretrained") for part, pretrained in pinned.items()]
        found |= dict(zip(pinned, hub.fetch(pins, place=place, downloads=downloads), strict=True))
    return {part: found[part] for part in wanted}


def base_models(section: Base) -> list[str]:
    """The models that are brought, tower first: by their names on the hub, or as a folder of the user's."""
    parts = {
        "vision tower": (section.vision_tower.pretrained, section.tower_source),
        "language model": (section.llm.pretrained, section.llm_source),
    }
    return [
        place.repo if origin == "hub" and place.repo else f"a {part} of your own"
        for part, (place, origin) in parts.items()
        if origin in BROUGHT and place
    ]


def check_stated(place: Pretrained | None, config: Mapping[str, Any]) -> None:
    """UserError where the sizes stated for a vision tower, which a plan counted with, are not its own."""
    stated = place.config if place else {}
    wrong = [f"{name} {value} (the tower has {config.get(name)})" for name, value in stated.items()
             if config.get(name) != value]  # fmt: skip
    if wrong:
        raise UserError(f"base.vision_tower.pretrained.config: {', '.join(wrong)}; put it right or leave it out")


def _wanted(section: Base) -> dict[str, tuple[str, Pretrained]]:
    """Part → (hub or local, its place)."""
    wanted = {}
    origins = {"vision_tower": section.tower_source, "llm": section.llm_source}
    for part, origin in origins.items():
        if origin in BROUGHT:
            place = getattr(section, part).pretrained
            if place is None:
                raise UserError(f"base.{part}.pretrained: missing, and its source is {origin}; name its place")
            wanted[part] = (str(origin), place)
    own = section.tokenizer.pretrained
    if own is not None:
        if "llm" not in wanted:
            raise UserError(
                f"base.tokenizer.pretrained: goes with a language model of hub or local; with base.llm.source "
                f"{section.llm_source} the tokenizer is trained, so leave it out"
            )
        if (own.repo is None) == (own.path is None):
            raise UserError("base.tokenizer.pretrained: needs one of repo (of a hub) and path (a folder)")
        wanted["tokenizer"] = ("hub" if own.repo is not None else "local", own)
    return wanted


def _pin(place: Pretrained, name: str) -> Pin:
    from minivlm import hub

    if place.repo is None:
        raise UserError(f"{name}.repo: missing; owner/name of the repository on the hub")
    files = {path: (file.size, file.sha256) for path, file in place.files.items()}
    return hub.Pin(name, place.repo, "model", place.revision, files, place.modelscope)


def _local(place: Pretrained, name: str, root: Path) -> Path:
    if place.path is None:
        raise UserError(f"{name}.path: missing; the folder of the model")
    folder = root / place.path
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; it is named as {name}.path")
    try:
        digest = sha256_tree(folder)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be read: {error.strerror}") from None
    if place.sha256 is None:
        raise UserError(f"{name}.sha256: missing; {folder} now has {digest}, which minivlm pin writes there")
    if digest != place.sha256:
        raise UserError(
            f"{folder}: its sha256 is {digest}, not {place.sha256} as in {name}; "
            "put the folder back, or the new hash into params.yaml"
        )
    return folder
