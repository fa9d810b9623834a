"""Where a training stage reads and writes, and what it computes on: plain values for the library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from minivlm.config import Prices
    from minivlm.paths import Paths


@dataclass(frozen=True)
class Places:
    """Where a stage reads and writes. `start`: the model it goes on from; None puts one together from `base`.
    `features`: where the vision tower's features are kept, so that it sees each picture once; None: they are not.
    """

    base: Path
    start: Path | None
    tokens: Path
    pictures: Path
    artifacts: Path
    reports: Path
    state: Path
    features: Path | None = None

    @classmethod
    def of(cls, paths: Paths, stage: str, start: str | None, keep_features: bool) -> Places:
        """Those of a checkout; `start`: the stage whose model it goes on from."""
        return cls(
            base=paths.artifacts("base"),
            start=None if start is None else paths.model(start),
            tokens=paths.tokens(stage),
            pictures=paths.tokens("pictures"),
            artifacts=paths.artifacts(stage),
            reports=paths.reports(stage),
            state=paths.state / stage,
            features=paths.state / "features" if keep_features else None,
        )

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The directories that the training follows from."""
        return (self.base, *(() if self.start is None else (self.start,)), self.tokens, self.pictures)


@dataclass(frozen=True)
class Machine:
    """What it computes on: `device` as in params.yaml, CPU threads, processes for pictures, prices; of several
    processes, how they share the model (`none`: each has it all); minutes between two saved states."""

    device: str
    threads: int
    workers: int
    prices: Prices
    sharding: Literal["none", "full"] = "none"
    save_minutes: float | None = None
