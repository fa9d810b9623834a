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
