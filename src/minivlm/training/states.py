"""The saved states of one training, in a directory: the last two, each whole, under names that tell their hash.

    .state/<stage>/<key>/step-00000120-5f3a….safetensors      (the state after step 120; see `resume`)

A state holds the best weights so far as well, so that any one of the files is enough to go on from. It is
written aside, synced and renamed, and its name holds the beginning of its sha256: a file that a crash or a disk
has damaged is noticed, and the one before it is taken.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from minivlm.errors import UserError
from minivlm.files import sha256_file, sync
from minivlm.training.resume import TrainingState, read_state, write_state

KEPT = 2
BEST = "best.safetensors"  # beside the trainings: see `mishaps`
OTHERS_KEPT = 3  # trainings that were stopped and may go on; each takes up to some hundred MB at full size
_NAME = re.compile(r"step-(\d{8})-([0-9a-f]{16})\.safetensors")
_ASIDE = ".step"  # begins the name of what is being written
_GONE = ".gone-"  # and of a folder that is being removed


@dataclass(frozen=True)
class StateFolder:
    """The states in `path`; one process writes there."""

    path: Path

    def save(self, state: TrainingState) -> None:
        """Add a state and remove all but the last KEPT; UserError where it cannot be written, and none is lost."""
        from safetensors import SafetensorError

        step = state.result.steps
        aside = self.path / f"{_ASIDE}-{step:08d}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for left in self.path.glob(f"{_ASIDE}*"):  # of a process that was killed
                left.unlink(missing_ok=True)
            write_state(aside, state)
            sync(aside)
            aside.replace(self.path / f"step-{step:08d}-{sha256_file(aside)[:16]}.safetensors")
            sync(self.path)
        except (OSError, SafetensorError) as error:
            aside.unlink(missing_ok=True)
            raise UserError(self._not_saved(step, error)) from None
        for old in self._files()[KEPT:]:
            old.unlink(missing_ok=True)

    def newest(self) -> TrainingState | None:
        """The last state that is what was saved; None without one. Damaged ones are told of and removed: they
        would count among the KEPT."""
        for path in self._files():
            found = _NAME.fullmatch(path.name)
            if found and sha256_file(path)[:16] == found[2]:
                return read_state(path)
            print(f"warning: {path}: damaged, its bytes are not those that were saved; removed", file=sys.stderr)
            path.unlink()
        return None

    def _files(self) -> list[Path]:
        """The last first; of one step the last written."""
        files = [path for path in self.path.glob("step-*.safetensors") if _NAME.fullmatch(path.name)]
        return sorted(files, key=lambda path: (path.name[:13], path.stat().st_mtime_ns), reverse=True)

    def _not_saved(self, step: int, error: Exception) -> str:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        kept = self._files()
        after = f"goes on after step {int(kept[0].name[5:13]):,}" if kept else "begins anew"
        return (
            f"{self.path}: the state after step {step:,} cannot be saved ({' '.join(reason.split())}); make room, "
            f"or set runtime.save_minutes to null, and run it again: it {after}"
        )


def remove_states(folder: Path, key: str) -> None:
    """Remove what is kept of `key` below `folder`; of trainings with other keys, such as had another parameter and
    were stopped, the last OTHERS_KEPT stay. The best weights of one that diverged go too. No other process may be
    training there."""
    kept = [path for path in folder.glob("*") if path.is_dir()]
    others = sorted((path for path in kept if path.name != key and not path.name.startswith(_GONE)), key=_written)
    for old in others[:-OTHERS_KEPT]:
        print(f"{old}: the state of an earlier training with other parameters is removed", flush=True)
    # At once out of the way: half of a folder, which a kill may leave, would be gone on with.
    for path in [folder / key, *others[:-OTHERS_KEPT]]:
        if path.exists():
            path.replace(Path(mkdtemp(prefix=_GONE, dir=folder)) / path.name)
    (folder / BEST).unlink(missing_ok=True)
    for gone in folder.glob(f"{_GONE}*"):
        shutil.rmtree(gone, ignore_errors=True)


def _written(path: Path) -> float:
    """When something was last written in a training's folder, seconds since 1970."""
    return max((file.stat().st_mtime for file in path.rglob("*")), default=0.0)
