"""`minivlm readme`: write the results block of the READMEs from reports/, so that no figure is typed by hand.

The block lies between two marker lines; everything else of a README stays as it is. A test fails when the block
and the committed reports differ.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from minivlm.errors import UserError

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
STAGES = ("pretrain", "sft")
SPLITS = {"heldout": "new pictures", "compositional": "combinations never seen"}
# Figure of reports/evaluate/metrics.json → column and digits; a figure that a split lacks is left out.
FIGURES = {
    "attribute_recall": ("recall", 3),
    "attribute_precision": ("precision", 3),
    "exact_scene": ("exact scene", 3),
    "hallucination_rate": ("hallucination", 3),
    "cider": ("CIDEr", 3),
    "bleu": ("BLEU", 1),
    "chrf": ("chrF", 1),
}


def command(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when it is not current.")] = False,
) -> None:
    """Write the results block of README.md from reports/."""
    from minivlm.files import write_text
    from minivlm.paths import Paths
    from minivlm.stage import one_line_errors

    paths = Paths()
    with one_line_errors():
        block = results_block(paths.reports)
        for readme in readmes(paths.root):
            text = readme.read_text(encoding="utf-8")
            new = replace_block(text, block, readme.name)
            if check and new != text:
                raise UserError(f"{readme.name}: the results are not those of reports/; run `minivlm readme`")
            if not check:
                write_text(readme, new)


def readmes(root: Path) -> list[Path]:
    """The READMEs that hold a results block."""
    return [path for path in sorted(root.glob("README*.md")) if BEGIN in path.read_text(encoding="utf-8")]


def replace_block(text: str, block: str, name: str) -> str:
    """`text` with what stands between the markers replaced; UserError when they are not there once, in order."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise UserError(f"{name}: needs one line {BEGIN} and after it one line {END}")
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{block}{END}{rest.split(END)[1]}"


def results_block(reports: Callable[[str], Path]) -> str:
    """Markdown tables of captions, scores and losses; `reports` maps a stage to its folder."""
    captions = _read(reports("evaluate") / "captions.json")
    scores = _read(reports("evaluate") / "metrics.json")
    losses = {stage: _read(reports(stage) / "metrics.json") for stage in STAGES}
    return "\n".join((_captions(captions), _scores(scores), _losses(losses)))


def _read(path: Path) -> Any:
    from minivlm.files import read_json

    try:
        return read_json(path)
    except FileNotFoundError:
        raise UserError(f"reports/{path.parent.name}/{path.name}: not found; run `make repro` first") from None


def _captions(captions: list[dict[str, Any]]) -> str:
    """The original's table: picture, caption of the first stage, caption of the second."""
    rows = []
    for entry in captions:
        picture = f'<img src="data/eval_images/{entry["file"]}" alt="{entry["title"]}" width="160">'
        rows.append([picture, *(_cell(entry[stage]["caption"]) for stage in STAGES)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (["picture", *STAGES], ["---"] * 3, *rows))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "&#124;").replace("<", "&lt;")


def _losses(losses: dict[str, Any]) -> str:
    rows = [
        [stage, f"{m['steps']:,}", f"{m['tokens']:,}", f"{m['train_loss']:.3f}", f"{m['val_loss']:.3f}"]
        for stage, m in losses.items()
    ]
    return _table(["stage", "steps", "tokens", "training loss", "validation loss"], rows)


def _scores(metrics: Any) -> str:
    """One row for each model and split; in brackets the same score with the pictures exchanged."""
    pairs = [(stage, split) for split in SPLITS for stage in STAGES if split in metrics[stage]]
    scored = [(stage, split, metrics[stage][split]) for stage, split in pairs]
    shown = [name for name in FIGURES if any(name in scores for _, _, scores in scored)]
    header = ["held-out rows", "model", *(FIGURES[name][0] for name in shown), "image gap (nats)"]
    rows = [
        [SPLITS[split], stage, *(_score(scores, name) for name in shown), f"{scores['image_gap']:.2f}"]
        for stage, split, scores in scored
    ]
    note = "In brackets: the same score with the pictures exchanged, which is what guessing earns."
    return f"{_table(header, rows)}\n{note}\n"


def _score(scores: dict[str, float], name: str) -> str:
    if name not in scores:
        return "–"
    digits = FIGURES[name][1]
    shuffled = scores.get(f"shuffled_{name}")
    return f"{scores[name]:.{digits}f}" + (f" ({shuffled:.{digits}f})" if shuffled is not None else "")


def _table(header: list[str], rows: list[list[str]]) -> str:
    align = ["---", *("---:" for _ in header[1:])]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, align, *rows))
