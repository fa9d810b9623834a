"""`dvc repro` with nothing to do: how long it takes, and on what.

It runs in a checkout whose pipeline is up to date (--root), several times; the median is told. One further run
under the profiler tells the shares: what is imported, hashed, asked of the file system, read as YAML, looked up in
DVC's databases. A profiler slows Python more than the system, so shares are told, not its seconds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.record import ROOT, destination, record, run, table

_CLEAN = "up to date"  # what DVC says when no stage ran
_PROFILED = """
import cProfile, sys
def run():
    from dvc.cli import main
    return main(["repro"])
profile = cProfile.Profile()
code = profile.runcall(run)
profile.dump_stats(sys.argv[1])
sys.exit(code)
"""
# Names of functions, by the folder or file they stand in; the first that fits is taken, of their own time alone.
PARTS = {
    "imports": ("importlib", "marshal.loads", "io.open_code", "_imp.", "zipimport"),
    "file system": ("posix.", "genericpath", "posixpath", "/os.py", "dvc_objects", "fsspec", "pathlib"),
    "hashes": ("_hashlib", "_md5", "hashfile"),
    "YAML and JSON": ("ruamel", "/yaml/", "/json/", "_json", "orjson"),
    "databases": ("sqlite3", "diskcache", "sqltrie"),
    "git": ("dulwich", "scmrepo", "pygit2", "/git/", "pathspec"),
}
app = typer.Typer(add_completion=False)


@app.command(help=__doc__)
def main(
    root: Annotated[Path, typer.Option(help="A checkout whose pipeline is up to date.")] = ROOT,
    repeats: Annotated[int, typer.Option(help="Runs; the median is told.")] = 7,
    quick: Annotated[bool, typer.Option("--quick", help="Two runs.")] = False,
    directory: Annotated[Path | None, typer.Option(help="Where repro.json goes; benchmarks/results.")] = None,
) -> None:
    """Measure, print, write repro.json."""
    results = destination(directory, quick)
    repeats = 2 if quick else repeats
    commands = {
        "dvc repro": (["-m", "dvc", "repro"], _CLEAN),
        "import of dvc": (["-c", "import dvc.cli, dvc.repo, dvc.commands.repro"], ""),
        "python": (["-c", "pass"], ""),
    }
    for command, says in commands.values():  # the first runs read from the disk what the others find in memory
        _seconds(root, command, says)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, (command, says) in commands.items():
            times[name].append(_seconds(root, command, says))
    lines = [{"command": name, "seconds": statistics.median(some)} for name, some in times.items()]
    found = [{"part": part, "share": share} for part, share in shares(root).items()]
    table(lines, "dvc repro with nothing to do")
    table(found, "where its time goes")
    figures = {"seconds": lines[0]["seconds"], "commands": lines, "parts": found}
    print(record("repro", figures, repeats=repeats, directory=results))


def shares(root: Path) -> dict[str, float]:
    """Part → share of the time of one run, under the profiler; what is executed while importing is `imports`."""
    import pstats

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile"
        _seconds(root, ["-c", _PROFILED, str(path)], _CLEAN)
        # (file, line, name) → (calls, calls, own seconds, with what it calls, callers)
        stats: dict[tuple[str, int, str], Any] = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
    total = sum(values[2] for values in stats.values())
    found = {part: 0.0 for part in (*PARTS, "else")}
    for (file, _, name), values in stats.items():
        where = f"{file} {name}"
        # The body of a module runs when it is imported.
        part = (
            "imports"
            if name == "<module>"
            else next((p for p, marks in PARTS.items() if _is(where, marks)), "else")
        )
        found[part] += values[2] / total
    return found


def _is(where: str, marks: tuple[str, ...]) -> bool:
    return any(mark in where for mark in marks)


def _seconds(root: Path, command: list[str], says: str) -> float:
    """How long `python <command>` takes there; typer.Exit with a line when it fails or does not say this."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=root, env=own, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode or says not in done.stdout + done.stderr:
        print(f"error: {root}: not an up-to-date pipeline; run make repro there first", file=sys.stderr)
        print((done.stdout + done.stderr)[-1500:], file=sys.stderr)
        raise typer.Exit(2)
    return seconds


if __name__ == "__main__":
    run(app)
