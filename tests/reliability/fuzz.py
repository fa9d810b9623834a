"""Damaged, odd and hostile input for every reader: each has to end well, or in one line that says what is wrong.

    python -m tests.reliability.fuzz --inputs 20000 [--seed S] [--seconds S] [--kind NAME]

Kinds of input and what reads them: fuzz_params, fuzz_rows, fuzz_pictures, fuzz_models, fuzz_brought,
fuzz_journals, fuzz_requests. An input is a fault when it ends in any other exception, in a message that is not one
line, takes longer than its time (of the processor), or makes the process larger by more than LARGEST; the same
seed makes the same inputs. Each kind runs in a process of its own, which the system keeps from growing further and
which is ended where nothing else stops it. Faults are kept in the folder that is named; with --record the counts
go to docs/reliability.json.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Annotated, Any, NamedTuple

import typer

from minivlm.errors import UserError
from tests.reliability import (
    fuzz_brought,
    fuzz_journals,
    fuzz_models,
    fuzz_params,
    fuzz_pictures,
    fuzz_requests,
    fuzz_rows,
)
from tests.reliability.fuzz_kind import Kind
from tests.reliability.record import record

MODULES = (fuzz_params, fuzz_rows, fuzz_pictures, fuzz_models, fuzz_brought, fuzz_journals, fuzz_requests)
KINDS = {kind.name: kind for module in MODULES for kind in module.KINDS}
LARGEST = 1 << 30  # bytes that an input may add to the process
_BEYOND = 3 << 30  # bytes of addresses after which the system refuses
_LONGEST = 9_000  # characters of a message: a list of keys may be long
_WAITING = 10
_IMPORTS = 120.0  # seconds that a child may take until its first input is done
TAKEN, REFUSED = "taken", "refused"
HANG, LARGE, CRASH = "it takes too long", "it takes too much memory", "the process ended"


class Outcome(NamedTuple):
    """What became of an input; `fault` is empty when it was taken or refused as it should be."""

    number: int
    result: str
    message: str = ""  # of the refusal
    fault: str = ""


class TooSlowError(BaseException):
    """An input has had its time: no handler of errors takes this for the input's fault."""


def try_inputs(kind: Kind, first: int, count: int, seed: int, folder: Path) -> Iterator[Outcome]:
    """The outcomes of inputs `first` to `first + count`, in this process; inputs at fault stay in `folder`."""
    (folder / "seeds").mkdir(parents=True)
    with _quiet():
        prepared = kind.prepare(folder / "seeds", first + count, seed)
    for number in range(first, first + count):
        place = folder / f"{number:06d}"
        place.mkdir()
        with _quiet():
            kind.make(prepared, Random(f"{seed} {kind.name} {number}"), number, place)
            outcome = _try(kind, number, place)
        if not outcome.fault:
            shutil.rmtree(place)
        yield outcome


def _try(kind: Kind, number: int, place: Path) -> Outcome:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = Outcome(number, TAKEN)
    try:
        with _time_limit(kind.seconds):
            kind.use(place)
    except UserError as error:
        said = str(error)
        is_line = said.isprintable() or not {"\n", "\r"} & set(said)
        fault = "" if is_line and 0 < len(said) <= _LONGEST else f"its message is no line: {said[:300]!r}"
        outcome = Outcome(number, REFUSED, said, fault)
    except TooSlowError:
        outcome = Outcome(number, REFUSED, "", HANG)
    except (Exception, SystemExit) as error:
        where = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(f.filename).name}:{f.lineno}" for f in where if "minivlm" in f.filename][-2:]
        said = " ".join(str(error).split())[:200]
        outcome = Outcome(number, REFUSED, "", f"{type(error).__name__}: {said} ({', '.join(ours)})")
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return outcome._replace(fault=LARGE) if grown > LARGEST and not outcome.fault else outcome


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """So many seconds of the processor, which a busy machine does not shorten, or by the clock _WAITING times."""

    def stop(*_: object) -> None:
        raise TooSlowError

    clocks = (
        (signal.SIGPROF, signal.ITIMER_PROF, seconds),
        (signal.SIGALRM, signal.ITIMER_REAL, _WAITING * seconds),
    )
    old = [signal.signal(number, stop) for number, _, _ in clocks]
    for _, clock, limit in clocks:
        signal.setitimer(clock, limit)
    try:
        yield
    finally:
        for (number, clock, _), handler in zip(clocks, old, strict=True):
            signal.setitimer(clock, 0)
            signal.signal(number, handler)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what readers print; their warnings are not at issue here."""
    import warnings

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        with contextlib.redirect_stderr(io.StringIO()):
            yield


def _serve(name: str, first: int, count: int, seed: int, folder: Path, pipe: Connection) -> None:
    """The child's whole life."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        for stream in (1, 2):  # libtiff, the tokenizers library and others write there themselves
            os.dup2(nowhere.fileno(), stream)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    started = False
    for outcome in try_inputs(KINDS[name], first, count, seed, folder):
        pipe.send(outcome)
        if not started:  # what the kind needs is imported by now
            mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (mapped + _BEYOND, resource.RLIM_INFINITY))
            started = True


