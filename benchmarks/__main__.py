"""All benchmarks, one after another, each in a process of its own: `python -m benchmarks [--quick]`.

One that fails is named at the end, and the others run all the same; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.record import ROOT

NAMES = ("step", "features", "loader", "rows", "generation", "loading", "serving", "repro")
"""The most telling first, should somebody stop it half-way."""


def run_all(names: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Run `python -m benchmarks.<name>` with the arguments; returns the names of those that failed."""
    failed = []
    for name in names:
        print(f"benchmarks.{name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], cwd=ROOT).returncode:
            failed.append(name)
    return failed


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="a short pass: to see that all of them run")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in NAMES]
    if unknown:
        parser.error(f"{unknown[0]} is none of {', '.join(NAMES)}")
    failed = run_all(given.names or NAMES, ["--quick"] if given.quick else [])
    if failed:
        print(f"error: failed: {', '.join(failed)}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
