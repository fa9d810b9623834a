"""Language models and tokenizers by somebody else: what is kept to the bit, what is added, what is refused."""

import json
import sys
import types

import pytest
import torch
from safetensors.torch import load_file, save_file

from minivlm.data.chat import IMAGE_TOKEN
from minivlm.data.encoding import ChatEncoder
from minivlm.errors import UserError
from minivlm.files import read_json, sha256_tree, write_json
from minivlm.model.checkpoint import load_strictly
from minivlm.model.llava import assemble
from minivlm.training.pretrained import bring_language_model
from tests import families
from tests.families import FAMILIES, SIZES, Family, write_base

MODELS = {name.split("+")[1]: family.llm for name, family in FAMILIES.items()} | {"gpt2": families.gpt2}
TEXTS = ["夕阳下的大海。", "a bird, ÿ À 12 🐦", "  spaces\n\n\tand lines \r\n", "[INST] ?!", "한국어 ünï"]


def bring(write, folder, **options):
    """(source, where the model lies, where the tokenizer lies)."""
    write(folder / "source")
    bring_language_model(folder / "source", folder / "source", folder / "llm", folder / "tokenizer", **options)
    return folder / "source", folder / "llm", folder / "tokenizer"


def model_of(directory):
    from transformers import AutoModelForCausalLM

    return load_strictly(AutoModelForCausalLM, directory)


