"""The shapes and weights of the model at the default and at full size, counted in transformers' own classes.

The default is params.yaml, the full size the same with profiles/4090.yaml merged in. Nothing of artifacts/ is
read, so that the documents are the same in every checkout; how many tokens the tokenizer found is in
reports/base/metrics.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from minivlm.errors import UserError
from minivlm.evaluation.questions import STAGES
from minivlm.markdown import table

if TYPE_CHECKING:
    from minivlm.config import Params
    from minivlm.paths import Paths
    from minivlm.planning.models import Weights

FULL = "4090"


@dataclass(frozen=True)
class Size:
    """One model: sides and patches in pixels, widths in numbers, `weights` by freeze policy."""

    name: str
    image: int
    patch: int
    vision_width: int
    vision_layers: int
    llm_width: int
    llm_layers: int
    llm_heads: int
    key_value_heads: int
    feed_forward: int
    vocabulary: int
    weights: Mapping[str, Weights]
    policies: Mapping[str, str]  # stage → the policy that its parameters name

    @property
    def image_tokens(self) -> int:
        """Patches of a picture; each becomes a token."""
        return (self.image // self.patch) ** 2

    def parts(self) -> Weights:
        """The weights of each part, which are the same under every policy."""
        return next(iter(self.weights.values()))

    def trained(self, stage: str) -> int:
        """Weights that a stage trains under its policy."""
        return sum(self.weights[self.policies[stage]].trained.values())

    def state(self, stage: str, whole: int, *prefixes: str) -> str:
        """What a stage does to the part of `whole` weights whose parameters have names that begin like that."""
        trained = self.weights[self.policies[stage]].trained
        share = sum(count for name, count in trained.items() if name.startswith(prefixes)) / whole
        return "frozen" if not share else "trained" if share == 1 else f"{share:.1%} of it trained"


def both_sizes(paths: Paths) -> tuple[Size, Size]:
    """The default and the full size."""
    from ruamel.yaml import YAML

    from minivlm.cli.profile import merged
    from minivlm.config import load_params, parse_params
    from minivlm.files import read_json

    tokens = read_json(paths.reports("base") / "metrics.json").get("tokenizer", {}).get("tokens")
    text, _ = merged(paths.params, paths.profiles / f"{FULL}.yaml")
    full = parse_params(YAML(typ="safe", pure=True).load(text))
    return size("default", load_params(paths.params), tokens), size(f"profile {FULL}", full)


def size(name: str, params: Params, vocabulary: int | None = None) -> Size:
    """The model of `params`; `vocabulary`: what a trained tokenizer found, else as many tokens as it may find."""
    from minivlm.config import FreezePolicy
    from minivlm.paths import Paths
    from minivlm.planning.models import llm_config, tower_config, weights
    from minivlm.planning.present import Present

    class Nothing(Present):
        """As in a fresh clone: what lies in artifacts/ may be of other parameters."""

        def has(self, stage: str) -> bool:
            return False

    present = Nothing(Paths())
    found = tower_config(params, present), llm_config(params, present)
    if unknown := [each.source for each in found if each.config is None]:
        raise UserError(f"the model of {name} cannot be counted: {unknown[0]}")
    tower, llm = (each.config for each in found)
    llm.vocab_size = vocabulary or llm.vocab_size
    layer = params.base.vision_feature_layer
    return Size(
        name=name,
        image=tower.image_size,
        patch=tower.patch_size,
        vision_width=tower.hidden_size,
        vision_layers=tower.num_hidden_layers,
        llm_width=llm.hidden_size,
        llm_layers=llm.num_hidden_layers,
        llm_heads=llm.num_attention_heads,
        key_value_heads=llm.num_key_value_heads,
        feed_forward=llm.intermediate_size,
        vocabulary=llm.vocab_size,
        weights={policy: weights(tower, llm, layer, policy) for policy in get_args(FreezePolicy)},
        policies={stage: getattr(params, stage).freeze for stage in STAGES},
    )


def parts_table(sizes: tuple[Size, Size]) -> str:
    """docs/architecture.md: every part with its shapes and weights, and what each stage trains of it."""

    def states(part: str, *prefixes: str) -> list[str]:
        """In both stages; where the sizes are trained differently, that of each."""
        return [
            ", ".join(dict.fromkeys(s.state(stage, getattr(s.parts(), part), *prefixes) for s in sizes))
            for stage in STAGES
        ]

    rows = [
        ("picture", *(f"{s.image} x {s.image} x 3" for s in sizes), "", ""),
        (
            "vision tower",
            *(f"{s.vision_layers} layers of {s.vision_width}" for s in sizes),
            *states("vision_tower", "model.vision_tower."),
        ),
        ("its output", *(f"{s.image_tokens} x {s.vision_width}" for s in sizes), "", ""),
        (
            "projector",
            *(f"{s.vision_width} → {s.llm_width}" for s in sizes),
            *states("projector", "model.multi_modal_projector."),
        ),
        ("its output", *(f"{s.image_tokens} x {s.llm_width}" for s in sizes), "", ""),
        (
            "language model",
            *(f"{s.llm_layers} layers of {s.llm_width}" for s in sizes),
            *states("language_model", "model.language_model.", "lm_head."),
        ),
        (
            "heads of its attention",
            *(f"{s.llm_heads}, {s.key_value_heads} for keys and values" for s in sizes),
            "",
            "",
        ),
        ("its feed-forward width", *(f"{s.feed_forward:,}" for s in sizes), "", ""),
        ("tokens it knows", *(f"{s.vocabulary:,}" for s in sizes), "", ""),
    ]
    shapes = table(("part", *(s.name for s in sizes), "in pretrain", "in sft"), rows, left=5)
    counts = [
        ("vision tower", *(f"{s.parts().vision_tower:,}" for s in sizes)),
        ("projector", *(f"{s.parts().projector:,}" for s in sizes)),
        ("its identity, which transformers' class has", *(f"{s.parts().identity:,}" for s in sizes)),
        ("language model", *(f"{s.parts().language_model:,}" for s in sizes)),
        ("all, as saved", *(f"{s.parts().saved:,}" for s in sizes)),
        *((f"trained in {stage}", *(f"{s.trained(stage):,}" for s in sizes)) for stage in STAGES),
    ]
    return f"{shapes}\n{table(('weights', *(s.name for s in sizes)), counts, left=1)}"


def policies_table(sizes: tuple[Size, Size], reports: Callable[[str], Path]) -> str:
    """docs/training.md: what each freeze policy trains, counted, and what the last run has trained."""
    from minivlm.config.section import TRAINED
    from minivlm.files import read_json

    rows = []
    for policy, what in TRAINED.items():
        used = [stage for stage in STAGES if sizes[0].policies[stage] == policy]
        counts = [f"{sum(s.weights[policy].trained.values()):,}" for s in sizes]
        rows.append((f"`{policy}`", what, ", ".join(used), *counts))
    header = ("`freeze`", "trains", "used by", *(f"weights, {s.name}" for s in sizes))
    lines = []
    for stage in STAGES:
        told: Mapping[str, Any] = read_json(reports(stage) / "trained_parameters.json")
        saved = sizes[0].parts().saved
        lines.append(
            f"- {stage} (`freeze: {told['freeze']}`): {told['weights']:,} of {saved:,} weights, in "
            f"{len(told['parameters']):,} tensor{'s' * (len(told['parameters']) > 1)}\n"
        )
    return f"{table(header, rows, left=3)}\nWhat the committed run has trained:\n\n{''.join(lines)}"
