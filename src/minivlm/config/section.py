"""What every section of params.yaml is built of: strict mappings, scalar types with ranges, pinned files."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

# Upper ends are far beyond what anybody trains here: they keep a slip of the finger from filling a memory.
MOST = 1_000_000_000
Positive = Annotated[int, Field(ge=1, le=MOST)]
Count = Annotated[int, Field(ge=0, le=MOST)]
Exchanged = Annotated[int, Field(ge=2, le=MOST)]  # of pictures: none keeps its own
Width = Annotated[int, Field(ge=1, le=65_536)]
Layers = Annotated[int, Field(ge=1, le=1_024)]
Side = Annotated[int, Field(ge=1, le=16_384)]  # pixels
Bytes = Annotated[int, Field(ge=0, le=1 << 60)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Price = Annotated[float, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$")]  # without control characters
ModelName = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_. -]*)?$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Repository = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
FreezePolicy = Literal["projector", "projector+last_layer", "first_last", "llm"]
TRAINED: dict[FreezePolicy, str] = {
    "projector": "the projector",
    "projector+last_layer": "the projector and the language model's last layer",
    "first_last": "the projector and the language model's first and last layer",
    "llm": "the projector and all of the language model",
}
"""What a policy trains, in words; it is named after that, and freezes all else."""
Precision = Literal["auto", "fp32", "bf16"]
Origin = Literal["train", "hub", "local", "random"]
MADE_HERE = ("train", "random")  # of the origins: from the sizes in params.yaml


PATTERNS = {
    Name: "text without control characters",
    Repository: "name or owner/name",
    Revision: "40 hex digits",
    Sha256: "64 hex digits",
    Device: "auto, cpu, cuda or cuda:N",
    Currency: "three capital letters",
    ModelName: "text of letters, digits, '_', '.', '-' and spaces, or none",
}
"""The texts that have a form, with the form in words."""


def words_of(pattern: str) -> str:
    """A form in words; KeyError for one that has none."""
    return {get_args(form)[1].metadata[0].pattern: words for form, words in PATTERNS.items()}[pattern]


def _scalar(value: Any) -> Any:
    if not isinstance(value, int | float | str) or value != value:
        raise PydanticCustomError("scalar", "a number, true, false or a text is needed")
    return value


Scalar = Annotated[Any, AfterValidator(_scalar)]
"""int, float, bool or str: of a union pydantic would tell a fault four times."""


def _bits_or_none(value: Any) -> Any:
    if value is None or value == "none":
        return "none"
    if type(value) is not int or not 0 <= value <= 11:
        raise PydanticCustomError("bits", "none, or a whole number from 0 to 11 is needed")
    return value


BitsOrNone = Annotated[Literal["none"] | Annotated[int, Field(ge=0, le=11)], BeforeValidator(_bits_or_none)]
"""Of 64 bits so many, or none; YAML's null is taken for none. Pydantic would tell a fault once for each kind."""


class Section(BaseModel):
    """A mapping of params.yaml; keys that are not declared are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class LocalFile(Section):
    """A file anywhere, pinned by its hash."""

    path: Name = Field(description="path, absolute or from the repository root")
    sha256: Sha256 = Field(description="sha256 of the file, 64 hex digits")


class HubFile(Section):
    """One file of a hub repository, as it has to arrive."""

    size: Bytes = Field(description="bytes")
    sha256: Sha256 = Field(description="sha256 of the file, 64 hex digits")


class HubSource(Section):
    """A repository of a model hub at one revision; `minivlm pin` fills in revision and files."""

    repo: Repository = Field(description="owner/name on the hub")
    revision: Revision | None = Field(default=None, description="commit of the repository, 40 hex digits")
    files: dict[str, HubFile] = Field(default={}, description="path in the repository → size and sha256")
    modelscope: Repository | None = Field(default=None, description="owner/name on ModelScope, where that differs")
