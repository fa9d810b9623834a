"""How near copies and other pictures lie by perceptual hash: what `validate.near_duplicate_bits` should be.

    python -m benchmarks.likeness TRAIN.parquet HELDOUT.parquet

Of some pictures copies are made, saved again, resized, brightened and cut; their share within so many bits of the
original is printed, then how many pairs of different pictures are within them, and how near held-out pictures are
to training ones. Files are rows as `download` writes them. docs/data.md has the figures of the photographs of
profiles/photos.yaml and of the drawn scenes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.record import run, table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

BITS = (0, 2, 4, 6, 8, 10, 12)
app = typer.Typer(add_completion=False)


@app.command(help=__doc__)
def main(
    train: Annotated[Path, typer.Argument(help="Rows of training.")],
    heldout: Annotated[Path, typer.Argument(help="Rows held out.")],
    sample: Annotated[int, typer.Option(min=1, help="Pictures of which copies are made.")] = 1500,
) -> None:
    """Measure and print."""
    import numpy as np

    ours, theirs = (list(distinct_pictures(path)) for path in (train, heldout))
    trained, held = hashes(ours), hashes(theirs)
    far = {name: distances(ours[:sample], trained[:sample], change) for name, change in copies().items()}
    table(
        [{"copy": name, **{str(bits): round(float((found <= bits).mean()), 3) for bits in BITS}}
         for name, found in far.items()],
        f"share of {len(ours[:sample]):,} copies within so many bits",
    )  # fmt: skip
    counts = pair_counts(np.concatenate([trained, held]))
    nearest = np.array([int(np.bitwise_count(trained ^ each).min()) for each in held])
    table(
        [
            {"of": f"{counts.sum():,} pairs", **{str(bits): int(counts[: bits + 1].sum()) for bits in BITS}},
            {
                "of": f"{len(held):,} held-out pictures, to the nearest of {len(trained):,}",
                **{str(bits): int((nearest <= bits).sum()) for bits in BITS},
            },
        ],
        "different pictures within so many bits",
    )


def distinct_pictures(path: Path) -> Iterator[bytes]:
    """The pictures of a file, each once, in the order of its rows."""
    from minivlm.data.validation.parquet_rows import table_rows
    from minivlm.data.validation.picture import row_pictures

    seen: set[bytes] = set()
    for batch in table_rows(path).batches():
        for value in batch.column("image_bytes").to_pylist():
            for data in row_pictures(value):
                if data and data not in seen:
                    seen.add(data)
                    yield data


def hashes(pictures: list[bytes]) -> npt.NDArray[np.uint64]:
    """Their perceptual hashes."""
    import numpy as np
    from PIL import Image

    from minivlm.data.validation.likeness import perceptual_hash

    return np.array([perceptual_hash(Image.open(io.BytesIO(data))) for data in pictures], np.uint64)


def copies() -> dict[str, Callable[[Image], Image]]:
    """What may happen to a picture that is used twice."""
    from PIL import Image

    def scaled(image: Image.Image, factor: float) -> Image.Image:
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        return image.resize(size, Image.Resampling.LANCZOS)

    def cut(image: Image.Image, share: float) -> Image.Image:
        left, top = round(image.width * share), round(image.height * share)
        return image.crop((left, top, image.width - left, image.height - top))

    return {
        "JPEG of quality 75": lambda image: saved(image, 75),
        "JPEG of quality 40": lambda image: saved(image, 40),
        "half as wide and high": lambda image: scaled(image, 0.5),
        "twice, then JPEG of quality 75": lambda image: saved(scaled(image, 2), 75),
        "a fifth brighter": lambda image: image.point(lambda value: min(255, int(value * 1.2))),
        "2 % cut off each side": lambda image: cut(image, 0.02),
        "5 % cut off each side": lambda image: cut(image, 0.05),
    }


def saved(image: Image, quality: int) -> Image:
    """The picture as a JPEG of this quality has it."""
    from PIL import Image

    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


def distances(
    pictures: list[bytes], originals: npt.NDArray[np.uint64], change: Callable[[Image], Image]
) -> npt.NDArray[np.integer]:
    """In how many bits the hash of each changed picture differs from its own."""
    import numpy as np
    from PIL import Image

    from minivlm.data.validation.likeness import perceptual_hash

    images = (Image.open(io.BytesIO(data)).convert("RGB") for data in pictures)
    return np.bitwise_count(np.array([perceptual_hash(change(image)) for image in images], np.uint64) ^ originals)


def pair_counts(found: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """How many pairs differ in 0, 1 ... 64 bits, (65,)."""
    import numpy as np

    counts = np.zeros(65, np.int64)
    for place in range(len(found) - 1):
        counts += np.bincount(np.bitwise_count(found[place + 1 :] ^ found[place]), minlength=65)
    return counts


if __name__ == "__main__":
    run(app)
