"""The MLflow run of a stage, as the stages see it: `Run`, its silent twin `NullRun`, and `stage_run`."""

from __future__ import annotations

import getpass
import json
import math
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minivlm import hardware
from minivlm.config import Params
from minivlm.errors import UserError
from minivlm.files import read_json
from minivlm.paths import STAGES, Paths
from minivlm.tracking import facts
from minivlm.tracking.delivery import Delivery
from minivlm.tracking.journal import Journal
from minivlm.tracking.reproduction import Reproduction, execution_key, join

FLUSH_SECONDS = 5.0
"""Metrics reach MLflow this often (or 1,000 at once): soon enough to watch, seldom enough to cost nothing."""


class Run:
    """One run in MLflow. Every call writes to the local journal first; none fails because MLflow does."""

    def __init__(self, delivery: Delivery, run: str) -> None:
        self._delivery, self._run = delivery, run
        self._last: dict[str, tuple[int, float]] = {}  # metric → its last step and value
        self._flushed, self._buffered = time.monotonic(), 0
        self.figures: dict[str, float] = {}  # what was logged without a step: the run's results

    @property
    def run_id(self) -> str:
        """MLflow's id of the run; `local-…` as long as no store has taken it."""
        return self._delivery.run_ids.get(self._run, f"local-{self._run}")

    def log_params(self, params: dict[str, Any]) -> None:
        """Log parameters; nested mappings become keys with dots."""
        values = {key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                  for key, value in facts.flatten(params).items()}  # fmt: skip
        self._submit("params", params=values)
        self._delivery.flush()

    def set_tags(self, tags: dict[str, Any]) -> None:
        """Set tags; nested mappings become keys with dots."""
        self._submit("tags", tags={key: str(value) for key, value in facts.flatten(tags).items()})
        self._delivery.flush()

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Log numbers: with `step` a point of a curve, without it a result of the run.

        Results are also shown on the reproduction's own run, as `<stage>.<name>`. Nested mappings become keys with
        dots; None (not measured) is left out; anything else that is no number is a TypeError. Sent in batches.
        """
        now, points = time.time_ns() // 1_000_000, []
        for key, value in facts.flatten(metrics).items():
            if value is None:
                continue
            if isinstance(value, str | bool) or not hasattr(value, "__float__"):
                raise TypeError(f"metric {key!r} is no number: {value!r}")
            number = float(value)
            last = self._last.get(key)
            if step is None:
                self.figures[key] = number
                if last is not None and last[1] == number:
                    continue  # the curve ends there already
            at = step if step is not None else last[0] if last else 0
            self._last[key] = (at, number)
            points.append([key, number, now, at])
        if points:
            self._submit("metrics", metrics=points)
            self._buffered += len(points)
        if self._buffered >= 1000 or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Copy a file or directory into the run; FileNotFoundError when it does not exist."""
        if not path.exists():
            raise FileNotFoundError(path)
        self._submit("artifact", file=str(path.resolve()), folder=folder)
        self._delivery.flush()

    def log_image(self, image: Any, name: str) -> None:
        """Show a picture (a path or a PIL image) under `name` in the run's image grid."""
        file = self._picture(image)
        self._submit("image", file=str(file), name=name)
        self._delivery.flush()

    def log_table(self, columns: dict[str, list[Any]], file: str) -> None:
        """Log a table as `<file>` (ending in .json), shown by the UI under "Evaluation"; cells may be PIL images.

        ValueError when the columns differ in length.
        """
        if len({len(cells) for cells in columns.values()}) > 1:
            raise ValueError(f"{file}: columns of different lengths")
        cells = {
            name: [{"image": str(self._picture(cell))} if hasattr(cell, "save") else cell for cell in column]
            for name, column in columns.items()
        }
        self._submit("table", columns=cells, file=file)
        self._delivery.flush()

    def flush(self) -> None:
        """Send what is buffered."""
        self._flushed, self._buffered = time.monotonic(), 0
        self._delivery.flush()

    def start(self, name: str, parent: str | None, tags: dict[str, str]) -> None:
        """Begin the run in MLflow."""
        self._submit("run", name=name, parent=parent, start=time.time_ns() // 1_000_000, tags=tags)

    def end(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED."""
        self._submit("end", status=status, end=time.time_ns() // 1_000_000)

    def _picture(self, image: Any) -> Path:
        """Pictures are kept beside the journal until they are sent: a PIL image exists in memory only."""
        if isinstance(image, str | Path):
            return Path(image).resolve(strict=True)
        file = self._delivery.journal.new_file("picture.png")
        image.save(file)
        return file

    def _submit(self, operation: str, **values: Any) -> None:
        self._delivery.submit({"op": operation, "run": self._run, **values})


class NullRun(Run):
    """The run of a disabled tracker: the same methods, no effect."""

    def __init__(self) -> None:
        self.figures = {}

    run_id = ""  # type: ignore[assignment]

    def log_params(self, params: dict[str, Any]) -> None:
        """Nothing."""

    def set_tags(self, tags: dict[str, Any]) -> None:
        """Nothing."""

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Nothing."""

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Nothing."""

    def log_image(self, image: Any, name: str) -> None:
        """Nothing."""

    def log_table(self, columns: dict[str, list[Any]], file: str) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""


@contextmanager
def stage_run(name: str, params: Params, paths: Paths, key: str | None = None) -> Iterator[Run]:
    """The MLflow run of stage `name`, below the run of the reproduction that it belongs to.

    Logs parameters, code, inputs and machine at the start; time, money and outcome at the end: FAILED with the
    reason in one line for an exception, KILLED for Ctrl-C. `key` names the execution of the pipeline; it is found
    from the process tree when it is None. With `tracking.enabled: false`, a NullRun.
    """
    if not params.tracking.enabled:
        yield NullRun()
        return
    started = time.monotonic()
    delivery = Delivery(Journal(paths.journal, name), paths.tracking, params.tracking.experiment)
    git = facts.git_tags(paths.root)
    reproduction = join(paths.tracking / "reproductions", key or execution_key(), git.get("git.commit"))
    parent, child = Run(delivery, reproduction.run), Run(delivery, uuid.uuid4().hex)
    common = git | facts.hardware_tags(params.runtime.device) | _origin(name)
    _start_parent(parent, reproduction, params, paths, name, common)
    child.start(name, reproduction.run, common | {"stage": name, "reproduction": reproduction.name})
    child.set_tags(facts.version_tags() | facts.input_tags(paths.root, name))
    own = {"seed": params.seed, "threads": params.threads, name: params.section(name).model_dump(mode="json")}
    child.log_params(own)
    status, reason = "FINISHED", ""
    try:
        yield child
    except KeyboardInterrupt:
        status, reason = "KILLED", "interrupted"
        raise
    except BaseException as error:
        if not (isinstance(error, SystemExit) and not error.code):
            status, reason = "FAILED", _reason(error)
        raise
    finally:
        _finish(name, params, parent, child, reproduction, time.monotonic() - started, status, reason)
        delivery.close()


def _origin(stage: str) -> dict[str, str]:
    tags = {"mlflow.source.name": f"pipelines/{stage}.py", "mlflow.source.type": "LOCAL"}
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        pass
    experiment = os.environ.get("DVC_EXP_NAME")
    return tags | ({"dvc.experiment": experiment} if experiment else {})


def _start_parent(
    parent: Run, reproduction: Reproduction, params: Params, paths: Paths, stage: str, tags: dict[str, str]
) -> None:
    """Create or take up the reproduction's run; a new one gets all parameters and the figures of skipped stages."""
    parent.start(reproduction.name, None, tags | {"stage": "reproduction"})
    if not reproduction.is_new:
        return
    sections = {s: params.section(s).model_dump(mode="json") for s in STAGES}
    unused = {"scenes": "local", "local": "scenes"}[params.download.source]
    sections["download"].pop(unused, None)
    parent.log_params({"seed": params.seed, "threads": params.threads, **sections})
    reused = {}
    for earlier in STAGES[: STAGES.index(stage)]:
        file = paths.reports(earlier) / "metrics.json"
        if file.exists():
            reused[earlier] = {k: v for k, v in facts.flatten(read_json(file)).items() if _is_number(v)}
    if reused:
        # DVC skipped these because nothing they depend on has changed: their figures are this reproduction's too.
        parent.log_metrics(reused)
        parent.set_tags({"reused": ", ".join(reused)})


def _finish(
    stage: str, params: Params, parent: Run, child: Run, reproduction: Reproduction,
    seconds: float, status: str, reason: str,
) -> None:  # fmt: skip
    spent = {"hours": seconds / 3600}
    price = hardware.price_per_hour(hardware.device_name(params.runtime.device), params.prices)
    if price is not None:
        spent["money"] = price * seconds / 3600
    child.log_metrics({"seconds": seconds, **spent})
    totals = reproduction.add(stage, spent)
    parent.log_metrics({stage: child.figures, **totals})
    if reason:
        child.set_tags({"error": reason})
        parent.set_tags({"error": f"{stage}: {reason}"})
    child.end(status)
    parent.end(status)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if not isinstance(error, UserError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text[:500]
