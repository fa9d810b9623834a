"""What a caption gets right about a drawn scene: sky, ground, and kind, number and colour of each group of things.

Pure functions from (truth of the scene, what the caption states) to judgements and rates. A caption is compared
as a set of statements, not as a string: "three red birds over the sea" and "over the sea fly birds, red ones,
three" score alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from minivlm.data.scenes.world import Group, Truth

ATTRIBUTES = ("sky", "ground", "kind", "number", "colour")


@dataclass(frozen=True)
class Judgement:
    """One attribute of the scene beside what the caption says of it.

    `true` is None where the caption speaks of something that the scene does not have, `stated` is None where the
    caption is silent. `kind` names the thing that a number or colour belongs to.
    """

    attribute: str
    true: str | int | None
    stated: str | int | None
    kind: str | None = None

    @property
    def right(self) -> bool:
        return self.true is not None and self.true == self.stated


def judge(truth: Truth, stated: Truth) -> list[Judgement]:
    """Every attribute of the scene and every attribute that the caption states, each once.

    A stated group answers for the scene's group of the same kind; where there are several of a kind, those that
    agree in number and colour go together first. Number and colour of a group that the scene lacks are wrong,
    whatever they are: they are credited with their kind only.
    """
    judgements = [
        Judgement(name, getattr(truth, name), getattr(stated, name))
        for name in ("sky", "ground")
        if getattr(truth, name) is not None or getattr(stated, name) is not None
    ]
    pairs, missed, extra = _match(truth.groups, stated.groups)
    everything: list[tuple[Group | None, Group | None]] = [*pairs, *((group, None) for group in missed)]
    everything += [(None, group) for group in extra]
    for true_group, stated_group in everything:
        kind = true_group.kind if true_group else stated_group.kind if stated_group else None
        for name in ("kind", "number", "colour"):
            true, said = getattr(true_group, name, None), getattr(stated_group, name, None)
            if true is not None or said is not None:
                judgements.append(Judgement(name, true, said, kind))
    return judgements


def _match(
    shown: Sequence[Group], stated: Sequence[Group]
) -> tuple[list[tuple[Group, Group]], list[Group], list[Group]]:
    """Pairs of the same kind, best agreement first; what is left of the scene's groups and of the stated ones."""
    agreement = sorted(
        (-(a.number == b.number) - (a.colour == b.colour), i, j)
        for i, a in enumerate(shown)
        for j, b in enumerate(stated)
        if a.kind is not None and a.kind == b.kind
    )
    partner: dict[int, int] = {}
    for _, i, j in agreement:
        if i not in partner and j not in partner.values():
            partner[i] = j
    pairs = [(shown[i], stated[j]) for i, j in sorted(partner.items())]
    missed = [group for i, group in enumerate(shown) if i not in partner]
    extra = [group for j, group in enumerate(stated) if j not in partner.values()]
    return pairs, missed, extra


def score(pairs: Iterable[tuple[Truth, Truth]]) -> dict[str, Any]:
    """Rates over (truth, stated) pairs, one pair for each picture; sums over all pictures before dividing.

    - `attribute_recall`: of all skies, grounds, kinds, numbers and colours of the scenes, the share stated
      rightly.
    - `attribute_precision`: of all attributes that the captions state, the share that is right.
    - `exact_scene`: share of pictures with everything right and nothing else stated.
    - `hallucination_rate`: of the kinds of things that the captions name (each once for each caption), the share
      that the picture does not show.
    - `by_attribute`: recall of each kind of attribute that the scenes have.

    Captions that state nothing have precision 0 and hallucination rate 0; with no picture at all every rate is 0.
    """
    shown, stated, right = dict.fromkeys(ATTRIBUTES, 0), dict.fromkeys(ATTRIBUTES, 0), dict.fromkeys(ATTRIBUTES, 0)
    pictures = exact = named = invented = 0
    for truth, statement in pairs:
        judgements = judge(truth, statement)
        for judgement in judgements:
            shown[judgement.attribute] += judgement.true is not None
            stated[judgement.attribute] += judgement.stated is not None
            right[judgement.attribute] += judgement.right
        pictures += 1
        exact += all(judgement.right for judgement in judgements)
        kinds = {group.kind for group in statement.groups if group.kind is not None}
        named += len(kinds)
        invented += len(kinds - {group.kind for group in truth.groups})
    return {
        "attribute_recall": _share(sum(right.values()), sum(shown.values())),
        "attribute_precision": _share(sum(right.values()), sum(stated.values())),
        "exact_scene": _share(exact, pictures),
        "hallucination_rate": _share(invented, named),
        "by_attribute": {name: _share(right[name], shown[name]) for name in ATTRIBUTES if shown[name]},
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
