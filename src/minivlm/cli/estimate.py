"""`minivlm estimate`: hours, money, memory and disk of a run, before anything is spent."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from minivlm.cli.complete import profiles, stages, stated
from minivlm.errors import UserError
from minivlm.terminal import rich_console

_DASH = "?"


def command(
    profile: Annotated[
        str,
        typer.Option(
            help="A file of profiles/, without .yaml; params.yaml as it is by default.", autocompletion=profiles
        ),
    ] = "",
    stage: Annotated[
        list[str] | None, typer.Option(help="A stage; may be repeated. All by default.", autocompletion=stages)
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(help="Rows of a stage that cannot be known yet: sft=300000.", autocompletion=stated),
    ] = None,
    tokens: Annotated[
        list[str] | None,
        typer.Option(
            help="Tokens of a stage's rows on average, pictures included: sft=400.", autocompletion=stated
        ),
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Calculate for --device; run nothing.")] = False,
    device: Annotated[str | None, typer.Option(help="With --paper: a GPU by name; RTX 4090.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Timed steps of each training stage, about.")] = 15.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Estimate hours, money, memory and disk of every stage, each with its uncertainty; nothing is changed.

    A short probe trains some steps at the profile's sizes on this machine, with random weights; --paper only
    calculates. No network is asked.
    """
    from minivlm.paths import STAGES, TRAIN_SPLITS
    from minivlm.planning.assumptions import Asked
    from minivlm.planning.estimate import estimate

    if unknown := [name for name in stage or () if name not in STAGES]:
        raise UserError(f"no stage '{unknown[0]}'; there are: {', '.join(STAGES)}")
    if device and not paper:
        raise UserError("--device needs --paper: a probe runs on the device of this machine")
    params, present = _parameters(profile)
    asked = Asked(
        stages=stage or STAGES,
        rows={name: int(value) for name, value in _stated("--rows", rows, TRAIN_SPLITS)},
        tokens=dict(_stated("--tokens", tokens, TRAIN_SPLITS)),
        paper=paper,
        device=device or "RTX 4090",
        seconds=seconds,
    )
    found = {"profile": profile or None, **estimate(params, present, asked)}
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        show(found)


def _parameters(profile: str) -> tuple[Any, Any]:
    """Parameters with the profile merged in memory, and what is present of them."""
    from ruamel.yaml import YAML

    from minivlm.cli.profile import merged, profile_path
    from minivlm.config import load_params, parse_params
    from minivlm.paths import Paths
    from minivlm.planning.present import Present

    paths = Paths()
    if not profile:
        return load_params(paths.params), Present(paths)
    text, _ = merged(paths.params, profile_path(paths.profiles, profile))
    values = YAML(typ="safe", pure=True).load(text)
    return parse_params(values, f"profiles/{profile}.yaml"), Present(paths, values)


