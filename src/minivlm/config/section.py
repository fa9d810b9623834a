"""What every section of params.yaml is built of: strict mappings, scalar types with ranges, pinned files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Price = Annotated[float, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Repository = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")]
FreezePolicy = Literal["projector", "projector+last_layer", "first_last", "llm"]
Precision = Literal["auto", "fp32", "bf16"]
Origin = Literal["train", "hub", "local", "random"]


class Section(BaseModel):
    """A mapping of params.yaml; keys that are not declared are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def require_multiples(section: Section, *pairs: tuple[str, str]) -> None:
    """ValueError unless, of each pair of keys, the first value is a multiple of the second."""
    for name, part in pairs:
        whole, size = getattr(section, name), getattr(section, part)
        if whole % size:
            raise ValueError(f"{name} {whole} is no multiple of {part} {size}")


class LocalFile(Section):
    """A file anywhere, pinned by its hash."""

    path: str = Field(description="path, absolute or from the repository root")
    sha256: Sha256 = Field(description="sha256 of the file, 64 hex digits")


class HubFile(Section):
    """One file of a hub repository, as it has to arrive."""

    size: Count = Field(description="bytes")
    sha256: Sha256 = Field(description="sha256 of the file, 64 hex digits")


class HubSource(Section):
    """A repository of a model hub at one revision; `minivlm pin` fills in revision and files."""

    repo: Repository = Field(description="owner/name on the hub")
    revision: Revision | None = Field(default=None, description="commit of the repository, 40 hex digits")
    files: dict[str, HubFile] = Field(default={}, description="path in the repository → size and sha256")
    modelscope: Repository | None = Field(default=None, description="owner/name on ModelScope, where that differs")
