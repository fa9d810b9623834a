"""params.yaml as typed sections: every value has a type, a range and one line of explanation.

params.yaml (YAML 1.2, read with ruamel) is the only parameter file. An unknown key, a wrong type or a value out
of range ends in one line that names file, key, value and the nearest valid key, before any work starts.
"""

from __future__ import annotations

import difflib
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from minivlm.config.base import Base
from minivlm.config.data import Download, Tokenize, Validate
from minivlm.config.section import Count, FreezePolicy, Positive, Precision, Price, Section
from minivlm.config.training import Training
from minivlm.errors import UserError

__all__ = ["Base", "FreezePolicy", "Params", "Precision", "Prices", "load_params", "parse_params"]


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
    """How the work is done. No stage depends on it: at most the last bits of an output change with it, where
    several processes or another device add up in another order."""

    workers: Count = Field(description="processes that draw, decode and check; 0 = cores")
    hub: Literal["auto", "huggingface", "modelscope"] = Field(
        default="auto", description="where pinned files come from; auto = Hugging Face, then ModelScope"
    )
    downloads: Positive = Field(default=4, description="files fetched at a time")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
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
        description="between two saves of the state that a stopped training goes on from; null = never",
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
        hint = "; `minivlm pin` fills it in" if location[-1] in ("sha256", "images_sha256") else ""
        return f"{source}: {key} is missing{hint}"
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
