"""Sizes at which a comparison takes seconds."""

from benchmarks.comparing import Options
from benchmarks.reference import Defaults

BASE = {
    "tokenizer": {"vocabulary": 400},
    "vision_feature_layer": -1,
    "vision_tower": {
        "image_size": 32, "patch_size": 8, "hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 64,
        "projection_size": 16,
    },
    "llm": {
        "hidden_size": 32, "layers": 2, "heads": 4, "key_value_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 512, "rope_theta": 10000.0,
    },
}  # fmt: skip
DEFAULTS = {"pretrain": Defaults(96, 4, 4e-4), "sft": Defaults(256, 2, 1e-6)}
OPTIONS = Options(
    device="cpu", precision="fp32", stages=("pretrain", "sft"), rows=24, repeats=2,
    steps={"pretrain": 2, "sft": 3}, reference_steps=1, warm_up=0, workers=0,
    batch_tokens={"pretrain": 400, "sft": 600},
)  # fmt: skip