def run_kind(
    kind: Kind, count: int, seed: int, folder: Path, until: float, serve: Callable[..., None] = _serve
) -> Iterator[Outcome]:
    """The outcomes of `count` inputs, made and used in child processes; fewer where the clock passes `until`.

    A child that ends, or does not answer, costs the input that it was at, and another takes its place.
    """
    context = multiprocessing.get_context("spawn")
    first, attempt = 0, 0
    while first < count and time.monotonic() < until:
        ours, theirs = context.Pipe()
        attempt += 1
        arguments = (kind.name, first, count - first, seed, folder / f"{attempt}", theirs)
        child = context.Process(target=serve, args=arguments, daemon=True)
        child.start()
        theirs.close()
        fresh = True
        while first < count and time.monotonic() < until:
            if not ours.poll(2 * _WAITING * kind.seconds + (_IMPORTS if fresh else 0)):
                yield Outcome(first, REFUSED, "", f"{HANG}, in code that nothing interrupts")
                first += 1
                break
            try:
                outcome = ours.recv()
            except EOFError:
                child.join(10)
                yield Outcome(first, REFUSED, "", f"{CRASH} with code {child.exitcode}")
                first += 1
                break
            fresh = False
            first = outcome.number + 1
            yield outcome
        if first >= count:
            child.join(60)
        child.kill()
        child.join()


def main(
    inputs: Annotated[int, typer.Option("--inputs", "-n", help="Inputs of all kinds together.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    seconds: Annotated[float, typer.Option(help="Stop after so many, 0 = never.")] = 0.0,
    kind: Annotated[list[str] | None, typer.Option(help="A kind; may be repeated. All by default.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder for the inputs at fault.")] = None,
    recorded: Annotated[bool, typer.Option("--record", help="Write docs/reliability.json.")] = False,
) -> None:
    """Make and try the inputs; exit code 1 when one of them is a fault."""
    if unknown := [name for name in kind or () if name not in KINDS]:
        raise typer.BadParameter(f"no kind {unknown[0]!r}; there are: {', '.join(KINDS)}")
    chosen = [KINDS[name] for name in kind] if kind else list(KINDS.values())
    whole, began = sum(each.share for each in chosen), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-")) if keep is None else keep
    counts: dict[str, Counter[str]] = {}
    for place, each in enumerate(chosen):
        left = began + seconds - time.monotonic() if seconds else 1e9
        later = sum(other.share for other in chosen[place:])
        until = time.monotonic() + left * each.share / later
        count = counts[each.name] = Counter[str]()
        for outcome in run_kind(each, -(-inputs * each.share // whole), seed, folder / each.name, until):
            count["inputs"] += 1
            count["faults" if outcome.fault else outcome.result] += 1
            if outcome.fault:
                typer.echo(f"{each.name} {outcome.number}: {outcome.fault}")
        shutil.rmtree(folder / each.name, ignore_errors=not count["faults"]) if not count["faults"] else None
        took = f"{time.monotonic() - began:,.0f} s"
        typer.echo(f"{each.name}: {', '.join(f'{what} {n:,}' for what, n in count.items())}; {took} so far")
    total = sum(counts.values(), Counter[str]())
    typer.echo(f"{total['inputs']:,} inputs, {total['faults']} faults")
    if total["faults"]:
        typer.echo(f"inputs at fault: {folder}")
    if recorded:
        record("fuzz", summary(counts, inputs, seed, time.monotonic() - began))
    raise typer.Exit(bool(total["faults"]))


def summary(counts: dict[str, Counter[str]], inputs: int, seed: int, seconds: float) -> dict[str, Any]:
    """What docs/reliability.json keeps of a run."""
    total = sum(counts.values(), Counter[str]())
    return {
        "command": f"make fuzz N={inputs}",
        "seed": seed,
        **{what: total[what] for what in ("inputs", TAKEN, REFUSED)},
        "unhandled_exceptions": total["faults"],
        "kinds": {
            name: {what: count[what] for what in ("inputs", TAKEN, REFUSED)} for name, count in counts.items()
        },
        "minutes": round(seconds / 60, 1),
    }


if __name__ == "__main__":
    typer.run(main)
