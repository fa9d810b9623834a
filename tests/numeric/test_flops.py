"""Operations counted from shapes agree with torch.utils.flop_counter on tiny models."""

import pytest
import torch

from minivlm.training import cost

BATCH, LENGTH, SUPERVISED = 3, 24, 10


@pytest.fixture(scope="module")
def llm():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=176,
        vocab_size=320, max_position_embeddings=64, tie_word_embeddings=True, attn_implementation="eager",
    )  # fmt: skip
    return LlamaForCausalLM(config)


def counted(function):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def loss(model):
    embeddings = torch.randn(BATCH, LENGTH, 64, requires_grad=True)
    hidden = model.model(inputs_embeds=embeddings).last_hidden_state
    return model.lm_head(hidden.reshape(-1, 64)[:SUPERVISED]).sum()


def test_llama_forward(llm):
    shape = cost.LlamaShape.of(llm.config)
    with torch.no_grad():
        found = counted(lambda: loss(llm))
    assert cost.llama_forward_flops(shape, BATCH, LENGTH, SUPERVISED) == pytest.approx(found, rel=0.02)


@pytest.mark.parametrize(("layers", "logits"), [(0, False), (1, False), (3, True)])
def test_llama_backward(llm, layers, logits):
    shape = cost.LlamaShape.of(llm.config)
    llm.requires_grad_(False)
    if layers:
        llm.model.layers[-layers:].requires_grad_(True)
    llm.lm_head.weight.requires_grad_(logits)
    value = loss(llm)
    found = counted(value.backward)
    expected = cost.llama_backward_flops(shape, BATCH, LENGTH, SUPERVISED, layers, logits)
    assert expected == pytest.approx(found, rel=0.02)


def test_vision_forward():
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, image_size=32,
        patch_size=8, attn_implementation="eager",
    )  # fmt: skip
    tower = CLIPVisionModel(config)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        found = counted(lambda: tower(pixels))
    assert cost.vision_forward_flops(cost.VisionShape.of(config), 2) == pytest.approx(found, rel=0.02)


def test_a_vision_towers_training_with_its_captions_and_phrases():
    """TowerLoss, forward and backward: both towers, projections, contrast, phrases."""
    from minivlm.model.clip import make_clip
    from minivlm.training.contrastive import PairBatch, TowerLoss
    from minivlm.training.operations import TowerCounter

    clip = make_clip(
        image_size=32, patch_size=8, hidden_size=48, layers=3, text_layers=2, heads=4, intermediate_size=96,
        projection_size=40, vocabulary=50, text_length=12, pad_token_id=0,
    )  # fmt: skip
    objective = TowerLoss(clip, torch.full((30,), 0.1), 0.25, 0.0, (0.5,) * 3, (0.3,) * 3)
    clip.set_attn_implementation("eager")
    batch = PairBatch(
        pixels=torch.randint(0, 255, (6, 3, 32, 32), dtype=torch.uint8),
        input_ids=torch.randint(3, 50, (6, 12)),
        lengths=torch.full((6,), 12),
        phrases=torch.randint(0, 30, (6, 4)),
    )
    counter = TowerCounter(clip.config, 30)
    with torch.no_grad():
        forward = counted(lambda: objective(batch))
    assert counter.batch(batch, backward=False) == pytest.approx(forward, rel=0.02)
    assert counter.batch(batch) == pytest.approx(counted(lambda: objective(batch).backward()), rel=0.02)


def test_a_language_models_training_on_text_tasks():
    import numpy as np
    from transformers import LlamaConfig, LlamaForCausalLM

    from minivlm.data.text_tasks import WIDEST_SLOT, TextTask, collate_tasks
    from minivlm.training.operations import TextCounter
    from minivlm.training.text_loss import TextTaskLoss

    config = LlamaConfig(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=176,
        vocab_size=320, max_position_embeddings=64, tie_word_embeddings=True, attn_implementation="eager",
    )  # fmt: skip
    none = np.empty((0, WIDEST_SLOT), dtype=np.int64)
    tasks = [TextTask(np.arange(4, 4 + n), np.arange(n) > 5, none) for n in (20, 17, 24)]
    batch, objective = collate_tasks(tasks, 0), TextTaskLoss(LlamaForCausalLM(config), 3)
    counter = TextCounter(config)
    found = counted(lambda: objective(batch).backward())
    assert counter.batch(batch) == pytest.approx(found, rel=0.02)


def test_muons_products():
    from minivlm.training.muon import orthogonalized

    matrices = torch.randn(2, 24, 40)
    assert 2 * cost.muon_flops([(24, 40)]) == counted(lambda: orthogonalized(matrices))


def test_projector():
    projector = torch.nn.Linear(48, 64, bias=False)
    features = torch.randn(2 * 16, 48)
    assert cost.projector_flops(48, 64, 32) == counted(lambda: projector(features).sum().backward())


OTHERS = {
    "heads wider than the model": ("Qwen3", dict(num_key_value_heads=2, head_dim=32)),
    "no gate, no shared heads": ("GPTNeoX", {}),
    "GPT-2": ("GPT2", dict(n_inner=None)),
    "a mixture": (
        "Qwen3Moe",
        dict(num_key_value_heads=2, head_dim=16, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=48),
    ),
    "a mixture beside an expert of all tokens": (
        "Glm4Moe",
        dict(
            num_key_value_heads=2,
            head_dim=16,
            n_routed_experts=4,
            num_experts_per_tok=2,
            n_shared_experts=1,
            moe_intermediate_size=48,
            first_k_dense_replace=0,
            n_group=1,
            topk_group=1,
        ),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_families_forward(name):
    import transformers

    kind, values = OTHERS[name]
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=256, vocab_size=320,
        max_position_embeddings=64, attn_implementation="eager", experts_implementation="eager", **values,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config).eval()

    def forward():
        hidden = model.base_model(inputs_embeds=torch.randn(BATCH, LENGTH, 64)).last_hidden_state
        model.get_output_embeddings()(hidden.reshape(-1, 64)[:SUPERVISED])

    with torch.no_grad():
        found = counted(forward)
    shape = cost.LlamaShape.of(config)
    assert cost.llama_forward_flops(shape, BATCH, LENGTH, SUPERVISED) == pytest.approx(found, rel=0.02)


def test_a_tower_without_a_class_token_forward():
    from transformers import SiglipVisionConfig, SiglipVisionModel

    config = SiglipVisionConfig(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, image_size=16,
        patch_size=8, attn_implementation="eager", vision_use_head=False,
    )  # fmt: skip
    tower = SiglipVisionModel(config)
    with torch.no_grad():
        found = counted(lambda: tower(torch.randn(2, 3, 16, 16)))
    assert cost.vision_forward_flops(cost.VisionShape.of(config), 2) == pytest.approx(found, rel=0.002)
