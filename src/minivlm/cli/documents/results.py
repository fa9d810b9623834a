"""What the last run was like, for the READMEs and the model card: pictures with their captions, scores, losses.

Everything comes from reports/: no figure and no caption is typed by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minivlm.cli.documents.sides import named_sides
from minivlm.cli.documents.words import Words
from minivlm.errors import UserError
from minivlm.evaluation.page.captions import worth_saying
from minivlm.evaluation.questions import STAGES
from minivlm.markdown import image, inert, table

SHORT = ("attribute_recall", "exact_scene", "hallucination_rate", "cider")  # what a reader sees first
Reports = Callable[[str], Path]
Entry = Mapping[str, Any]


def results_block(reports: Reports, words: Words) -> str:
    """A success and a failure, the main scores, and folded away all pictures and the losses."""
    captions = _read(reports("evaluate") / "captions.json")
    scores = _read(reports("evaluate") / "metrics.json")
    losses = {stage: _read(reports(stage) / "metrics.json") for stage in STAGES}
    fold = f"<details><summary>{words.fold.format(all=len(captions))}</summary>\n"
    return "\n".join(
        (
            _captions(examples(captions), words, width=200),
            _told(captions, words),
            _scores(scores, words, SHORT),
            f"{words.note}\n",
            fold,
            _captions(captions, words, width=120),
            _losses(losses, words),
            "</details>\n",
        )
    )


def scores_block(reports: Reports, words: Words) -> str:
    """All scores, as the model card has them."""
    scores = _read(reports("evaluate") / "metrics.json")
    return f"{_scores(scores, words, tuple(words.figures))}\n{words.note}\n"


def examples(captions: Sequence[Entry]) -> list[Entry]:
    """The first picture of which both stages say nothing wrong, and the one that sft gets most wrong.

    Ties go to the picture that pretrain gets more wrong, then to the first. Fewer where there are no such.
    """
    right = [
        entry
        for entry in captions
        if not any(_mistakes(entry, stage) or not all(named_sides(entry, stage)) for stage in STAGES)
    ]
    wrong = [entry for entry in captions if _mistakes(entry, "sft")]
    worst = max(wrong, key=lambda e: [len(_mistakes(e, stage)) for stage in reversed(STAGES)], default=None)
    return right[:1] + ([worst] if worst else [])


def _mistakes(entry: Entry, stage: str) -> list[Entry]:
    return list(entry[stage].get("mistakes", ()))


def _read(path: Path) -> Any:
    from minivlm.files import read_json

    try:
        return read_json(path)
    except FileNotFoundError:
        raise UserError(f"reports/{path.parent.name}/{path.name}: not found; run `make repro` first") from None


def _captions(captions: Sequence[Entry], words: Words, width: int) -> str:
    """The original's table, with the truth of drawn pictures and what is wrong in bold."""
    rows = []
    for entry in captions:
        shown_as = image(f"data/eval_images/{entry['file']}", entry["title"], width)
        shown = words.shows(entry["scene"]) if "scene" in entry else "–"
        rows.append([shown_as, shown, *(_caption(entry[stage]) for stage in STAGES)])
    return table(words.captions, rows, left=4)


def _caption(said: Entry) -> str:
    """A caption as a cell; wrong words in <b>, because ** does not work next to Chinese punctuation."""
    from minivlm.data.scenes.parse import parse_caption
    from minivlm.evaluation.page.marks import marked

    html = marked(said["caption"], said.get("mistakes", ()), parse_caption)
    return inert(html).replace("<mark>", "<b>").replace("</mark>", "</b>")


def _told(captions: Sequence[Entry], words: Words) -> str:
    """In words: what is wrong with the failure, and how many pictures have none. Empty without drawn pictures."""
    judged = [entry for entry in captions if "scene" in entry]
    lines = []
    shown = examples(captions)
    for entry in shown:
        for stage in STAGES:
            if found := [words.mistake(mistake) for mistake in worth_saying(_mistakes(entry, stage))]:
                lines.append(f"- {stage}{words.colon}{words.semicolon.join(found)}\n")
    if lines:
        lines = [f"{words.wrong if len(shown) > 1 else words.alone}\n\n", *lines, "\n"]
    if judged:
        right = {stage: sum(not _mistakes(entry, stage) for entry in judged) for stage in STAGES}
        lines.append(f"{words.right.format(all=len(judged), **right)}\n")
    sides = [right for entry in captions for right in named_sides(entry, "sft")]
    if sides:
        lines.append(f"{words.sides.format(all=len(sides), right=sum(sides))}\n")
    return "".join(lines)


def _scores(metrics: Any, words: Words, names: Sequence[str]) -> str:
    """One row for each model and split; in brackets the same score with the pictures exchanged."""
    pairs = [(stage, split) for split in words.splits for stage in STAGES if split in metrics[stage]]
    scored = [(stage, split, metrics[stage][split]) for stage, split in pairs]
    shown = [name for name in names if any(name in scores for _, _, scores in scored)]
    header = [*words.score_heads, *(words.figures[name][0] for name in shown), words.gap]
    rows = [
        [
            words.splits[split],
            stage,
            *(_score(scores, name, words) for name in shown),
            f"{scores['image_gap']:.2f}",
        ]
        for stage, split, scores in scored
    ]
    return table(header, rows, left=2)


def _score(scores: Mapping[str, float], name: str, words: Words) -> str:
    if name not in scores:
        return "–"
    digits = words.figures[name][1]
    shuffled = scores.get(f"shuffled_{name}")
    return f"{scores[name]:.{digits}f}" + (f" ({shuffled:.{digits}f})" if shuffled is not None else "")


def _losses(losses: Mapping[str, Any], words: Words) -> str:
    rows = [
        [stage, f"{m['steps']:,}", f"{m['tokens']:,}", f"{m['train_loss']:.3f}", f"{m['val_loss']:.3f}"]
        for stage, m in losses.items()
    ]
    return table(words.loss_heads, rows, left=1)
