"""Pictures that look alike: the hash and the search."""

import io

import numpy as np
import pytest
from PIL import Image

from minivlm.data.validation import likeness
from minivlm.data.validation.likeness import MOST_BITS, NO_STRUCTURE, LikenessIndex, perceptual_hash
from minivlm.data.validation.picture import picture_facts


def photo(seed, side=96):
    """A picture with structure at all scales, of its own for each seed."""
    noise = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side))
    for cells in (3, 6, 12, 24):
        part = Image.fromarray(noise.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        image = Image.blend(image, part.resize((side, side), Image.Resampling.BICUBIC), 0.5)
    return image


def jpeg(image, quality=75, **options):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, **options)
    return stream.getvalue()


def opened(data):
    return Image.open(io.BytesIO(data))


def differing(one, other):
    return (perceptual_hash(one) ^ perceptual_hash(other)).bit_count()


def by_definition(image):
    """The hash written out: means of areas, the cosine transform in floating point, the median."""
    gray = np.asarray(image.convert("L"), np.float64)
    side = gray.shape[0] // 32
    small = np.floor(gray.reshape(32, side, 32, side).mean((1, 3)) + 0.5)
    place = np.arange(32)
    rows = np.array([np.cos(np.pi * (2 * place + 1) * u / 64) for u in range(1, 9)])
    found = rows @ small @ rows.T
    bits = (found > np.median(found)).ravel()
    return sum(int(bit) << (63 - place) for place, bit in enumerate(bits))


@pytest.mark.parametrize("seed", range(5))
def test_the_hash_is_that_of_the_definition(seed):
    # Pillow rounds after the columns and after the rows, so that a coefficient at the median may fall beside it.
    assert (perceptual_hash(photo(seed)) ^ by_definition(photo(seed))).bit_count() <= 2


def test_half_of_the_bits_are_set_and_the_same_picture_has_the_same_hash():
    hashes = [perceptual_hash(photo(seed)) for seed in range(20)]
    assert {found.bit_count() for found in hashes} == {32} and len(set(hashes)) == 20
    assert hashes == [perceptual_hash(photo(seed)) for seed in range(20)]


@pytest.mark.parametrize(
    "copy",
    [
        lambda image: opened(jpeg(image, 75)),
        lambda image: opened(jpeg(image, 40)),
        lambda image: image.resize((48, 48), Image.Resampling.LANCZOS),
        lambda image: image.resize((192, 192), Image.Resampling.BICUBIC),
        lambda image: image.convert("L"),
        lambda image: image.convert("RGBA"),
        lambda image: image.point(lambda value: int(value * 0.85)),
    ],
    ids=["quality 75", "quality 40", "half", "double", "grey", "alpha", "darker"],
)
def test_copies_look_alike_and_others_do_not(copy):
    images = [photo(seed) for seed in range(12)]
    assert max(differing(image, copy(image)) for image in images) <= 8
    assert min(differing(images[0], copy(image)) for image in images[1:]) > 11


def test_a_picture_stored_lying_has_the_hash_of_the_upright_one():
    upright, exif = photo(3), Image.Exif()
    exif[0x0112] = 6
    lying = opened(jpeg(upright.rotate(90, expand=True), 95, exif=exif))
    assert differing(upright, lying) <= 4 < differing(upright, upright.rotate(90))


def test_damaged_exif_beside_sound_pixels_turns_nothing():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = jpeg(photo(3), 95, exif=exif).replace(b"MM\x00*", b"MM\x00\xff", 1)
    facts = picture_facts(data, 96, perceptual_hash)
    assert facts.decoding == "decodes" and (facts.likeness ^ perceptual_hash(photo(3))).bit_count() <= 4


@pytest.mark.parametrize("colour", ["black", "white", "#7f3010"])
def test_a_picture_without_structure_has_no_hash(colour):
    assert perceptual_hash(Image.new("RGB", (50, 70), colour)) == NO_STRUCTURE


def test_the_hash_of_a_picture_is_made_where_it_is_decoded_and_only_if_asked_for():
    data = jpeg(photo(1))
    assert picture_facts(data, 96, perceptual_hash).likeness == perceptual_hash(opened(data))
    assert picture_facts(data, 96).likeness is None
    assert picture_facts(data, 95, perceptual_hash).likeness is None  # too large to be decoded
    deep = io.BytesIO()
    Image.new("I;16", (32, 32), 7).save(deep, "PNG")
    assert picture_facts(deep.getvalue(), 96, perceptual_hash).likeness is None  # not trained on


def flipped(hashes, bits, random):
    """The hashes with so many different bits turned over in each."""
    masks = [sum(1 << int(bit) for bit in random.choice(64, bits, replace=False)) for _ in hashes]
    return hashes ^ np.array(masks, np.uint64)


@pytest.mark.parametrize("bits", [0, 3, 4, 7, 8, MOST_BITS])
@pytest.mark.parametrize("block", [64, 1 << 22])
def test_the_search_finds_what_comparing_all_finds(bits, block, monkeypatch):
    monkeypatch.setattr(likeness, "_BLOCK", block)
    random = np.random.default_rng(bits)
    hashes = random.integers(1, 1 << 64, 500, np.uint64)
    hashes[400:] = flipped(hashes[:100], 2, random)  # some are alike among themselves
    hashes[250] = hashes[20]
    asked = np.concatenate([flipped(hashes[:200], turned, random) for turned in (0, 2, bits, bits + 1)])
    distances = np.bitwise_count(asked[:, None] ^ hashes)
    nearest = distances.min(1).astype(int)
    places, found = LikenessIndex(hashes).nearest(asked, bits)
    assert found.tolist() == np.where(nearest <= bits, nearest, -1).tolist()
    assert places.tolist() == np.where(nearest <= bits, distances.argmin(1), -1).tolist()
    assert (found >= 0).any() and (found < 0).any()


def test_what_has_no_structure_is_like_nothing_and_an_empty_index_has_nothing():
    none = np.array([NO_STRUCTURE], np.uint64)
    for hashes in (none, none[:0]):
        places, found = LikenessIndex(hashes).nearest(np.array([NO_STRUCTURE, 1], np.uint64), 4)
        assert places.tolist() == found.tolist() == [-1, -1]
    assert LikenessIndex(np.array([1], np.uint64)).nearest(none, 4)[0].tolist() == [-1]


def test_more_bits_than_the_bands_allow_are_refused():
    with pytest.raises(ValueError, match="0 to 11"):
        LikenessIndex(np.array([1], np.uint64)).nearest(np.array([1], np.uint64), MOST_BITS + 1)
