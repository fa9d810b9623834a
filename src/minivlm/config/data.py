"""The sections of the data stages: download, validate, tokenize."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from minivlm.config.section import (
    MOST,
    BitsOrNone,
    Count,
    Exchanged,
    Fraction,
    HubSource,
    LocalFile,
    Name,
    Positive,
    Section,
    Sha256,
    Side,
)

Divided = Annotated[int, Field(ge=2, le=MOST)]  # at least one is kept for the validation loss, one trained on


class Scenes(Section):
    """The drawn world: pictures with known truth, rendered from the seed."""

    train_pictures: Divided = Field(description="distinct training pictures; one pretrain row each")
    sft_rows: Divided = Field(description="sft rows, over the same pictures")
    heldout_pictures: Exchanged = Field(description="held-out pictures of combinations seen in training")
    compositional_pictures: Exchanged = Field(description="held-out pictures of combinations never seen")
    size: Annotated[int, Field(ge=32, le=1024)] = Field(description="side of a picture in pixels")
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] = Field(description="JPEG quality of a picture")


class RowFile(LocalFile):
    """Rows: a Parquet file, or the original's JSON lines with a folder or a zip of pictures beside them."""

    images: Name | None = Field(default=None, description="for JSON lines: the folder or zip of their pictures")
    images_sha256: Sha256 | None = Field(default=None, description="sha256 of the zip, or of the folder's tree")


class Local(Section):
    """Files of rows, by the split that they become."""

    pretrain: RowFile | None = Field(default=None, description="rows of the first stage")
    sft: RowFile | None = Field(default=None, description="rows of the second stage")
    heldout: RowFile | None = Field(default=None, description="rows that neither stage sees")
    compositional: RowFile | None = Field(default=None, description="optional second held-out split")
    limit: Count = Field(default=0, description="rows taken of each file, 0 = all")


class HubRows(HubSource):
    """Rows in a data set repository of a hub."""

    rows: Name = Field(description="the Parquet or JSON lines file in the repository")
    images: Name | None = Field(default=None, description="for JSON lines: the zip of pictures in the repository")


class Hub(Section):
    """Data set repositories, by the split that they become."""

    pretrain: HubRows | None = Field(default=None, description="rows of the first stage")
    sft: HubRows | None = Field(default=None, description="rows of the second stage")
    heldout: HubRows | None = Field(default=None, description="rows that neither stage sees")
    compositional: HubRows | None = Field(default=None, description="optional second held-out split")
    limit: Count = Field(default=0, description="rows taken of each file, 0 = all")


class Download(Section):
    """Where the rows come from."""

    source: Literal["scenes", "local", "hub"] = Field(
        description="scenes (drawn), local (your files) or hub (data set repositories)"
    )
    heldout_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="share of the pictures whose rows are held out, where no heldout file is named"
    )
    scenes: Scenes
    local: Local = Local()
    hub: Hub = Hub()


class Validate(Section):
    """What a row must be like; see docs/data.md."""

    max_bad_fraction: Fraction = Field(description="share of a file's rows that may be quarantined")
    max_text_characters: Positive = Field(description="characters of one turn, at most")
    min_side: Side = Field(description="shorter side of a picture in pixels, at least")
    max_side: Side = Field(description="longer side of a picture in pixels, at most")
    near_duplicate_bits: BitsOrNone = Field(
        default="none",
        description="a held-out picture is leakage when its perceptual hash differs from a training picture's in "
        "at most so many of 64 bits; none: pictures that look alike are not searched",
    )

    @property
    def alike_within(self) -> int | None:
        """The same as a number, or None."""
        return None if self.near_duplicate_bits == "none" else self.near_duplicate_bits

    @model_validator(mode="after")
    def _some_picture_passes(self) -> Validate:
        if self.min_side > self.max_side:
            raise ValueError(f"min_side {self.min_side} is more than max_side {self.max_side}")
        return self


class Tokenize(Section):
    """Rows to tokens."""

    max_length: Annotated[int, Field(ge=16, le=MOST)] = Field(description="tokens of a row, image tokens included")
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="share of the pictures whose rows are kept for the validation loss"
    )
    max_bad_fraction: Fraction = Field(
        default=0.0,
        description="share of a split's rows that may be left out, too much of them cut off",
    )
