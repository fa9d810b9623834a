"""`minivlm check-data`: the gate's checks on a file of your own, told in plain words.

The same conversion and the same checks as `download` and `validate` make, with the limits of params.yaml; nothing
is written. Exit code 0: every row passes; 1: some are at fault; 2: the file cannot be used.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from minivlm.data.validation.verdict import FileVerdict


def command(
    file: Annotated[Path, typer.Argument(help="Rows: a Parquet file, or JSON lines.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder or zip of pictures; for X_data.jsonl X_images/ or X_images.zip.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Check the first rows only; 0 = all.")] = 0,
    show: Annotated[int, typer.Option(min=0, help="Rows listed for each rule; 0 = all.")] = 20,
) -> None:
    """Check a file of rows of your own and say what is wrong in which row."""
    verdict, layout, place = check(file, images, limit)
    faults = _faults(verdict, show, with_lines=layout == "JSON lines")
    lines = [_source(file, layout, place), *faults, *summary(verdict)]
    typer.echo("\n".join(lines))
    if verdict.rejected:
        raise typer.Exit(1)


def check(file: Path, images: Path | None, limit: int) -> "tuple[FileVerdict, str, Path | None]":
    """The verdict on the rows of a file, its layout in words, and where its pictures were looked for.

    UserError when the file, or the folder or zip of its pictures, cannot be used.
    """
    from minivlm import hardware
    from minivlm.config import load_params
    from minivlm.data.formats.reader import images_beside, open_rows
    from minivlm.data.validation.expectations import Limits
    from minivlm.data.validation.gate import check_rows
    from minivlm.data.validation.parquet_rows import Rows
    from minivlm.errors import UserError
    from minivlm.paths import Paths

    params = load_params(Paths().params)
    section = params.validate_
    place = images or images_beside(file)
    reader = open_rows(file, place, limit=limit)
    if not reader.rows:
        raise UserError(f"{file}: holds no rows")
    verdict = check_rows(
        file.stem,
        Rows(reader.rows, reader.batches),
        limits=Limits(section.max_text_characters, section.min_side, section.max_side),
        workers=params.runtime.workers or hardware.cores(),
    )
    return verdict, reader.layout, place if reader.layout == "JSON lines" else None


def _source(file: Path, layout: str, place: Path | None) -> str:
    return f"{file}: {layout}" + (f", pictures in {place}" if place else "")


def _faults(verdict: "FileVerdict", show: int, with_lines: bool) -> Iterator[str]:
    """For each rule that rows break: the rule as a sentence, and `show` rows (0 = all) with what was found."""
    found: dict[str, list[tuple[int, str]]] = {}
    for row, reasons in verdict.rejected.items():
        for reason in reasons:
            name, _, what = reason.partition(": ")
            found.setdefault(name, []).append((row, what))
    for _, result in verdict.results:
        rows = found.get(result.check.name, [])
        if not rows:
            continue
        breaks = "1 row breaks" if len(rows) == 1 else f"{len(rows):,} rows break"
        yield f"\n{breaks} this rule: {result.check.meaning}."
        shown = rows[: show or None]
        for row, what in shown:
            where = f"row {row} (line {row + 1})" if with_lines else f"row {row}"
            yield f"  {where}: {what}"
        if len(rows) > len(shown):
            yield f"  and {len(rows) - len(shown):,} more (--show 0 lists all)"


def summary(verdict: "FileVerdict") -> Iterator[str]:
    """How many rows pass, and what the rows are like: their pictures and the lengths of their texts."""
    rejected = len(verdict.rejected)
    rows = "1 row" if verdict.rows == 1 else f"{verdict.rows:,} rows"
    yield f"\n{rows}: {verdict.accepted:,} accepted, {rejected:,} rejected"
    for _, result in verdict.results:
        if result.unexpected:
            yield f"  {result.unexpected:,} break the rule: {result.check.meaning}"
    told = verdict.distributions
    if "pictures" in told:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in told["format"].items())
        yield f"pictures: {verdict.pictures:,}; rows without any: {verdict.text_rows:,}"
        if kinds:
            yield f"formats, by each row's first picture: {kinds}"
    for name, title, unit in (
        ("width", "width of a picture", "pixels"),
        ("height", "height of a picture", "pixels"),
        ("turns", "turns of a row", ""),
        ("question_characters", "questions of a row", "characters"),
        ("answer_characters", "answers of a row", "characters"),
    ):
        if name in told:
            low, middle, high = (told[name][key] for key in ("min", "median", "max"))
            yield f"{title}: {low:,} to {high:,}, median {middle:g} {unit}".rstrip()
