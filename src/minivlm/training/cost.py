"""Operations of models, counted from their shapes: pure functions of plain numbers.

What a stage took beside them is in `cost_report`, what they would take elsewhere in `projection`.

Legend: `B` sequences, `T` tokens of each (padding included), `S` supervised positions, `D` hidden size, `Q` and
`K` width of queries and of keys (heads × head size), `F` width of the feed-forward part, `V` vocabulary, `L`
layers, `P` patches of a picture.

Operations (FLOPs) count a multiply-add as two and matrix products alone, as Kaplan et al. (2020, arXiv:2001.08361,
section 2.1) and PaLM (2022, arXiv:2204.02311, appendix B) do: norms, activations, softmax and AdamW are
left out (about 1 %), and attention is counted over all T × T pairs, also where it is causal, as in both papers and
in torch.utils.flop_counter. A backward pass costs a forward pass for the gradients of the activations, and another
one for those of the weights, where weights are trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of an LLM: grouped-query attention, a feed-forward of three matrices (gated, as Llama's) or two,
    logits.

    Of a mixture `intermediate_size` is the width of all experts that see a token, and `experts` how many the
    router tells apart.
    """

    hidden_size: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate_size: int
    vocabulary: int
    head_size: int = 0  # 0: hidden_size / heads
    matrices: int = 3  # of the feed-forward part
    experts: int = 0

    @property
    def query_width(self) -> int:
        """Width of the queries of all heads; K is that of the keys, or of the values."""
        return (self.head_size or self.hidden_size // self.heads) * self.heads

    @property
    def layer_weights(self) -> int:
        """Matrix weights that a token meets: 2 D Q (queries, output) + 2 D K + 3 D F, or 2 D F, and a router."""
        key_value_width = self.query_width // self.heads * self.key_value_heads
        forward = self.matrices * self.intermediate_size + self.experts
        return self.hidden_size * (2 * self.query_width + 2 * key_value_width + forward)

    @classmethod
    def of(cls, config: Any) -> LlamaShape:
        """The shape of a transformers text configuration, as its family has it.

        A mixture is counted as if every layer were one; a family without a gate is known by its activation.
        """
        experts = next((int(n) for name in EXPERTS if (n := getattr(config, name, None))), 0)
        width = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
        width = width or 4 * config.hidden_size  # GPT-2's
        if experts:
            each = getattr(config, "moe_intermediate_size", None) or width
            width = each * (config.num_experts_per_tok + (getattr(config, "n_shared_experts", None) or 0))
            width += getattr(config, "shared_expert_intermediate_size", None) or 0
        return cls(
            hidden_size=config.hidden_size,
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            key_value_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
            intermediate_size=width,
            vocabulary=config.vocab_size,
            head_size=getattr(config, "head_dim", None) or 0,
            matrices=2 if config.model_type in _UNGATED else 3,
            experts=experts,
        )


EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""What configurations call the number of experts that a router chooses from, by family."""
_UNGATED = ("gpt2", "gpt_neox", "gpt_neo", "gpt_bigcode", "opt", "starcoder2", "bloom", "falcon", "phi")


@dataclass(frozen=True)
class VisionShape:
    """Sizes of a vision tower: patch convolution, a CLIP's class token, plain attention, two feed-forward
    matrices."""

    hidden_size: int
    layers: int
    intermediate_size: int
    image_size: int
    patch_size: int
    class_token: bool = True

    @property
    def patches(self) -> int:
        """P: patches of a picture."""
        return (self.image_size // self.patch_size) ** 2

    @classmethod
    def of(cls, config: Any) -> VisionShape:
        """The shape of a transformers CLIPVisionConfig or SiglipVisionConfig."""
        return cls(
            hidden_size=config.hidden_size,
            layers=config.num_hidden_layers,
            intermediate_size=config.intermediate_size,
            image_size=config.image_size,
            patch_size=config.patch_size,
            class_token=config.model_type != "siglip_vision_model",
        )


def _attention_flops(layers: int, width: int, batch: int, length: int) -> int:
    """QKᵀ and AV: two products of T × T × Q each, 4 B T² Q a layer."""
    return 4 * layers * batch * length * length * width


def llama_forward_flops(shape: LlamaShape, batch: int, length: int, supervised: int) -> int:
    """B sequences of T tokens forward, logits at S positions in all: 2 B T weights + 4 L B T² Q + 2 S D V."""
    linear = 2 * batch * length * shape.layers * shape.layer_weights
    logits = 2 * supervised * shape.hidden_size * shape.vocabulary
    return linear + _attention_flops(shape.layers, shape.query_width, batch, length) + logits


def llama_backward_flops(
    shape: LlamaShape,
    batch: int,
    length: int,
    supervised: int,
    trained_layers: int = 0,
    trained_logits: bool = False,
) -> int:
    """Backward pass down to the input embeddings, as the projector needs it even when the LLM is frozen.

    Gradients of the activations cost a forward pass, but twice as much in attention (both operands are computed);
    `trained_layers` layers, and the logits if `trained_logits`, cost once more for their weights. What flash
    attention computes again is not counted.
    """
    linear = 2 * batch * length * (shape.layers + trained_layers) * shape.layer_weights
    logits = 2 * supervised * shape.hidden_size * shape.vocabulary * (1 + trained_logits)
    return linear + 2 * _attention_flops(shape.layers, shape.query_width, batch, length) + logits


def vision_forward_flops(shape: VisionShape, pictures: int) -> int:
    """The tower forward: patches 2 P (3 p²) D; for each of P (+ 1) tokens, L (2 (4 D² + 2 D F) + 4 (P + 1) D)."""
    tokens = shape.patches + shape.class_token
    embedding = 2 * shape.patches * 3 * shape.patch_size**2 * shape.hidden_size
    weights = shape.hidden_size * (4 * shape.hidden_size + 2 * shape.intermediate_size)
    layers = 2 * tokens * shape.layers * weights
    return pictures * (embedding + layers + _attention_flops(shape.layers, shape.hidden_size, 1, tokens))


def projector_flops(vision_size: int, hidden_size: int, image_tokens: int, backward: bool = True) -> int:
    """The linear map from tower to LLM: forward, and backward for its weights alone (the tower is frozen)."""
    return 2 * image_tokens * vision_size * hidden_size * (2 if backward else 1)


def step_flops(
    llm: LlamaShape, vision: VisionShape, *, batch: int, length: int, supervised: int,
    trained_layers: int = 0, trained_logits: bool = False,
) -> int:  # fmt: skip
    """One training step of one picture a sequence: tower, projector and LLM forward, LLM and projector backward.

    Freeze policies: `projector` trains 0 layers, `projector+last_layer` 1, `first_last` 2, `llm` all of them and
    the logits.
    """
    tower = vision_forward_flops(vision, batch)
    projector = projector_flops(vision.hidden_size, llm.hidden_size, batch * vision.patches)
    forward = llama_forward_flops(llm, batch, length, supervised)
    return tower + projector + forward + llama_backward_flops(
        llm, batch, length, supervised, trained_layers, trained_logits
    )  # fmt: skip


def vision_backward_flops(shape: VisionShape, pictures: int) -> int:
    """Backward pass of a tower that is trained whole: twice its forward pass, without gradients of the pixels."""
    embedding = 2 * shape.patches * 3 * shape.patch_size**2 * shape.hidden_size
    return 2 * vision_forward_flops(shape, pictures) - pictures * embedding


def text_tower_forward_flops(width: int, layers: int, intermediate_size: int, batch: int, length: int) -> int:
    """A CLIP's text tower over B captions of T tokens: 2 B T L (4 D² + 2 D F) + 4 L B T² D."""
    weights = width * (4 * width + 2 * intermediate_size)
    return 2 * batch * length * layers * weights + _attention_flops(layers, width, batch, length)


def muon_flops(shapes: Iterable[Sequence[int]], iterations: int = 5) -> int:
    """One step of Muon over matrices: in each Newton–Schulz iteration of an m × n matrix (m the smaller side) the
    products X Xᵀ, its square and their sum times X: 4 m² n + 2 m³."""
    sides = [(min(shape), max(shape)) for shape in shapes]
    return sum(iterations * (4 * m * m * n + 2 * m**3) for m, n in sides)


@dataclass(frozen=True)
class Schedule:
    """A training whose rows are all alike: `rows` × `epochs` of `length` tokens, `supervised` of them."""

    rows: int
    epochs: float
    length: int
    supervised: int
    trained_layers: int = 0
    trained_logits: bool = False


ORIGINAL_SCHEDULE = {
    "pretrain": Schedule(rows=595_000, epochs=4, length=250, supervised=50),
    "sft": Schedule(rows=300_000, epochs=6, length=400, supervised=200, trained_layers=8, trained_logits=True),
}
"""The original's two stages (profile 4090), each row at its own length: on average about so many tokens."""


def schedule_flops(llm: LlamaShape, vision: VisionShape, schedule: Schedule) -> int:
    """Operations of a whole training without padding and validation, every picture computed each time."""
    each = step_flops(
        llm, vision, batch=1, length=schedule.length, supervised=schedule.supervised,
        trained_layers=schedule.trained_layers, trained_logits=schedule.trained_logits,
    )  # fmt: skip
    return round(schedule.rows * schedule.epochs * each)
