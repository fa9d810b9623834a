"""Models that exist already -> the parts of a base directory: any vision tower, any language model, by its folder.

What follows from them (image tokens, widths, special tokens, chat template) is read from what was loaded; what
LLaVA cannot hold is refused here, before anything is trained. See docs/models.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.chat import BOS_TOKEN, CHAT_TEMPLATE, EOS_TOKEN, IMAGE_TOKEN
from minivlm.data.encoding import ChatEncoder
from minivlm.data.foreign_pictures import preparation_values
from minivlm.data.pictures import Preparation
from minivlm.data.special_tokens import SpecialTokens
from minivlm.data.strict_json import shown
from minivlm.data.tokenizer_files import added_tokens, named_tokens, read_mapping, read_template
from minivlm.errors import UserError
from minivlm.files import write_json
from minivlm.token_ids import check_numbers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Pad tokens by custom, tried in this order where a tokenizer names none.
_PADS = ("<|endoftext|>", "<pad>", "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>", "<unk>")


def bring_vision_tower(source: Path, directory: Path) -> None:
    """Write the vision half of any CLIP, SigLIP or SigLIP2 model as a tower that LLaVA holds.

    `source`: a vision model's directory or a full model's, with its preprocessor_config.json. UserError for other
    types, weights that do not fit, or pictures that are not made square.
    """
    from minivlm.model.checkpoint import quiet
    from minivlm.model.towers import read_tower

    tower = read_tower(source)
    side = tower.config.image_size
    values = preparation_values(source, side)
    preparation = Preparation.of(values, str(source / "preprocessor_config.json"))
    if tower.config.num_channels != 3:
        raise UserError(f"{source}: its pictures have {tower.config.num_channels} colours, and 3 are given here")
    if preparation.side != side:
        raise UserError(f"{source}: its pictures are made {preparation.side} pixels wide, its tower takes {side}")
    with quiet():
        tower.save_pretrained(directory)
    _readable(directory)
    write_json(directory / "preprocessor_config.json", values)


def _readable(directory: Path) -> None:
    """Weights that everybody may read, however the file was made."""
    for file in directory.glob("*.safetensors"):
        file.chmod(0o644)


def bring_language_model(
    source: Path,
    tokenizer: Path,
    llm_directory: Path,
    tokenizer_directory: Path,
    *,
    checkpoint: str | None = None,
    config: Mapping[str, Any] = {},
) -> None:
    """Write any causal language model that LLaVA can hold, in float32, and its tokenizer, with `<image>`.

    `source`: a transformers directory; or with `checkpoint` one that holds a MiniMind .pth of that name, whose
    shapes do not say what `config` does. `tokenizer`: the directory of its tokenizer. UserError, in one line, for
    what LLaVA cannot hold and for a tokenizer that cannot carry a chat.
    """
    from minivlm.model.checkpoint import quiet
    from minivlm.model.decoders import grow, read_decoder, require_fit

    if checkpoint is not None:
        from minivlm.model.minimind import read_llm

        llm: Any = read_llm(source / checkpoint, config)
    else:
        llm = read_decoder(source)
    require_fit(llm, str(source))
    placed = _bring_tokenizer(tokenizer, tokenizer_directory, llm)
    grow(llm, placed)
    _name_special_tokens(llm, ChatEncoder(tokenizer_directory), tokenizer_directory)
    with quiet():
        llm.save_pretrained(llm_directory)
    _readable(llm_directory)


def _bring_tokenizer(source: Path, directory: Path, llm: PreTrainedModel) -> dict[str, int]:
    """Write the tokenizer with all tokens that a chat about pictures needs; token → id of the new ones."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from minivlm.data.foreign_template import adapt
    from minivlm.model.checkpoint import quiet

    name = str(source)
    content, names = _read_source(source)
    tokens = SpecialTokens(content, llm.get_input_embeddings().weight.shape[0], name)
    for added in added_tokens(source):
        if added.special or tokens.id_of(added.content) is None:
            tokens.require(added.content, added.number)
    first = tokens.add_nothing()
    template = read_template(source)
    if template is None:
        for token in (BOS_TOKEN, EOS_TOKEN):
            tokens.require(token)
        template = adapt(CHAT_TEMPLATE, name, names, first)
    else:
        template = adapt(template, name, names)
        for token in _written(template, name, names, tokens.ordinary()):
            tokens.require(token)
    in_use = _written(template, name, names, tokens.special())
    tokens.require_image(IMAGE_TOKEN)
    names["pad_token"] = _pad_token(tokens, names, llm.config.pad_token_id, in_use)
    try:
        with quiet():
            made = PreTrainedTokenizerFast(
                tokenizer_object=Tokenizer.from_str(tokens.content()),
                **{key: value for key, value in names.items() if tokens.id_of(value) is not None},
                extra_special_tokens={"image_token": IMAGE_TOKEN},
                clean_up_tokenization_spaces=False,
                chat_template=template,
            )
            made.save_pretrained(directory)
    except Exception as error:  # the Rust side raises plain Exceptions
        raise UserError(f"{name}: not a tokenizer: {' '.join(str(error).split())[:200]}") from None
    saved = Tokenizer.from_file(str(directory / "tokenizer.json"))
    for token in [IMAGE_TOKEN, *tokens.added]:
        if saved.token_to_id(token) != tokens.id_of(token):
            raise UserError(f"{name}: {shown(token)} cannot be added to it: its ids have gaps")
    return tokens.placed


