"""The processor of an imported directory: the original's tokenizer, with a template that takes pictures.

The original writes a picture as `<image>` in its rows and as a run of one ordinary token, '@', in the prompt. So
an '@' that somebody types looks like a picture to transformers, which counts tokens. The template written here
therefore turns every '@' of a text part, of an assistant and of a system turn into its full-width twin '＠'; a
picture part becomes '@' and a newline, as `<image>\\n` does in the original. A user's turn that is one string is
in the form of the original's rows, where `<image>` (or '@') is meant as a picture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.errors import UserError
from minivlm.look_alike import look_alike
from minivlm.token_ids import check_numbers

if TYPE_CHECKING:
    from transformers import LlavaProcessor, PreTrainedTokenizerBase

# Turns every content into the string that the original's own template expects, and leaves the rest to it.
_PRELUDE = """\
{%- set flat = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- set turn = namespace(text='') -%}
{%- if not message['content'] -%}
{%- elif message['content'] is string -%}
{%- if message['role'] == 'user' -%}
{%- set turn.text = message['content'] | replace('<image>', IMAGE) -%}
{%- else -%}
{%- set turn.text = message['content'] | replace(IMAGE, TWIN) -%}
{%- endif -%}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}
{%- set turn.text = turn.text + IMAGE + '\\n' -%}
{%- elif part['type'] == 'text' -%}
{%- set turn.text = turn.text + (part['text'] | replace(IMAGE, TWIN)) -%}
{%- else -%}
{{- raise_exception('a part of a message is of type image or text') -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- set flat.messages = flat.messages + [dict(message, content=turn.text)] -%}
{%- endfor -%}
{%- set messages = flat.messages -%}
"""
# For a tokenizer without a template: the original's form, and its system prompt.
_PLAIN = """\
{%- if messages[0]['role'] != 'system' -%}
{{- '<|im_start|>system\\nYou are a helpful assistant<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


def read_tokenizer(directory: Path, vocabulary: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a directory; UserError when there is none, or one with ids that the model does not know."""
    from transformers import AutoTokenizer

    if not (directory / "tokenizer.json").is_file():
        raise UserError(f"{directory}: no tokenizer.json there; give the directory of the original's tokenizer")
    check_numbers((directory / "tokenizer.json").read_bytes(), str(directory / "tokenizer.json"))
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise UserError(f"{directory}: not a tokenizer: {' '.join(str(error).split())[:200]}") from None
    if len(tokenizer) > vocabulary:
        raise UserError(f"{directory}: {len(tokenizer)} tokens; the checkpoint knows {vocabulary}")
    return tokenizer


def image_token(tokenizer: PreTrainedTokenizerBase, number: int, where: str) -> str:
    """The string of the picture token `number`; UserError unless it, also in a run, is encoded as that token."""
    token = tokenizer.convert_ids_to_tokens(number) if 0 <= number < len(tokenizer) else None
    if token is None:
        raise UserError(f"{where}: no token {number} in the tokenizer; it has {len(tokenizer)}")
    text = str(tokenizer.decode([number], clean_up_tokenization_spaces=False))
    for run in (1, 3, 196):
        if tokenizer(text * run, add_special_tokens=False)["input_ids"] != [number] * run:
            raise UserError(
                f"{where}: token {number} ({text!r}) cannot stand for pictures: {run} of it are not encoded as "
                f"{run} of that token"
            )
    return text


def twin(tokenizer: PreTrainedTokenizerBase, token: str) -> str:
    """What is written where somebody types the picture token."""
    return look_alike(token, lambda text: tokenizer(text, add_special_tokens=False)["input_ids"])


def chat_template(original: str | None, token: str, stand_in: str) -> str:
    """The original's template behind one that makes strings of parts, and `stand_in` of a typed picture token."""
    prelude = _PRELUDE.replace("IMAGE", _jinja(token)).replace("TWIN", _jinja(stand_in))
    return prelude + (original or _PLAIN)


def imported_processor(
    tokenizer: PreTrainedTokenizerBase, pictures: dict[str, Any], token: str, patch: int
) -> LlavaProcessor:
    """A LlavaProcessor with Pillow's picture preparation (see `minivlm.model.checkpoint.make_processor`)."""
    from transformers import LlavaProcessor
    from transformers.image_processing_backends import PilBackend

    own = tokenizer.chat_template
    template = chat_template(own.get("default") if isinstance(own, dict) else own, token, twin(tokenizer, token))
    tokenizer.chat_template = template
    return LlavaProcessor(
        image_processor=PilBackend(**pictures),
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        image_token=token,
        num_additional_image_tokens=1,  # the class token, which the strategy "default" takes off again
        chat_template=template,
    )


def _jinja(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
