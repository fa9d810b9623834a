"""params.yaml as typed sections: every value has a type, a range and one line of explanation.

params.yaml (YAML 1.2, read with ruamel) is the only parameter file. An unknown key, a wrong type or a value out
of range ends in one line that names file, key, value and the nearest valid key, before any work starts.
"""

from __future__ import annotations

import difflib
import importlib
import re
import reprlib
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from minivlm.config.base import Base
from minivlm.config.combinations import impossible
from minivlm.config.data import Download, Tokenize, Validate
from minivlm.config.section import (
    Currency,
    Device,
    Exchanged,
    FreezePolicy,
    ModelName,
    Name,
    Positive,
    Precision,
    Price,
    Section,
    Text,
    words_of,
)
from minivlm.config.training import Training
from minivlm.errors import UserError

__all__ = ["Base", "FreezePolicy", "Params", "Precision", "Prices", "load_params", "parse_params", "read_yaml"]

Threads = Annotated[int, Field(ge=1, le=1_024)]
Processes = Annotated[int, Field(ge=0, le=1_024)]
_LARGEST = 1 << 18  # bytes of a file of parameters
_LONGEST = 400  # characters of a reason
_SHOWN = 100  # characters of a key or a text
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = _SHOWN
_SHORT.maxlevel = 2


class Evaluate(Section):
    """Scores on held-out rows, captions of the evaluation pictures."""

    max_pictures: Exchanged = Field(description="held-out pictures scored of each split, at most")
    gap_pictures: Exchanged = Field(
        default=100, description="pictures of each split whose rows the image gap is measured on, at most"
    )
    max_new_tokens: Positive = Field(description="tokens of a caption, at most")
    batch_size: Positive = Field(description="pictures captioned at once")
    question_pretrain: Text = Field(description="what the pretrain model is asked")
    question_sft: Text = Field(description="what the sft model is asked")
    precision: Precision = Field(default="fp32", description="auto = bf16 where the device has it, else fp32")


class Runtime(Section):
    """How the work is done. At most the last bits of an output change with it, where several processes or another
    device add up in another order, and on a device with bf16 what `precision: auto` means."""

    workers: Annotated[int, Field(ge=0, le=1024)] = Field(
        description="processes that draw, decode and check; 0 = cores"
    )
    hub: Literal["auto", "huggingface", "modelscope"] = Field(
        default="auto", description="where pinned files come from; auto = Hugging Face, then ModelScope"
    )
    downloads: Annotated[int, Field(ge=1, le=64)] = Field(default=4, description="files fetched at a time")
    device: Device = Field(default="auto", description="what computes; auto = the GPU where there is one")
    launcher: str = Field(
        default="", description="what starts the processes of pretrain and sft; empty = one; see docs/scale.md"
    )
    feature_cache: bool = Field(
        default=False, description="keep the vision tower's features on disk: 301 KB a picture at full size"
    )
    sharding: Literal["none", "full"] = Field(
        default="none", description="full = parameters and optimizer are shared out over the processes (FSDP)"
    )
    save_minutes: Annotated[float, Field(ge=0)] | None = Field(
        default=5.0,
        description="minutes between two saves of what a stopped training goes on from; null = never",
    )

    @field_validator("launcher")
    @classmethod
    def _known_launcher(cls, value: str) -> str:
        try:
            words = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"{value!r}: {error}") from None
        if words and words[0] != "torchrun" and words[:2] != ["accelerate", "launch"]:
            raise ValueError(f"{value!r} does not start with torchrun or accelerate launch")
        return value.strip()


class Prices(Section):
    """Money for time: currency, price per hour by device name."""

    currency: Currency = Field(description="ISO code of the currency")
    cpu_hour: Price = Field(description="price of an hour of this CPU machine")
    gpu_hour: dict[str, Price] = Field(description="price of an hour by part of the device's name")