def _stated(option: str, given: list[str] | None, stages: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """`sft=300000` → (sft, 300000); UserError for another stage or no positive number."""
    for text in given or ():
        name, _, value = text.partition("=")
        if name not in stages:
            raise UserError(f"{option} {text}: must be one of {', '.join(stages)}, = and a number")
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if not 1 <= number < 1e12:
            raise UserError(f"{option} {text}: {value!r} is no number of {option[2:]}")
        yield name, number


def show(found: Mapping[str, Any]) -> None:
    """A table of the stages, and below it what each figure rests on."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    console = rich_console(highlight=False)
    about = f"profile {found['profile']}" if found["profile"] else "params.yaml"
    price = (
        "no price known"
        if found["price_per_hour"] is None
        else f"{found['price_per_hour']:g} {found['currency']}/h"
    )
    console.print(f"[bold]{about} on {found['device']}[/bold] ({found['precision']}, {price})")
    console.print(found["how"] + "\n")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    whole = found["total"]
    # Where it is too narrow for all, figures go on in a second line, at a space; rich would cut what may not.
    table.add_column("stage", "all known", no_wrap=True)
    table.add_column("time", _time(whole["seconds"]), justify="right")
    table.add_column(found["currency"], _money(whole["money"]), justify="right")
    table.add_column("memory", "", justify="right")
    table.add_column("disk", _bytes(whole["disk"]), justify="right")
    for stage, entry in found["stages"].items():
        memory = entry["gpu_memory"] if "gpu_memory" in entry else entry["memory"]
        table.add_row(
            stage, _time(entry["seconds"]), _money(entry["money"]), _bytes(memory), _bytes(entry["disk"])
        )
    console.print(table)
    for stage, entry in found["stages"].items():
        console.print(f"[bold]{stage}[/bold]")
        for line in _reasons(entry):
            console.print(
                escape(textwrap.fill(line, console.width, initial_indent="  ", subsequent_indent="    "))
            )


def _reasons(entry: Mapping[str, Any]) -> Iterator[str]:
    """What the figures of a stage rest on, in sentences."""
    from minivlm.planning.room import disk_of_features

    if entry["seconds"] is None:
        yield f"time unknown: {entry['why']}"
    if "steps" in entry:
        count = "exactly" if entry["exact"] else "about"
        yield (
            f"{count} {entry['steps']:,} steps, {entry['samples']:,} rows, {_short(entry['tokens'])} tokens "
            f"({entry['padding_share']:.1%} padding), {_short(entry['flops'] + entry['validation_flops'])}FLOP"
        )
    if note := entry.get("note"):
        yield note
    if "counted_from" in entry:
        yield f"counted from {entry['counted_from']}"
    if "probe_steps" in entry:
        yield (
            f"probed {entry['probe_steps']} steps of {entry['probe_seconds_per_step']:.3g} s, "
            f"{entry['samples_per_second']:,.1f} rows/s, {_short(entry['flops_per_second'])}FLOP/s; "
            f"rows: {entry['probe_rows']}"
        )
    if features := entry.get("features"):
        few = "" if features["enough"] else f"; {_size(features['free']['bytes'])} are free"
        open_end = f" or more ({features['needed_why']})" if features["needed"] is None else ""
        yield (
            f"feature cache: {features['filled_pictures']:,} pictures through the tower first, "
            f"{_clock(features)} of the time; {_span(disk_of_features(features))}{open_end} of disk, "
            f"which both stages share{few}"
        )
    for factor in entry.get("uncertainty", ()):
        yield f"x {factor['low']:.2f} to x {factor['high']:.2f} by {factor['of']}: {factor['from']}"
    for name, said in (("memory", "memory"), ("gpu_memory", "GPU memory")):
        room = entry.get(name)
        if name in entry and room is None:
            yield f"{said} unknown: {entry[f'{name}_why']}"
        elif room is not None and room.get("enough") is False:
            yield f"{said}: {_size(room['high'])} at most; there is {_size(room['machine'])}"
    if entry["disk"] is None:
        yield f"disk unknown: {entry['disk_why']}"
    elif entry["disk"]["high"] > entry["disk"]["free"]:
        yield f"disk: {_size(entry['disk']['free'])} are free"


def _clock(features: Mapping[str, Any]) -> str:
    return _time({end: features["fill_seconds"] for end in ("expected", "low", "high")}).partition(" (")[0]


def _time(seconds: Mapping[str, float] | None) -> str:
    """`1.4 h (1–2.6)`: in the unit that fits the expected value."""
    if seconds is None:
        return _DASH
    units = (("h", 3600.0), ("min", 60.0), ("s", 1.0))
    unit, size = next((unit, size) for unit, size in units if seconds["expected"] >= size or unit == "s")
    middle, low, high = (_digits(seconds[end] / size) for end in ("expected", "low", "high"))
    return f"{middle} {unit} ({low}–{high})"


def _money(amount: Mapping[str, float] | None) -> str:
    if amount is None:
        return _DASH
    middle, low, high = (_digits(amount[end]) for end in ("expected", "low", "high"))
    return f"{middle} ({low}–{high})"


def _digits(number: float) -> str:
    """Two digits, but every one before the point; one below a hundredth, none below a thousandth."""
    if number >= 10:
        return f"{number:,.0f}"
    return f"{number:.2g}" if number >= 0.01 else f"{number:.1g}" if number >= 0.001 else "0"


def _bytes(room: Mapping[str, Any] | None) -> str:
    """`1.3–2.2 GiB`: both in the unit of the higher."""
    if room is None:
        return _DASH
    number, unit = _size(room["high"]).split()
    return f"{_digits(float(number) * room['low'] / room['high'])}–{_digits(float(number))} {unit}"


def _span(room: Mapping[str, Any]) -> str:
    """The same, or one figure where both ends are one."""
    return _size(room["high"]) if room["low"] == room["high"] else _bytes(room)


def _size(count: int) -> str:
    from minivlm.planning.figures import size_text

    number, unit = size_text(count).split()
    return f"{_digits(float(number))} {unit}"


def _short(count: float) -> str:
    """1234567 → 1.23 M."""
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {prefix}"
    return f"{count:.3g} "
