"""The loss curves of the run before this one, which this run's are drawn over.

The page keeps a copy of each loss.csv that it has shown (`.state/report/`), and the one before that. The last run
is the one before; where this checkout has shown no other, it is what the last commit has, when that differs.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from minivlm.files import write_text
from minivlm.paths import Paths


class Last(NamedTuple):
    """The text of a loss.csv, and in words which run it is of."""

    text: str
    which: str


def last_loss(paths: Paths, stage: str, text: str) -> Last | None:
    """The loss.csv of the run before the one whose loss.csv is `text`, which is kept; None where there is none."""
    kept = remember(paths.state / "report", stage, text)
    if kept is not None:
        return Last(kept, "shown before in this checkout")
    committed = _committed(paths.root, f"reports/{stage}/loss.csv")
    return committed if committed and committed.text != text else None


def remember(folder: Path, stage: str, text: str) -> str | None:
    """Keep `text` as what is shown now; what was shown before it, however often the same is shown again."""
    now, before = folder / f"{stage}.csv", folder / f"{stage}.last.csv"
    shown = now.read_text(encoding="utf-8") if now.exists() else None
    if shown != text:
        if shown is not None:
            write_text(before, shown)
        write_text(now, text)
    return before.read_text(encoding="utf-8") if before.exists() else None


def _committed(root: Path, file: str) -> Last | None:
    """The file at the last commit of the checkout `root`; None outside git."""
    commit = _git(root, "rev-parse", "--short", "HEAD")
    text = _git(root, "show", f"HEAD:./{file}")
    return Last(text, f"as committed in {commit.strip()}") if commit and text else None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        return subprocess.check_output(
            ["git", *arguments], cwd=root, stderr=subprocess.DEVNULL, timeout=20, encoding="utf-8"
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