@pytest.mark.parametrize("write", MODELS.values(), ids=MODELS)
def test_llava_gives_the_logits_that_the_model_gives_by_itself(tmp_path, write):
    from transformers import AutoModelForCausalLM

    base = write_base(Family(families.siglip, write), tmp_path)
    own = AutoModelForCausalLM.from_pretrained(tmp_path / "brought_llm", dtype=torch.float32).eval()
    llava = assemble(base, seed=1)
    image, rows = llava.config.image_token_id, own.get_output_embeddings().weight
    kept = [i for i in range(len(rows)) if i != image and torch.equal(rows[i], llava.lm_head.weight[i])]
    assert len(kept) >= len(rows) - 3, "only rows of new tokens may have changed"
    chosen = torch.randint(len(kept), (2, 40), generator=torch.Generator().manual_seed(0))
    ids = torch.tensor(kept)[chosen]
    with torch.no_grad():
        expected, found = own(ids).logits, llava(input_ids=ids).logits
    torch.testing.assert_close(found[..., kept], expected[..., kept], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("write", MODELS.values(), ids=MODELS)
def test_the_ids_of_all_other_text_stay_the_same(tmp_path, write):
    from transformers import AutoTokenizer

    source, _, tokenizer = bring(write, tmp_path)
    before, after = (AutoTokenizer.from_pretrained(each) for each in (source, tokenizer))
    for text in [*TEXTS, "".join(before.all_special_tokens)]:
        assert after.encode(text) == before.encode(text, add_special_tokens=False), text
    assert after.encode(f"a{IMAGE_TOKEN}b") == [
        *before.encode("a", add_special_tokens=False),
        after.convert_tokens_to_ids(IMAGE_TOKEN),
        *after.encode(f"{IMAGE_TOKEN}b")[1:],
    ]
    assert (after.image_token, after.image_token_id) == (IMAGE_TOKEN, ChatEncoder(tokenizer).image_token_id)


def test_a_spare_row_becomes_the_image_token(tmp_path):
    source, llm, tokenizer = bring(families.qwen2, tmp_path)
    before, after = model_of(source), model_of(llm)
    assert ChatEncoder(tokenizer).image_token_id == before.config.vocab_size - 7
    assert after.config.vocab_size == before.config.vocab_size
    assert after.lm_head.weight is after.model.embed_tokens.weight, "tied stays tied"


def test_a_full_embedding_of_bytes_gives_a_byte_that_no_text_has(tmp_path):
    """The width stays, every weight stays, and no text could ever become that token."""
    source, llm, tokenizer = bring(families.qwen3_moe, tmp_path)
    before, after = load_file(source / "model.safetensors"), load_file(llm / "model.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    vocabulary = read_json(source / "tokenizer.json")["model"]["vocab"]
    number = ChatEncoder(tokenizer).image_token_id
    assert vocabulary["ÿ"] == number, "the token of byte 0xFF"
    assert len(read_json(tokenizer / "tokenizer.json")["model"]["vocab"]) == len(vocabulary)


def test_the_original_s_tokenizer_stays_as_wide_as_it_is(tmp_path):
    from minivlm.paths import project_root

    golden = project_root().parent / "shared" / "parity" / "a157b66" / "tokenizer"
    if not golden.is_dir():
        pytest.skip("the original's tokenizer (../shared/parity) is not here")
    from transformers import AutoTokenizer, LlamaConfig

    size = len(AutoTokenizer.from_pretrained(golden))
    config = LlamaConfig(vocab_size=size, num_key_value_heads=2, tie_word_embeddings=True, **SIZES)
    families.save_llm(config, tmp_path / "source")
    bring_language_model(tmp_path / "source", golden, tmp_path / "llm", tmp_path / "tokenizer")
    encoder = ChatEncoder(tmp_path / "tokenizer")
    assert encoder.vocabulary == model_of(tmp_path / "llm").config.vocab_size == size
    assert (encoder.pad_token_id, encoder.end_token_id) == (0, 2)
    before, after = AutoTokenizer.from_pretrained(golden), AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    for text in TEXTS:
        assert before.encode(text) == after.encode(text)


def test_without_a_spare_row_or_byte_the_embedding_grows(tmp_path):
    source, llm, tokenizer = bring(families.mistral, tmp_path)
    before, after = model_of(source), model_of(llm)
    assert ChatEncoder(tokenizer).image_token_id == before.config.vocab_size == after.config.vocab_size - 1
    for find in (lambda model: model.get_input_embeddings(), lambda model: model.get_output_embeddings()):
        old, new = find(before).weight, find(after).weight
        assert torch.equal(new[:-1], old)
        torch.testing.assert_close(new[-1], old.mean(0))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("spare", [0, 2])
def test_a_token_that_the_configuration_alone_names_keeps_its_trained_row(tmp_path, tied, spare):
    """As old files have it: tokenizer_config.json lists a token that tokenizer.json does not. Its row is old."""
    from transformers import Qwen2Config

    def write(directory):
        size = families.chatml_tokenizer(directory)
        content = read_json(directory / "tokenizer.json")
        removed = content["added_tokens"].pop()
        write_json(directory / "tokenizer.json", content)
        config = read_json(directory / "tokenizer_config.json")
        config["added_tokens_decoder"] = {str(removed["id"]): removed}
        write_json(directory / "tokenizer_config.json", config)
        families.save_llm(
            Qwen2Config(vocab_size=size + spare, num_key_value_heads=2, tie_word_embeddings=tied, **SIZES),
            directory,
        )

    source, llm, tokenizer = bring(write, tmp_path)
    before, after = model_of(source), model_of(llm)
    encoder = ChatEncoder(tokenizer)
    assert encoder.id_of("<|im_end|>") == 302 and encoder.end_token_id == 302
    for find in (lambda model: model.get_input_embeddings(), lambda model: model.get_output_embeddings()):
        old, new = find(before).weight, find(after).weight
        changed = [i for i in range(len(new)) if i >= len(old) or not torch.equal(old[i], new[i])]
        assert changed == ([encoder.image_token_id] if spare else []), "a byte's row is left as it is"


def test_an_image_token_that_is_there_is_taken(tmp_path):
    from transformers import Qwen2Config

    def write(directory):
        size = families.bytes_tokenizer(
            directory, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], template=families.CHATML,
            ordinary=(IMAGE_TOKEN,), eos_token="<|im_end|>",
        )  # fmt: skip
        families.save_llm(Qwen2Config(vocab_size=size + 3, num_key_value_heads=2, **SIZES), directory)

    source, _, tokenizer = bring(write, tmp_path)
    [added] = [t for t in read_json(source / "tokenizer.json")["added_tokens"] if t["content"] == IMAGE_TOKEN]
    assert not added["special"]
    encoder = ChatEncoder(tokenizer)
    assert encoder.image_token_id == added["id"]
    typed = encoder.encode_plain([f"a {IMAGE_TOKEN} b"], framed=False)[0]
    assert encoder.image_token_id not in typed


def test_embeddings_tied_under_another_name_become_two_matrices(tmp_path):
    _, llm, _ = bring(families.gpt2, tmp_path)
    model = model_of(llm)
    assert not model.config.tie_word_embeddings
    assert torch.equal(model.lm_head.weight, model.transformer.wte.weight)
    assert model.lm_head.weight is not model.transformer.wte.weight


PADS = {
    "llama": "<|reserved_special_token_0|>",
    "qwen2": "<|endoftext|>",
    "gpt_neox": "<|endoftext|>",
    "mistral": "<unk>",
}


@pytest.mark.parametrize("name", PADS)
def test_what_fills_up_is_no_token_of_the_chat(tmp_path, name):
    _, llm, tokenizer = bring(MODELS[name], tmp_path)
    encoder = ChatEncoder(tokenizer)
    assert encoder.pad_token_id == encoder.id_of(PADS[name]) == model_of(llm).config.pad_token_id
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    assert encoder.pad_token_id not in encoder.encode_rows([turns], 1)[0].ids


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt_neox", "mistral"])
def test_the_configuration_stops_where_the_template_ends_answers(tmp_path, name):
    from transformers import GenerationConfig

    _, llm, tokenizer = bring(MODELS[name], tmp_path)
    encoder, config = ChatEncoder(tokenizer), GenerationConfig.from_pretrained(llm)
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    assert encoder.end_token_id in ends and set(ends) <= set(encoder.special_ids)
    assert not config.do_sample and config.pad_token_id == encoder.pad_token_id


def test_the_same_source_gives_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        bring(families.llama, tmp_path / name)
    for part in ("llm", "tokenizer"):
        assert sha256_tree(tmp_path / "one" / part) == sha256_tree(tmp_path / "other" / part)
        for file in (tmp_path / "one" / part).glob("*.json"):
            assert str(tmp_path) not in file.read_text(encoding="utf-8")


def test_a_tokenizer_of_vocabulary_files_alone_is_converted(tmp_path):
    from transformers import AutoTokenizer

    families.qwen2(tmp_path / "source")
    whole = tmp_path / "whole"
    (tmp_path / "source" / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    content = read_json(tmp_path / "tokenizer.json")
    vocabulary = content["model"]["vocab"] | {t["content"]: t["id"] for t in content["added_tokens"]}
    write_json(tmp_path / "source" / "vocab.json", vocabulary)
    merges = [" ".join(pair) for pair in content["model"]["merges"]]
    (tmp_path / "source" / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    config = read_json(tmp_path / "source" / "tokenizer_config.json")
    write_json(tmp_path / "source" / "tokenizer_config.json", config | {"tokenizer_class": "Qwen2Tokenizer"})
    bring_language_model(tmp_path / "source", tmp_path / "source", whole / "llm", whole / "tokenizer")
    before, after = (AutoTokenizer.from_pretrained(each) for each in (tmp_path / "source", whole / "tokenizer"))
    for text in TEXTS:
        assert before.encode(text, add_special_tokens=False) == after.encode(text)
    assert (tmp_path / "whole" / "tokenizer" / "tokenizer.json").is_file()


def config_of(kind, **values):
    import transformers

    return getattr(transformers, f"{kind}Config")(vocab_size=301, **{**SIZES, **values})


REFUSED = {
    "soft cap": ("Gemma2", dict(head_dim=8, num_key_value_heads=2, final_logit_softcapping=0.5), "does more"),
    "logit scale": ("Cohere", dict(num_key_value_heads=2, logit_scale=0.25), "does more with its logits"),
    "divided logits": ("Granite", dict(num_key_value_heads=2, logits_scaling=4.0), "does more with its logits"),
    "bias": ("Phi", dict(num_key_value_heads=2), "not one matrix without bias"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_llava_cannot_hold_is_refused(tmp_path, name):
    kind, values, message = REFUSED[name]

    def write(directory):
        families.bare_tokenizer(directory)
        families.save_llm(config_of(kind, pad_token_id=0, bos_token_id=0, eos_token_id=0, **values), directory)

    with pytest.raises(UserError, match=f"source: LLaVA cannot hold {kind.lower()}.*{message}") as caught:
        bring(write, tmp_path)
    assert "\n" not in str(caught.value) and not (tmp_path / "llm").exists()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("left over", "unexpected keys: model.extra.weight"),
        ("missing", "missing keys: .*layers.1"),
        ("type", "no transformers model"),
        ("value", "no transformers model: .*'hidden_size'"),
        ("nothing", "no transformers model"),
        ("encoder", "t5 is not a language model that predicts the next token alone"),
        ("quantized", "its weights are quantized"),
        ("small", "308 tokens, but the language model knows 300"),
        ("tokenizer", "no tokenizer.json, and none can be made of what is there"),
        ("damaged tokenizer", "not a tokenizer"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, fault, message):
    source = tmp_path / "source"
    families.llama(source)
    weights, config = load_file(source / "model.safetensors"), read_json(source / "config.json")
    if fault == "left over":
        weights["model.extra.weight"] = torch.zeros(2)
    elif fault == "missing":
        weights = {name: tensor for name, tensor in weights.items() if "layers.1" not in name}
    elif fault == "small":
        weights = {n: t[:300] if t.shape[0] == 308 else t for n, t in weights.items()}
        config["vocab_size"] = 300
    elif fault == "tokenizer":
        (source / "tokenizer.json").unlink()
    elif fault == "damaged tokenizer":
        (source / "tokenizer.json").write_text("{}")
    changes = {
        "value": {"hidden_size": 32.5},
        "type": {"model_type": "unheard_of"},
        "encoder": {"model_type": "t5"},
    }
    changes["quantized"] = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    write_json(source / "config.json", config | changes.get(fault, {}))
    if fault == "nothing":
        (source / "config.json").unlink()
    with pytest.raises(UserError, match=message) as caught:
        bring_language_model(source, source, tmp_path / "llm", tmp_path / "tokenizer")
    assert "\n" not in str(caught.value)


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    families.llama(tmp_path / "source")
    config = read_json(tmp_path / "source" / "config.json")
    code = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    config |= {"model_type": "its_own", "auto_map": code}
    write_json(tmp_path / "source" / "config.json", config)
    (tmp_path / "source" / "code.py").write_text("raise SystemExit('was run')\n")
    with pytest.raises(UserError, match="no transformers model"):
        bring_language_model(tmp_path / "source", tmp_path / "source", tmp_path / "llm", tmp_path / "tokenizer")


def test_a_minimind_checkpoint_is_read_by_its_own_reader(tmp_path, monkeypatch):
    from transformers import LlamaConfig, LlamaForCausalLM

    families.chatml_tokenizer(tmp_path / "tokenizer")
    asked = []

    def read_llm(path, config):
        asked.append((path, config))
        return LlamaForCausalLM(LlamaConfig(vocab_size=303, tie_word_embeddings=True, **SIZES)).eval()

    double = types.ModuleType("minivlm.model.minimind")
    double.read_llm = read_llm
    monkeypatch.setitem(sys.modules, "minivlm.model.minimind", double)
    bring_language_model(
        tmp_path, tmp_path / "tokenizer", tmp_path / "llm", tmp_path / "made", checkpoint="llm_512.pth",
        config={"rope_theta": 1e4},
    )  # fmt: skip
    assert asked == [(tmp_path / "llm_512.pth", {"rope_theta": 1e4})]
    assert model_of(tmp_path / "llm").config.vocab_size == 303 == ChatEncoder(tmp_path / "made").vocabulary
    assert json.loads((tmp_path / "llm" / "config.json").read_text())["dtype"] == "float32"


def _without(key):
    return lambda tokenizer: tokenizer.pop(key)


BAD_TOKENIZERS = {
    "ids that are texts": lambda tokenizer: tokenizer["model"]["vocab"].update(zz="a"),
    "ids below 0": lambda tokenizer: tokenizer["model"]["vocab"].update(zz=-1),
    "added tokens that are none": lambda tokenizer: tokenizer.update(added_tokens="x"),
    "an added token without a text": lambda tokenizer: tokenizer["added_tokens"][0].pop("content"),
    "an added token's id": lambda tokenizer: tokenizer["added_tokens"][0].update(id=None),
    "merges": lambda tokenizer: tokenizer["model"].update(merges=0.5),
    "a post-processor": lambda tokenizer: tokenizer.update(post_processor={"type": "Sequence"}),
    "a post-processor of no type": lambda tokenizer: tokenizer.update(post_processor=[1]),
    "no model": _without("model"),
    "no added tokens": _without("added_tokens"),
}


@pytest.mark.parametrize("fault", BAD_TOKENIZERS)
def test_a_tokenizer_with_something_else_in_it_is_refused_in_one_line(tmp_path, fault):
    source = tmp_path / "source"
    families.llama(source)
    content = read_json(source / "tokenizer.json")
    BAD_TOKENIZERS[fault](content)
    write_json(source / "tokenizer.json", content)
    with pytest.raises(UserError, match="source: not a tokenizer") as caught:
        bring_language_model(source, source, tmp_path / "llm", tmp_path / "tokenizer")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [["llama"], {"a": 1}, 7, None])
def test_a_model_of_no_known_type_is_refused_in_one_line(tmp_path, kind):
    source = tmp_path / "source"
    families.llama(source)
    write_json(source / "config.json", read_json(source / "config.json") | {"model_type": kind})
    with pytest.raises(UserError, match="source: no transformers model: ") as caught:
        bring_language_model(source, source, tmp_path / "llm", tmp_path / "tokenizer")
    assert "\n" not in str(caught.value)


def test_a_token_whose_id_leaves_a_gap_is_refused_in_one_line(tmp_path):
    source = tmp_path / "source"
    families.llama(source)
    path = source / "tokenizer_config.json"
    tokens = {"9999999": {"content": "\n<z>", "special": True}}
    write_json(path, read_json(path) | {"added_tokens_decoder": tokens})
    with pytest.raises(UserError, match=r"'\\n<z>' cannot be added to it: its ids have gaps"):
        bring_language_model(source, source, tmp_path / "llm", tmp_path / "tokenizer")


def test_a_configuration_that_nothing_can_be_computed_with_is_refused_in_one_line(tmp_path):
    source = tmp_path / "source"
    families.gpt_neox(source)
    config = read_json(source / "config.json")
    config["rope_parameters"]["partial_rotary_factor"] = 3
    write_json(source / "config.json", config)
    with pytest.raises(UserError, match=r"source: the model cannot be run as its config\.json says: ") as caught:
        bring_language_model(source, source, tmp_path / "llm", tmp_path / "tokenizer")
    assert "\n" not in str(caught.value)
