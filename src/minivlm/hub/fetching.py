"""Pins in, folders out: everything that is pinned, from the cache or from a hub, checked byte for byte."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from minivlm.errors import UserError
from minivlm.hub.cache import Cache, cache_folder
from minivlm.hub.patience import PlaceError, Stopped
from minivlm.hub.pins import Pin, PinnedFile, pinned_files
from minivlm.hub.places import Place, offline, places
from minivlm.hub.transfer import bring
from minivlm.progress import Progress, amount

_NAMED = 5  # missing files that a message lists


def fetch(pins: Sequence[Pin], *, place: str = "auto", downloads: int = 4) -> list[Path]:
    """For each pin a local folder that holds its files, and no others, at their paths in the repository.

    Files that huggingface_hub's cache has are checked and used; the others are fetched, `downloads` at a time,
    from `place` (`huggingface`, `modelscope`, or `auto`: the second where the first cannot be reached or does not
    give the file). Whatever the source, size and sha256 have to be the pinned ones. An interrupted fetch goes on
    where it stopped. UserError says in one line what is wrong and what to do.
    """
    asked = places(place)
    files = pinned_files(pins)
    cache = Cache(cache_folder())
    states = _check_all(cache, files, downloads)
    absent = {file: state for file, state in states.items() if state is not None}
    if absent and offline():
        raise _offline_error(cache, absent)
    if absent:
        _fetch_all(cache, list(absent), asked, downloads)
    for file in files:
        cache.name(file)
    return [cache.expose(pin) for pin in pins]


def _check_all(cache: Cache, files: Sequence[PinnedFile], threads: int) -> dict[PinnedFile, str | None]:
    """Each file → None if the cache has it whole, else what is wrong."""
    found = {file: _size(path) for file in files if (path := cache.find(file))}
    with Progress("check the files that are here", sum(found.values())) as progress:

        def check(file: PinnedFile) -> str | None:
            state = cache.check(file)
            progress.advance(found.get(file, 0))
            return state

        with ThreadPoolExecutor(max(threads, 1)) as pool:  # hashing leaves the interpreter's lock
            return dict(zip(files, pool.map(check, files), strict=True))


def _fetch_all(cache: Cache, files: Sequence[PinnedFile], asked: Sequence[Place], downloads: int) -> None:
    contents: dict[Path, list[PinnedFile]] = {}  # the same content under two names is fetched once
    for file in files:
        contents.setdefault(cache.blob(file), []).append(file)
    one_of_each = [named[0] for named in contents.values()]
    total, done = sum(file.size for file in one_of_each), sum(_size(cache.partial(file)) for file in one_of_each)
    _require_disk(cache, total - done)
    stop = threading.Event()
    failures: list[BaseException] = []
    with Progress("fetch", total, done=done) as progress, ThreadPoolExecutor(max(downloads, 1)) as pool:
        tasks = [pool.submit(_fetch_one, cache, named, asked, progress, stop) for named in contents.values()]
        try:
            for task in as_completed(tasks):
                error = task.exception()
                if error is not None and not isinstance(error, Stopped):
                    failures.append(error)
                    stop.set()
        finally:  # also on Ctrl-C: the threads end at their next bytes
            stop.set()
            for task in tasks:
                task.cancel()
    if failures:
        raise failures[0]


def _fetch_one(
    cache: Cache,
    named: Sequence[PinnedFile],
    asked: Sequence[Place],
    progress: Progress,
    stop: threading.Event,
) -> None:
    """One content, which all of `named` have, into the cache, from the first place that gives it."""
    if stop.is_set():
        raise Stopped
    refusals = []
    file = named[0]
    with cache.lock(file, stop):
        # Looked at anew: what was damaged or missing may have been fetched while another process had the lock.
        states = {each: cache.check(each) for each in named}
        for each, state in states.items():
            if state not in (None, "missing"):
                cache.discard(each)
        if not any(states.values()):
            return
        for place in asked:
            try:
                bring(place, file, cache.partial(file), progress.advance, stop)
            except PlaceError as error:
                refusals.append(f"{place.title}: {error}")
            else:
                cache.partial(file).replace(cache.blob(file))
                return
    mirror = ". HF_ENDPOINT may name a mirror; see docs/hub.md" if asked[0].away else ""
    raise UserError(f"{file}: {'; '.join(refusals)}{mirror}")


def _require_disk(cache: Cache, missing: int) -> None:
    folder = next(path for path in (cache.root, *cache.root.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if free < missing:
        raise UserError(
            f"{cache.root}: {amount(missing)} are to be fetched, {amount(free)} are free; "
            "free some space or set HF_HOME to a folder on a larger disk"
        )


def _offline_error(cache: Cache, absent: dict[PinnedFile, str]) -> UserError:
    named = [f"{file} ({state})" if state != "missing" else str(file) for file, state in absent.items()]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    folders = sorted({cache.repository(file.pin).name for file in absent})
    return UserError(
        f"HF_HUB_OFFLINE is set and not all files are here: {'; '.join(named[:_NAMED])}{more}. Run the stage once "
        f"where there is a network, then copy {', '.join(folders)} from its cache into {cache.root}"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
