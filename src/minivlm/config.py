"""params.yaml as typed sections: every value has a type, a range and one line of explanation.

params.yaml (YAML 1.2, read with ruamel) is the only parameter file. An unknown key, a wrong type or a value out
of range ends in one line that names file, key, value and the nearest valid key, before any work starts.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from minivlm.errors import UserError

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Price = Annotated[float, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FreezePolicy = Literal["projector", "projector+last_layer", "first_last", "llm"]
Precision = Literal["auto", "fp32", "bf16"]


class Section(BaseModel):
    """A mapping of params.yaml; keys that are not declared are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _require_multiples(section: Section, *pairs: tuple[str, str]) -> None:
    for name, part in pairs:
        whole, size = getattr(section, name), getattr(section, part)
        if whole % size:
            raise ValueError(f"{name} {whole} is no multiple of {part} {size}")


class Scenes(Section):
    """The drawn world: pictures with known truth, rendered from the seed."""

    train_pictures: Positive = Field(description="distinct training pictures; one pretrain row each")
    sft_rows: Positive = Field(description="sft rows, over the same pictures")
    heldout_pictures: Positive = Field(description="held-out pictures of combinations seen in training")
    compositional_pictures: Positive = Field(description="held-out pictures of combinations never seen")
    size: Annotated[int, Field(ge=32, le=1024)] = Field(description="side of a picture in pixels")
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] = Field(description="JPEG quality of a picture")


class LocalFile(Section):
    """A Parquet file anywhere, pinned by its hash."""

    path: str = Field(description="path, absolute or from the repository root")
    sha256: Sha256 = Field(description="sha256 of the file, 64 hex digits")


class Local(Section):
    """Parquet files with the original's columns, by the split that they become."""

    pretrain: LocalFile | None = Field(default=None, description="rows of the first stage")
    sft: LocalFile | None = Field(default=None, description="rows of the second stage")
    heldout: LocalFile | None = Field(default=None, description="rows that neither stage sees")
    compositional: LocalFile | None = Field(default=None, description="optional second held-out split")
    limit: Annotated[int, Field(ge=0)] = Field(default=0, description="rows taken of each file, 0 = all")


class Download(Section):
    """Where the rows come from."""

    source: Literal["scenes", "local"] = Field(description="scenes (drawn) or local (your Parquet files)")
    scenes: Scenes
    local: Local = Local()


class Validate(Section):
    """What a row must be like; see docs/data.md."""

    max_bad_fraction: Fraction = Field(description="share of a file's rows that may be quarantined")
    max_text_characters: Positive = Field(description="characters of one turn, at most")
    min_side: Positive = Field(description="shorter side of a picture in pixels, at least")
    max_side: Positive = Field(description="longer side of a picture in pixels, at most")

    @model_validator(mode="after")
    def _some_picture_passes(self) -> Validate:
        if self.min_side > self.max_side:
            raise ValueError(f"min_side {self.min_side} is more than max_side {self.max_side}")
        return self


class Tokenizer(Section):
    """The byte-level BPE tokenizer."""

    vocabulary: Annotated[int, Field(ge=300)] = Field(description="tokens, special ones included")
    min_frequency: Positive = Field(description="a merge must occur this often")
    longest_token: Positive = Field(description="bytes of a token, at most; a Chinese character has three")


class Optimization(Section):
    """Steps of an optimizer with linear warm-up and cosine decay."""

    epochs: Annotated[float, Field(gt=0)] = Field(description="passes over the training rows")
    learning_rate: Annotated[float, Field(gt=0)] = Field(description="peak learning rate")
    min_learning_rate_ratio: Fraction = Field(default=0.05, description="final over peak learning rate")
    warmup_ratio: Fraction = Field(default=0.05, description="share of the steps spent warming up")
    weight_decay: Annotated[float, Field(ge=0)] = Field(default=0.01, description="weight decay of matrices")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(default=1.0, description="gradient clipping")
    precision: Precision = Field(default="auto", description="auto = bf16 where the device computes in it")


class VisionTower(Optimization):
    """A small CLIP, trained on the picture–caption pairs."""

    image_size: Positive = Field(description="side that pictures are resized to, pixels")
    patch_size: Positive = Field(description="side of a patch, pixels")
    hidden_size: Positive = Field(description="width of both towers")
    layers: Positive = Field(description="layers of the picture tower")
    text_layers: Positive = Field(description="layers of the text tower")
    heads: Positive = Field(description="attention heads")
    intermediate_size: Positive = Field(description="width of the feed-forward part")
    projection_size: Positive = Field(description="width of the shared contrastive space")
    batch_size: Positive = Field(description="pairs in a step")
    phrases: Annotated[int, Field(ge=0)] = Field(description="phrases of captions to predict, the commonest")
    phrase_weight: Annotated[float, Field(ge=0)] = Field(description="weight of their loss beside the contrast")
    grayscale: Fraction = Field(description="share of the pictures that lose their colours in training")

    @model_validator(mode="after")
    def _parts_fill_the_whole(self) -> VisionTower:
        _require_multiples(self, ("image_size", "patch_size"), ("hidden_size", "heads"))
        return self


