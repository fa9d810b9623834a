"""The model card: README.md of a model directory, with the front matter that model hubs read.

Says what the model is, what it was made from and under which terms, how to load it, what it is for and what it is
not. The same facts give the same bytes: no time, no run, no path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minivlm.files import write_text

FILE = "README.md"
IMAGE_TOKEN = "<image>"  # of the models trained here
DRAWN = "the drawn world of minivlm"

# What their publishers say, in short; docs/licences.md has the pages and what could not be verified.
LICENCES = {
    "openai/clip-vit-base-patch16": "MIT (code); OpenAI's card is for research, deployment out of scope untested",
    "jingyaogong/MiniMind2-V-PyTorch": "Apache-2.0; its texts come from sets with terms of their own",
    "jingyaogong/minimind-v_dataset": (
        "Apache-2.0 in its first card, none named later; made from LLaVA-CC3M-Pretrain-595K (its pictures for "
        "research alone) and LLaVA-Instruct-150K (CC BY 4.0, written by GPT-4 under OpenAI's terms), translated"
    ),
    DRAWN: "Apache-2.0; drawn by the program, no rights of others",
}


@dataclass(frozen=True)
class Card:
    """The facts of a card. Names of `base_models` and `data` that LICENCES knows get their terms written out."""

    title: str
    summary: str
    parameters: Mapping[str, int]  # part → number, of the maps that were trained or loaded
    image_tokens: int  # of one picture
    image_token: str
    projector: str = "trained, without bias"
    typed_image_token: bool = False  # whether people type the picture token, as they do '@'
    base_models: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("zh",)
    metrics: tuple[str, ...] = ()  # by their names on a hub, of those that it was scored with
    license: str = "apache-2.0"
    notes: tuple[str, ...] = field(default=())


def parameters_by_part(model: Any) -> dict[str, int]:
    """Parameters of a LlavaForConditionalGeneration; of its projector those of the map that is no identity."""
    parts = {
        "vision tower": model.model.vision_tower,
        "projector": model.model.multi_modal_projector.linear_1,
        "language model": model.model.language_model,
    }
    return {name: sum(each.numel() for each in part.parameters()) for name, part in parts.items()}


def trained_card(model: Any, base_models: Sequence[str], data: Sequence[str]) -> Card:
    """The card of a model that a stage of this pipeline saves.

    `base_models`: the brought parts; `data`: whose rows and texts it learnt from, none where all was drawn and
    made here: only then is its licence the program's.
    """
    own = not base_models and not data
    return Card(
        title="A vision-language model trained by minivlm",
        summary="Saved by a training stage: by `pretrain`, by default of the projector alone, or by `sft`, "
        "then of the language model too. What was trained on what is in the params.yaml and dvc.lock of the "
        "commit that it was made by; how well both answer, on pictures that neither was trained on, is in "
        "reports/evaluate/metrics.json there.",
        parameters=parameters_by_part(model),
        image_tokens=model.config.image_seq_length,
        image_token=IMAGE_TOKEN,
        base_models=tuple(base_models),
        data=tuple(data) or (DRAWN,),
        metrics=("bleu", "chrf"),
        license="apache-2.0" if own else "other",
    )


def write_card(directory: Path, card: Card) -> None:
    """Write README.md into a model directory."""
    write_text(directory / FILE, render(card))


def render(card: Card) -> str:
    """The card's text."""
    sections = [
        _front(card),
        f"# {card.title}\n\n{card.summary}",
        _model(card),
        *([_typed(card)] if card.typed_image_token else []),
        _loading(),
        _use(card),
        _terms(card),
    ]
    return "\n\n".join(sections) + "\n"


def _front(card: Card) -> str:
    lines = ["---", "library_name: transformers", "pipeline_tag: image-text-to-text", f"license: {card.license}"]
    named = {
        "language": card.languages,
        "base_model": tuple(name for name in card.base_models if "/" in name),
        "datasets": tuple(name for name in card.data if "/" in name),
        "metrics": card.metrics,
        "tags": ("llava", "minivlm"),
    }
    for key, values in named.items():
        if values:
            lines += [f"{key}:", *(f"- {json.dumps(value, ensure_ascii=False)}" for value in values)]
    return "\n".join([*lines, "---"])


def _model(card: Card) -> str:
    rows = [f"| {name} | {count:,} |" for name, count in card.parameters.items()]
    drawn = (
        "\n\n**The projector is not trained.** The checkpoint was a language model alone; the projector was "
        "drawn from a fixed seed. This directory is the start of a training: what it says of a picture means "
        "nothing yet."
    )
    text = "\n".join(
        [
            "## Model",
            "",
            "`LlavaForConditionalGeneration`: a vision tower, one linear map, a language model. The map is "
            "`linear_1`; `linear_2` is an identity that transformers' class asks for and adds nothing.",
            "",
            "| part | parameters |",
            "| --- | ---: |",
            *rows,
            "",
            f"A picture is {card.image_tokens} tokens, written `{card.image_token}`. Projector: {card.projector}.",
        ]
    )
    text += drawn if card.projector == "drawn" else ""
    return text + "".join(f"\n\n{note}" for note in card.notes)


def _typed(card: Card) -> str:
    token = card.image_token
    return (
        f"## `{token}` is the picture\n\nThe original marks a picture by a run of the ordinary token `{token}`. "
        f"transformers' processor takes every `{token}` in a text for a picture: `a{token}b.c` in a question ends "
        "in an error, or in a picture at the wrong place. The chat template of this directory writes a "
        f"look-alike for a `{token}` in text parts and in turns of assistant and system. So give "
        'conversations as parts, `{"type": "image"}` and `{"type": "text", "text": …}`, and they '
        "are safe. A user's turn that is one string, and text given to the processor without the template, are "
        f"read as the original's rows are: `{token}` is a picture there. `minivlm caption` reads a typed "
        f"`{token}` as the original did: as a character."
    )


def _loading() -> str:
    return """## Loading

```python
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("DIRECTORY")
processor = AutoProcessor.from_pretrained("DIRECTORY")
question = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "请描述这张图片。"}]}]
text = processor.apply_chat_template(question, add_generation_prompt=True)
inputs = processor(images=[Image.open("picture.jpg").convert("RGB")], text=[text], return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=128, do_sample=False)
print(processor.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```

Or, with this project, `minivlm caption picture.jpg --model DIRECTORY`."""


def _use(card: Card) -> str:
    drawn = (
        " It has seen drawn pictures alone: of a photograph it speaks in the words of that drawn world, with the "
        "same assurance. No score of it counts on which side things stand."
    )
    return (
        "## Use and limits\n\nFor learning, teaching and measuring how such models are trained; it reads and "
        f"writes {', '.join(card.languages)}. It is small: it invents things that are not in the picture, counts "
        "badly and repeats what its data said most. It has no safety training. Do not let it decide about people "
        "or identify anybody, and look yourself where a description matters."
    ) + (drawn if DRAWN in card.data and not card.base_models else "")


def _terms(card: Card) -> str:
    rows = [f"| {name} | {LICENCES.get(name, 'see its publisher')} |" for name in (*card.base_models, *card.data)]
    if not rows:
        rows = ["| none of others | |"]
    return "\n".join(
        [
            "## Made from",
            "",
            "| weights and data | terms, as stated by the publisher |",
            "| --- | --- |",
            *rows,
            "",
            "A model inherits the strictest of them: its weights may be used as far as all of these allow. The "
            "program that made this directory is under Apache-2.0, which says nothing about the weights. No "
            "legal advice.",
        ]
    )
