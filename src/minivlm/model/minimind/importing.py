"""`.pth` + CLIP directory + tokenizer → a standard transformers LLaVA directory, exactly.

`P` patches of a picture. The projector is the original's one linear map, the second one an identity; the features
are the last layer's without the class token and without the final norm, as in the original.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from minivlm.errors import UserError
from minivlm.files import atomic_directory
from minivlm.model.card import LICENCES, Card, parameters_by_part, write_card
from minivlm.model.checkpoint import quiet
from minivlm.model.fingerprint import write_fingerprint
from minivlm.model.llava import put_together
from minivlm.model.minimind.configuration import configure, picture_token, read_fields, unknown_fields
from minivlm.model.minimind.language import PAD_TOKEN_ID, build_llm
from minivlm.model.minimind.processor import image_token, imported_processor, read_tokenizer
from minivlm.model.minimind.state import Checkpoint, read_state
from minivlm.model.minimind.tower import check_copy, picture_values, read_tower

_USUAL = (
    "jingyaogong/MiniMind2-V-PyTorch",
    "openai/clip-vit-base-patch16",
    "jingyaogong/minimind-v_dataset",
)
SEED = 0  # of a projector that the checkpoint does not hold, and of the fingerprint's tokens


class Imported(NamedTuple):
    """What was written: for the command to say, and for the model card."""

    directory: Path
    image_token: str
    image_token_id: int
    image_tokens: int  # of a picture
    projector: str  # "trained, with bias", "trained, without bias" or "drawn"
    parameters: dict[str, int]  # by part
    ignored: tuple[str, ...]  # fields of the configuration that mean nothing here


def import_checkpoint(
    checkpoint: Path,
    vision: Path,
    tokenizer: Path,
    out: Path,
    *,
    config: Path | None = None,
    image_token_id: int | None = None,
    force: bool = False,
) -> Imported:
    """Write `out`: model, processor, tokenizer with chat template, generation config, model card, fingerprint.

    `checkpoint`: llm_*.pth, pretrain_vlm_*.pth or sft_vlm_*.pth; `vision`: a CLIPVisionModel's or CLIPModel's
    directory; `config`: JSON of the original's fields. A bare language model gets a projector drawn from a fixed
    seed: the directory is then the start of a training, which output and card say. `force`: a model that is in
    `out` already gives way. UserError in one line for anything that does not fit.
    """
    _check_place(out, force, checkpoint, vision, tokenizer, *([config] if config else []))
    fields = read_fields(config)
    state = read_state(checkpoint)
    sizes = configure(state, fields)
    tower = read_tower(vision)
    _check_fit(state, tower, vision)
    check_copy(state, tower)
    pictures = picture_values(vision, tower.config.image_size)
    words = read_tokenizer(tokenizer, sizes.vocab_size)
    patches = (tower.config.image_size // tower.config.patch_size) ** 2
    number = picture_token(config or checkpoint, fields, patches) if image_token_id is None else image_token_id
    framing = {words.pad_token_id, words.bos_token_id, words.eos_token_id}
    if number in framing | {PAD_TOKEN_ID, sizes.bos_token_id, sizes.eos_token_id}:
        raise UserError(f"{tokenizer}: token {number} begins, ends or fills up texts and is no picture")
    token = image_token(words, number, "--image-token-id" if image_token_id is not None else str(tokenizer))
    model = put_together(
        tower,
        build_llm(state, sizes),
        checkpoint,
        image_token_id=number,
        vision_feature_layer=-1,
        # A drawn projector has the bias that the original's code gives it.
        projector_bias="bias" in state.projector or not state.projector,
        seed=SEED,
        projection=state.projector or None,
    )
    eos = words.eos_token_id
    model.generation_config.eos_token_id = sizes.eos_token_id if eos is None else eos
    processor = imported_processor(words, pictures, token, tower.config.patch_size)
    imported = Imported(
        out, token, number, patches, _projector(state), parameters_by_part(model), unknown_fields(fields)
    )
    with quiet(), atomic_directory(out.resolve()) as temporary:  # a link stays one
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        (temporary / "model.safetensors").chmod(0o644)
        write_fingerprint(model, temporary, SEED)
        write_card(temporary, _card(imported, checkpoint))
    return imported


def _check_place(out: Path, force: bool, *sources: Path) -> None:
    """UserError unless `out` is new or empty, or (`force`) a model: what is there is removed, sources never."""
    target = out.resolve()
    for source in sources:
        given = source.resolve()
        if given == target or target in given.parents:
            raise UserError(f"{out}: {source} lies there and would be removed; give another directory")
    if target.exists() and not target.is_dir():
        raise UserError(f"{out}: a file is there; give a directory to write")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not force:
        raise UserError(f"{out}: is not empty; give a new directory, or --force to replace a model there")
    if not (target / "config.json").is_file() or not any(target.glob("*.safetensors")):
        raise UserError(f"{out}: is not empty and no model, which alone --force replaces; give a new directory")


def _check_fit(state: Checkpoint, tower: Any, vision: Path) -> None:
    width = state.sizes.get("V", tower.config.hidden_size)
    if width != tower.config.hidden_size:
        raise UserError(
            f"{state.path}: its projector takes features {width} wide, the vision tower {vision} gives "
            f"{tower.config.hidden_size}"
        )


def _projector(state: Checkpoint) -> str:
    if not state.projector:
        return "drawn"
    return "trained, with bias" if "bias" in state.projector else "trained, without bias"


def _card(imported: Imported, checkpoint: Path) -> Card:
    usual = "\n".join(f"- `{name}`: {LICENCES[name]}" for name in _USUAL)
    return Card(
        title=f"{checkpoint.stem}, as a LLaVA",
        summary=(
            f"The weights of `{checkpoint.name}`, a checkpoint of MiniMind-V (jingyaogong/minimind-v), with its "
            "CLIP vision tower, as a standard transformers directory. It computes what the original computes."
        ),
        parameters=imported.parameters,
        image_tokens=imported.image_tokens,
        image_token=imported.image_token,
        typed_image_token=True,
        projector=imported.projector,
        # Names without a hub's "/": what was imported the importer cannot tell, so a hub is told nothing.
        base_models=(f"the checkpoint {checkpoint.name}", "the vision tower given with it"),
        data=("the data that they were trained on",),
        notes=("MiniMind-V is usually made from these; whether this one is, the importer cannot tell:", usual),
        license="other",
    )
