"""A run in MLflow as the stages see it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minivlm.tracking import facts
from minivlm.tracking.candidate import Candidate
from minivlm.tracking.courier import Courier
from minivlm.tracking.pyfunc import copy_code
from minivlm.tracking.results import Point, Results
from minivlm.tracking.reused import CURVES, as_reported

FLUSH_SECONDS = 5.0
"""Metrics reach MLflow this often (or 1,000 at once): soon enough to watch, seldom enough to cost nothing."""


class Run:
    """One run in MLflow. Every call writes to the local journal first; none fails because MLflow does."""

    def __init__(self, courier: Courier, run: str, execution: str = "") -> None:
        """`run`: this project's id of it; `execution`: the one that it is begun in."""
        self._courier, self._run, self._execution = courier, run, execution
        self._name = ""
        self.begun = time.time()  # seconds since 1970
        self.parent: Run | None = None
        self._last: dict[str, Point] = {}  # of each metric
        self._flushed, self._buffered = time.monotonic(), 0
        # Until it begins: what begins it, given an earlier execution.
        self._opening: Callable[[str], None] | None = None
        self.figures: dict[str, float] = {}  # what was logged without a step: the run's results
        self.resumes = False  # whether a later process may go on with it
        self.earlier_seconds = 0.0  # of work that an earlier process did for this run
        self._results = Results()
        self._models: list[dict[str, Any]] = []  # to be told of at the end

    @property
    def id(self) -> str:
        """This project's id of the run, that of its execution and when it was begun: `go_on` takes it up in
        another process."""
        return f"{self._run}-{self._execution}-{self.begun:.0f}"

    @property
    def memory(self) -> Path | None:
        """Where `remember` has it write its results down."""
        return self._results.path

    def remember(self, file: Path) -> None:
        """Write results down in `file` before they are told; those that are there are told word for word."""
        self._results = Results(file)

    def hold(self, opening: Callable[[str], None]) -> None:
        """Send nothing until `begin`, `go_on` or the first thing that is told: then it begins with `opening`.

        That is given the execution that the run was left in, "" where it is a new one.
        """
        self.resumes, self._opening = True, opening

    def begin(self, earlier: str = "") -> None:
        """Begin a held run as a new one; see `hold`."""
        opening, self._opening = self._opening, None
        if opening:
            opening(earlier)

    def go_on(self, run: str, seconds: float = 0.0) -> None:
        """Begin as the run that an earlier process of the same work has left, after `seconds` of it.

        RuntimeError when this one has begun already.
        """
        if self._opening is None:
            raise RuntimeError("the run has begun as one of its own")
        self._run, earlier, begun, *_ = [*run.split("-"), "", ""]
        self.begun = float(begun) if begun.isdecimal() else self.begun
        self.earlier_seconds = seconds
        self.begin(earlier)
        self.set_tags({"error": ""})  # what ended the earlier process is over

    def log_params(self, params: dict[str, Any]) -> None:
        """Log parameters; nested mappings become keys with dots."""
        self._submit("params", params={k: facts.as_text(v) for k, v in facts.flatten(params).items()})
        self._courier.flush()

    def set_tags(self, tags: dict[str, Any]) -> None:
        """Set tags; nested mappings become keys with dots."""
        self._submit("tags", tags={key: str(value) for key, value in facts.flatten(tags).items()})
        self._courier.flush()

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None, time_ms: int | None = None) -> None:
        """Log numbers: with `step` a point of a curve, without it a result of the run.

        A point that is logged again with the same value and `time_ms` (milliseconds since 1970) is there once.

        The curves of losses are also shown on the reproduction's own run, as `<stage>.<name>`.
        Nested mappings become keys with dots; None (not measured) is left out; anything else that is no number is
        a TypeError. Sent in batches.
        """
        now = time.time_ns() // 1_000_000
        points: list[Point] = []
        for key, value in facts.flatten(metrics).items():
            if value is None:
                continue
            if isinstance(value, str | bool) or not hasattr(value, "__float__"):
                raise TypeError(f"metric {key!r} is no number: {value!r}")
            if step is None:
                point = self._result(key, float(value), now)
            else:
                point = key, float(value), time_ms or self._later(key, now), step
            if point:
                self._last[key] = point
                points.append(point)
        if points:
            self._submit("metrics", metrics=points)
            self._buffered += len(points)
        if step is not None and self.parent is not None:
            for key, value, told, _ in points:
                if key in CURVES:
                    self.parent.log_metrics({f"{self._name}.{key}": as_reported(value)}, step, told)
        if self._buffered >= 1000 or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def _result(self, key: str, number: float, now: int) -> Point | None:
        """What a result is told as: the end of the curve of its name; None where that ends with it already."""
        earlier, last = self._results.earlier(key), self._last.get(key)
        self.figures[key] = earlier[1] if earlier else number
        if earlier:
            return earlier
        if last and last[1] == number:
            return None
        point = key, number, self._later(key, now), last[3] if last else 0
        self._results.note(point)
        return point

    def _later(self, key: str, now: int) -> int:
        """Of two values at one step and one millisecond MLflow would show the larger as the latest."""
        return max(now, self._last[key][2] + 1) if key in self._last else now

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Copy a file or directory, as it is now, into the run; FileNotFoundError when there is none."""
        if not path.exists():
            raise FileNotFoundError(path)
        if copy := self._courier.keep(path):
            self._submit("artifact", file=str(copy.resolve()), folder=folder)
        self._courier.flush()

    def log_image(self, image: Any, name: str) -> None:
        """Show a picture (a path or a PIL image) as `name`, on the reproduction's run too."""
        file, now = self._picture(image), time.time_ns() // 1_000_000
        self.begin()  # its parent is known then
        for run in (self, self.parent):
            if run is not None and file:
                run._submit("image", file=file, name=name, time=now)
        self._courier.flush()

    def log_table(self, columns: dict[str, list[Any]], file: str) -> None:
        """Log a table as `<file>` (ending in .json), on the reproduction's run too; cells may be PIL images.

        The page shows it in the runs' table view, where two reproductions stand side by side.
        ValueError when the columns differ in length.
        """
        if len({len(cells) for cells in columns.values()}) > 1:
            raise ValueError(f"{file}: columns of different lengths")
        cells = {
            name: [{"image": self._picture(cell)} if hasattr(cell, "save") else cell for cell in column]
            for name, column in columns.items()
        }
        if {"image": ""} in (cell for column in cells.values() for cell in column):
            return
        self.begin()
        for run in (self, self.parent):
            if run is not None:
                run._submit("table", columns=cells, file=file)
        self._courier.flush()

    def log_inputs(self, datasets: list[dict[str, Any]]) -> None:
        """Name the data sets that the run uses, as `datasets.datasets` describes them."""
        if datasets:
            self._submit("inputs", datasets=datasets)
            self._courier.flush()

    def log_reused(self, note: str, stages: dict[str, str]) -> None:
        """Link the runs that left the outputs of `stages`, by their digests, and describe the run by `note`."""
        self._submit("reused", note=note, stages=stages, before=round(1000 * self.begun))
        self._courier.flush()

    def log_model(self, candidate: Candidate) -> None:
        """Have a model registered as a version, and judged; see `registry`. The same files make no second one.

        Its files are kept now and told of by `tell_models`, when both runs have ended well: they are large, and a
        server that takes none of that size has the rest then; what a failed stage judged is not served.
        """
        model = self._courier.keep(candidate.directory.resolve(), link=True)
        code = self._courier.keep_made("minivlm", copy_code)
        if model and code:
            self._models.append({"model": str(model.resolve()), "code": str(code.resolve()), **candidate.told()})

    def tell_models(self) -> None:
        """Tell of the models that were logged."""
        for model in self._models:
            self._submit("model", **model)
        self._models.clear()

    def flush(self) -> None:
        """Send what is buffered."""
        self._flushed, self._buffered = time.monotonic(), 0
        self._courier.flush()

    def start(self, name: str, parent: Run | None, tags: dict[str, str]) -> None:
        """Start the run in MLflow, below `parent`."""
        self.parent, self._name = parent, name
        above = parent and parent._run
        self._submit("run", name=name, parent=above, start=time.time_ns() // 1_000_000, tags=tags)

    def end(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED."""
        self._submit("end", status=status, end=time.time_ns() // 1_000_000)

    def _picture(self, image: Any) -> str:
        """Pictures are kept beside the journal until they are sent; "" when there is no room for one."""
        copy = self._courier.keep(Path(image).resolve(strict=True) if isinstance(image, str | Path) else image)
        return str(copy.resolve()) if copy else ""

    def _submit(self, operation: str, **values: Any) -> None:
        self.begin()  # where it is held
        self._courier.submit({"op": operation, "run": self._run, **values})
