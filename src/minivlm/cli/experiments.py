"""`minivlm experiments`: DVC's experiments in a table of few columns, with short names.

`dvc exp show` has a column for every parameter, metric and source file, more than four hundred, and no setting
that chooses among them; this asks it for its JSON.
"""

import json
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple

import typer

from minivlm.paths import STAGES
from minivlm.terminal import rich_console

# Column → the metrics of evaluate/metrics.json or of a stage that it shows: the first that is there.
COLUMNS = {
    "sft loss": ("sft:val_loss",),
    "recall": ("evaluate:sft.heldout.attribute_recall", "evaluate:sft.heldout.cider"),
    "unseen": ("evaluate:sft.compositional.attribute_recall", "evaluate:sft.compositional.cider"),
    "gap": ("evaluate:sft.heldout.image_gap",),
}
NOTE = """\
sft loss: on the rows that sft keeps for validation; lower is better.
recall, unseen, gap: on held-out pictures; higher is better.
The loss and the scores are over different rows and may disagree."""
UNFINISHED = ("queued", "running")  # their files are still those of the commit
_MISSING = object()


class Row(NamedTuple):
    """One experiment, a commit, or the workspace."""

    name: str
    parent: str  # empty: a commit or the workspace
    state: str
    changed: dict[str, Any]
    """Dotted parameter → value, where it differs from the commit."""
    figures: dict[str, float]


def command(
    commits: Annotated[int, typer.Option("--commits", min=1, help="So many commits, with their experiments.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show DVC's experiments: what each changed, and what came of it.

    sft loss: validation loss of sft (lower is better). recall and unseen: attributes of new pictures, and of
    combinations that no training picture has, that sft's answers name (rows without a scene: CIDEr). gap: image
    gap in nats (of all three, higher is better).
    `dvc exp show --only-changed` has every metric.
    """
    from minivlm.paths import Paths

    root = Paths().root
    rows = list(read_rows(_asked(commits, str(root)), _locked(root / "dvc.lock")))
    if as_json:
        typer.echo(json.dumps([row._asdict() for row in rows], ensure_ascii=False, indent=2))
    else:
        show(rows)


def _asked(commits: int, folder: str) -> Any:
    from minivlm.errors import UserError

    asked = [sys.executable, "-m", "dvc", "exp", "show", "--json", "--num", str(commits)]
    done = subprocess.run(asked, cwd=folder, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"dvc exp show: {said[-1].removeprefix('ERROR: ')}")
    return json.loads(done.stdout)


def _locked(file: Path) -> Mapping[str, Any]:
    """The stages of a dvc.lock; none where DVC has not run, or cannot read its file either."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        stages: Mapping[str, Any] = YAML(typ="safe").load(file)["stages"]
    except (OSError, YAMLError, KeyError, TypeError):
        return {}
    return stages


def outdated(locked: Mapping[str, Any], parameters: Mapping[str, Any]) -> set[str]:
    """Stages whose files are of other parameters than these, or follow from such files, as dvc.lock has it."""
    made = {out["path"]: (stage, out.get("md5")) for stage in locked for out in locked[stage]["outs"]}
    found: set[str] = set()
    for stage in (name for name in STAGES if name in locked):
        used = _flat(locked[stage].get("params", {}).get("params.yaml", {}))
        sources = [
            (*made[each["path"]], each.get("md5")) for each in locked[stage]["deps"] if each["path"] in made
        ]
        if any(parameters.get(key, _MISSING) != value for key, value in used) or any(
            maker in found or now != then for maker, now, then in sources
        ):
            found.add(stage)
    return found


def read_rows(shown: list[dict[str, Any]], locked: Mapping[str, Any]) -> Iterator[Row]:
    """Of the JSON of `dvc exp show`: the workspace, then each commit with its experiments.

    `locked`: the stages of the workspace's dvc.lock, which say what its figures are of.
    """
    commits = [each for each in shown if each["rev"] != "workspace"]
    base = _parameters(commits[0]) if commits else {}
    for each in (each for each in shown if each["rev"] == "workspace"):
        old = outdated(locked, _parameters(each))
        yield _row(each, "", "not run" if old else "", base, old)
    for each in commits:
        yield _row(each, "", "", base)
        for experiment in each["experiments"] or ():
            revision = experiment["revs"][0]
            state = (experiment["executor"] or {}).get("state") or ""
            yield _row(revision, each["name"] or each["rev"][:7], state, _parameters(each))


def _row(
    revision: dict[str, Any], parent: str, state: str, base: Mapping[str, Any], outdated: Collection[str] = ()
) -> Row:
    """`base`: the parameters that it is compared with; `outdated`: stages whose figures are not its own."""
    own = _parameters(revision)
    is_commit = not parent and revision["rev"] != "workspace"
    changed = {} if is_commit else {key: value for key, value in own.items() if base.get(key, _MISSING) != value}
    metrics = (revision["data"] or {}).get("metrics") or {}
    figures = {
        f"{stage}:{name}": value
        for file, entry in metrics.items()
        if (stage := PurePosixPath(file).parent.name) not in outdated  # reports/<stage>/metrics.json
        for name, value in _flat(entry.get("data") or {})
    }
    picked = {
        column: figures[found]
        for column, names in COLUMNS.items()
        if (found := next((name for name in names if name in figures), None))
    }
    if revision.get("error"):
        state = state or "failed"
    if state.lower() in UNFINISHED:
        picked = {}
    return Row(revision["name"] or revision["rev"][:9], parent, state.lower(), changed, picked)


def _parameters(revision: Mapping[str, Any]) -> dict[str, Any]:
    file = ((revision["data"] or {}).get("params") or {}).get("params.yaml") or {}
    return dict(_flat(file.get("data") or {}))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def show(rows: list[Row]) -> None:
    """A table that fits 80 columns: what was changed is broken into lines, figures never."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    console = rich_console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("experiment", overflow="fold")
    table.add_column("changed")
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        changed = "\n".join(
            escape(f"{key} = {json.dumps(value, ensure_ascii=False)}") for key, value in row.changed.items()
        )
        name = escape(f"  {row.name}" if row.parent else row.name)
        state = f" [dim]{row.state}[/dim]" if row.state not in ("", "success") else ""
        figures = [
            f"{round(row.figures[column], 3) + 0.0:.3f}" if column in row.figures else "–" for column in COLUMNS
        ]
        table.add_row(f"{name}{state}", changed, *figures)
    console.print(table)
    console.print(NOTE)