class Tracking(Section):
    """MLflow. The server comes from MLFLOW_TRACKING_URI; without it a local database is used."""

    enabled: bool = Field(description="false: nothing is logged to MLflow")
    experiment: Name = Field(description="name of the MLflow experiment")
    registered_model: ModelName = Field(
        default="minivlm",
        description='name in MLflow\'s model registry that evaluate makes versions of; "": none are made',
    )


class Params(Section):
    """The whole of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = Field(description="seed of everything random")
    threads: Annotated[int, Field(ge=1, le=1024)] = Field(
        description="CPU threads of a computation; part of the result's last bits"
    )
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

    @model_validator(mode="after")
    def _go_together(self) -> Params:
        if fault := next(impossible(self), None):
            raise ValueError(fault)
        return self

    def section(self, stage: str) -> Section:
        """The section of a stage, by the stage's name."""
        return getattr(self, "validate_" if stage == "validate" else stage)


def _explain(error: Any, source: str) -> str:
    location = error["loc"]
    key = ".".join(str(part) if str(part).isprintable() else repr(part) for part in location)[:_SHOWN]
    value = _shown(error["input"])
    if error["type"] == "extra_forbidden":
        # By name: it looks at the sections above, and changes no output: no dependency of a stage in dvc.yaml.
        hints = importlib.import_module("minivlm.config.hints")
        return f"{source}: unknown key {key!r} = {value}; {hints.hint(location)}"
    if error["type"] == "missing":
        pin = "; `minivlm pin` fills it in" if location[-1] in ("sha256", "images_sha256") else ""
        return f"{source}: {key} is missing{pin}"
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":  # it names the values; of a whole mapping they are too long to show
        return f"{source}: {key}: {said}" if key else f"{source}: {said}"
    if error["type"] in ("model_type", "model_attributes_type", "dict_type"):
        said = "a mapping of keys to values is needed"
    if error["type"] == "string_pattern_mismatch":
        said = f"it has to be {words_of(error['ctx']['pattern'])}"
    if error["type"] == "literal_error":
        near = difflib.get_close_matches(str(error["input"])[:_SHOWN], re.findall("'([^']+)'", said), n=1)
        said += f"; did you mean {near[0]!r}?" if near else ""
    return f"{source}: {f'{key} = ' if key else ''}{value}: {said[:1].lower()}{said[1:]}"


def _shown(value: Any) -> str:
    """A value for a message: short, on one line. YAML's references can make a small file an endless value."""
    try:
        return " ".join(_SHORT.repr(value).split())
    except ValueError:  # Python does not write whole numbers of more than some thousand digits
        return f"a {type(value).__name__} too long to show"


def parse_params(values: Any, source: str = "params.yaml") -> Params:
    """Check plain values and type them; UserError names the first key at fault."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        # A misspelt key is also a missing one: the key that is there says more.
        foreign = ("extra_forbidden", "invalid_key")
        errors = sorted(error.errors(), key=lambda each: each["type"] not in foreign)
        raise UserError(_explain(errors[0], source)) from None


def load_params(path: Path) -> Params:
    """Read params.yaml; UserError when it is missing, not YAML, or holds a wrong value."""
    return parse_params(read_yaml(path, path.name), path.name)


def read_yaml(path: Path, name: str) -> Any:
    """The plain values of a YAML file; UserError, about `name`, when it cannot be read or is none."""
    from ruamel.yaml import YAML

    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run from the repository root") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; it has to be a file that can be read") from None
    if len(content) > _LARGEST:
        raise UserError(f"{name}: larger than {_LARGEST:,} bytes: not a file of parameters")
    try:
        return YAML(typ="safe", pure=True).load(content.decode("utf-8"))
    except Exception as error:
        # Beside its own errors ruamel raises what it stumbles over: a month 13, brackets nested too deep,
        # a tag without a value (ValueError, RecursionError, TypeError ...).
        raise UserError(f"{name}: not valid YAML: {_yaml_fault(error)}") from None


def _yaml_fault(error: Exception) -> str:
    """What ruamel says and where, without the advice that it adds for those who program with it."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    said = f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if problem and mark else str(error)
    return " ".join(said.split())[:_LONGEST]