def _read_source(source: Path) -> tuple[str, dict[str, str]]:
    """tokenizer.json, made by transformers of mere vocabulary files, and the tokens named beside it."""
    names: dict[str, str] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        names |= named_tokens(read_mapping(source / file))
    names.pop("image_token", None)
    path = source / "tokenizer.json"
    if path.is_file():
        try:
            content = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{path}: not a tokenizer: not UTF-8 text") from None
        check_numbers(content, str(path))
        return content, names
    from transformers import AutoTokenizer

    from minivlm.model.checkpoint import quiet

    try:
        with quiet():
            made = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        content = str(made.backend_tokenizer.to_str())
    except (OSError, ValueError, ImportError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{source}: no tokenizer.json, and none can be made of what is there: {reason}") from None
    return content, {key: str(token) for key, token in made.special_tokens_map.items()} | names


def _written(template: str, name: str, names: Mapping[str, str], tokens: list[str]) -> list[str]:
    """Those of `tokens` that the template writes around contents: typed, they have to stay text."""
    from minivlm.data.chat import ChatTemplate

    chat = ChatTemplate(template, name=name, special=(), variables=names)
    question, answer = {"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}
    text = chat.render([question, answer, question, answer]) + chat.render([question], add_generation_prompt=True)
    return [token for token in tokens if token in text]


def _pad_token(tokens: SpecialTokens, names: Mapping[str, str], number: int | None, in_use: Sequence[str]) -> str:
    """A token to fill up with: the named one, the model's, one by custom, any that no chat has; at last any.

    Padding is never supervised, whichever it is: the loss goes by position.
    """
    special = [token for token in tokens.special() if token != IMAGE_TOKEN]
    by_id = [token for token in special if tokens.id_of(token) == number]
    unused = [token for token in special if token not in in_use and token != names.get("eos_token")]
    candidates = [names.get("pad_token"), *by_id, *_PADS, *unused, *special]
    return next(t for t in candidates if t and t != IMAGE_TOKEN and tokens.id_of(t) is not None)


def _name_special_tokens(llm: Any, encoder: ChatEncoder, tokenizer: Path) -> None:
    """Let the model's configuration name the tokens of the chat, so that it stops where answers end."""
    from transformers import GenerationConfig

    known = llm.config.eos_token_id
    own = known if isinstance(known, list) else [known]
    ends = {encoder.end_token_id, *(number for number in own if number in encoder.special_ids)}
    bos = read_mapping(tokenizer / "tokenizer_config.json").get("bos_token")
    values = {
        "pad_token_id": encoder.pad_token_id,
        "bos_token_id": encoder.id_of(bos) if bos else None,
        "eos_token_id": sorted(ends) if len(ends) > 1 else encoder.end_token_id,
    }
    for key, value in values.items():
        setattr(llm.config, key, value)
    llm.generation_config = GenerationConfig(**values)
