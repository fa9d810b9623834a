"""What every benchmark does with its figures: writes them beside what they were measured on, prints a table."""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from minivlm.files import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "numpy", "pillow", "pyarrow", "dvc")
# Written by runs and benchmarks themselves: they must not make the commit look changed.
_GENERATED = (":(exclude)dvc.lock", ":(exclude)reports", ":(exclude)benchmarks/results")


def destination(directory: Path | None, quick: bool) -> Path:
    """The folder that results go to: `directory`, else benchmarks/results, or a temporary one of a `quick` pass.

    It is made. UserError where that or writing into it fails: now, and not after minutes of measuring. UserError
    too for a quick pass into benchmarks/results: other programs and the documents take what lies there for
    measurements.
    """
    from minivlm.errors import UserError

    if quick and directory is None:
        return Path(tempfile.mkdtemp(prefix="minivlm-quick-"))
    chosen = directory or RESULTS
    if quick and chosen.resolve() == RESULTS.resolve():
        raise UserError(f"{chosen}: a quick pass measures nothing; give it another --directory, or none")
    try:
        chosen.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=chosen).close()
    except OSError as error:
        raise UserError(f"{chosen}: cannot hold results: {error.strerror}; give another --directory") from None
    return chosen


def record(
    name: str,
    figures: Mapping[str, Any],
    *,
    repeats: int | None = None,
    installed: Mapping[str, str | None] | None = None,
    directory: Path = RESULTS,
) -> Path:
    """Write benchmarks/results/<name>.json: the figures at the top level, then `machine`, `versions`, `repeats`.

    `repeats`: how often each figure was measured, where it is a median. `installed`: the `versions` of the
    environment that was measured, where that is not this one. Returns the path. ValueError when a figure is called
    as one of these keys is, or is not finite.
    """
    about: dict[str, Any] = {"machine": machine(), "versions": installed or versions()}
    if repeats is not None:
        about["repeats"] = repeats
    if taken := sorted(figures.keys() & about.keys()):
        raise ValueError(f"{name}: figures may not be called {', '.join(taken)}")
    path = directory / f"{name}.json"
    write_json(path, {**figures, **about})
    return path


def machine() -> dict[str, Any]:
    """`cpu`, `cores` this process may use, `memory_bytes`, and with CUDA `gpu`, `gpu_memory_bytes`, `driver`."""
    import torch

    from minivlm import hardware

    found: dict[str, Any] = {
        "cpu": hardware.cpu_model(),
        "cores": hardware.cores(),
        "memory_bytes": hardware.memory_bytes(),
        "gpu": None,
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = properties.name
        found["gpu_memory_bytes"] = properties.total_memory
        found["driver"] = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0")
    return found


def versions() -> dict[str, str | None]:
    """`python`, the packages that times depend on, `cuda` where torch has it, and `minivlm`: the `commit`."""
    import torch

    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    found["torch"] = torch.__version__  # with +cpu or +cu130 also where the package's own version has neither
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found | {"minivlm": commit()}


def commit() -> str | None:
    """The checkout's, with `+changes` when tracked files differ, results and reports aside; None outside git."""
    found = _output("git", "rev-parse", "HEAD")
    changed = ("git", "status", "--porcelain", "--untracked-files=no", "--", ".", *_GENERATED)
    return f"{found}+changes" if found and _output(*changed) else found


def run(command: Callable[[], None]) -> None:
    """A command with the project's errors as one line and exit code 2."""
    from minivlm.errors import UserError

    try:
        command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def table(rows: Sequence[Mapping[str, Any]], title: str = "") -> None:
    """Print rows of equal keys as a table; numbers to the right, floats in four digits, None as a dash."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    printed = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for key, value in rows[0].items():
        printed.add_column(key, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        printed.add_row(*(_shown(value) for value in row.values()))
    Console().print(printed)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _output(*command: str) -> str | None:
    """What a command prints; None when there is no such command or it fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