class BaseLLM(Optimization):
    """A small Llama, trained on text tasks in which the answer depends on the prompt."""

    hidden_size: Positive = Field(description="width")
    layers: Positive = Field(description="layers")
    heads: Positive = Field(description="query heads")
    key_value_heads: Positive = Field(description="key and value heads")
    intermediate_size: Positive = Field(description="width of the feed-forward part")
    max_position_embeddings: Positive = Field(description="longest sequence")
    rope_theta: Annotated[float, Field(gt=0)] = Field(description="base of the rotary embedding")
    batch_tokens: Positive = Field(description="tokens in a step, padding included")

    @model_validator(mode="after")
    def _heads_share_the_width_and_a_row_fits_into_a_step(self) -> BaseLLM:
        _require_multiples(self, ("hidden_size", "heads"), ("heads", "key_value_heads"))
        longest = self.max_position_embeddings
        if self.batch_tokens < longest:
            raise ValueError(f"batch_tokens {self.batch_tokens} is less than max_position_embeddings {longest}")
        return self


class Base(Section):
    """Tokenizer, vision tower and language model that both stages start from."""

    source: Literal["train"] = Field(description="train = from scratch on the training rows")
    vision_feature_layer: int = Field(
        default=-1, description="hidden state of the tower that is read: -1 the last layer's output, -2 one before"
    )
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="share of the pictures that tower and language model are not trained on"
    )
    tokenizer: Tokenizer
    vision_tower: VisionTower
    llm: BaseLLM

    @model_validator(mode="after")
    def _the_layer_exists(self) -> Base:
        layer, layers = self.vision_feature_layer, self.vision_tower.layers
        if not -layers - 1 <= layer <= layers:
            raise ValueError(f"vision_feature_layer {layer} is not in {-layers - 1} to {layers}")
        return self


class Tokenize(Section):
    """Rows to tokens."""

    max_length: Annotated[int, Field(ge=16)] = Field(description="tokens of a row, image tokens included")
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="share of the pictures whose rows are kept for the validation loss"
    )


class Training(Optimization):
    """One training stage."""

    freeze: FreezePolicy = Field(description="what is trained beside the projector; see docs/training.md")
    batch_tokens: Positive = Field(description="tokens in a micro-batch, padding included")
    accumulation: Positive = Field(default=1, description="micro-batches in an optimizer step")
    validations: Positive = Field(description="how often the validation loss is computed")
    log_steps: Positive = Field(default=10, description="steps between two lines of loss.csv")


class Evaluate(Section):
    """Scores on held-out rows, captions of the evaluation pictures."""

    max_pictures: Positive = Field(description="held-out pictures scored of each split, at most")
    gap_pictures: Annotated[int, Field(ge=2)] = Field(
        default=100, description="pictures of each split whose rows the image gap is measured on, at most"
    )
    max_new_tokens: Positive = Field(description="tokens of a caption, at most")
    batch_size: Positive = Field(description="pictures captioned at once")
    question_pretrain: str = Field(description="what the pretrain model is asked")
    question_sft: str = Field(description="what the sft model is asked")
    precision: Precision = Field(default="fp32", description="auto = bf16 where the device computes in it")


class Runtime(Section):
    """How the work is done; nothing here changes a byte of any output, so no stage depends on it."""

    workers: Annotated[int, Field(ge=0)] = Field(description="processes that draw, decode and check; 0 = cores")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")


class Prices(Section):
    """Money for time: currency, price per hour by device name."""

    currency: str = Field(description="ISO code of the currency")
    cpu_hour: Price = Field(description="price of an hour of this CPU machine")
    gpu_hour: dict[str, Price] = Field(description="price of an hour by part of the device's name")


class Tracking(Section):
    """MLflow. The server comes from MLFLOW_TRACKING_URI; without it a local database is used."""

    enabled: bool = Field(description="false: nothing is logged to MLflow")
    experiment: str = Field(description="name of the MLflow experiment")


class Params(Section):
    """The whole of params.yaml."""

    seed: Annotated[int, Field(ge=0)] = Field(description="seed of everything random")
    threads: Positive = Field(description="CPU threads of a computation; part of the result's last bits")
    download: Download
    validate_: Validate = Field(alias="validate")
    base: Base
    tokenize: Tokenize
    pretrain: Training
    sft: Training
    evaluate: Evaluate
    runtime: Runtime
    prices: Prices
    tracking: Tracking

    def section(self, stage: str) -> Section:
        """The section of a stage, by the stage's name."""
        return getattr(self, "validate_" if stage == "validate" else stage)


def _valid_keys(location: tuple[Any, ...]) -> list[str]:
    """Keys allowed in the mapping that holds the last part of `location`."""
    model: Any = Params
    for part in location[:-1]:
        fields = {f.alias or name: f for name, f in model.model_fields.items()}
        annotation = fields[part].annotation if part in fields else None
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next((a for a in options if isinstance(a, type) and issubclass(a, Section)), None)
        if model is None:
            return []
    return [f.alias or name for name, f in model.model_fields.items()]


def _explain(error: Any, source: str) -> str:
    location = error["loc"]
    key = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), _valid_keys(location), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(_valid_keys(location))}"
        return f"{source}: unknown key {key!r}; {hint}"
    if error["type"] == "missing":
        return f"{source}: {key} is missing"
    if error["type"] == "value_error":  # of a whole mapping, which is too long to show
        return f"{source}: {key}: {error['msg'].removeprefix('Value error, ')}"
    return f"{source}: {key} = {error['input']!r}: {error['msg'].lower()}"


def parse_params(values: Any, source: str = "params.yaml") -> Params:
    """Check plain values and type them; UserError names the first key at fault."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        # A misspelt key is also a missing one: the key that is there says more.
        errors = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        raise UserError(_explain(errors[0], source)) from None


def load_params(path: Path) -> Params:
    """Read params.yaml; UserError when it is missing, not YAML, or holds a wrong value."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        values = YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run from the repository root") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; it has to be a file that can be read") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name}: not valid YAML: {' '.join(str(error).split())}") from None
    return parse_params(values, path.name)
