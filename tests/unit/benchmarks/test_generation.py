"""Generation is measured on answers of a known length, in all four ways."""

import pytest

from benchmarks.generation import generate, measure, open_pictures, write_random
from tests.unit.benchmarks.tiny import BASE


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_random(tmp_path_factory.mktemp("random"), BASE)


@pytest.mark.parametrize("cache", [True, False])
def test_answers_have_the_length_asked_for(made, cache):
    from minivlm.generation.loading import load_model

    model, processor = load_model(made[0])
    pictures = open_pictures(made[1])[:3]
    answer = generate(model, processor, pictures, 5, cache)
    assert answer.later == 3 * 4 and answer.first > 0 and answer.rest > 0
    assert generate(model, processor, pictures[:1], 2, cache).later == 1


def test_the_cache_changes_no_token(made):
    from minivlm.generation.loading import load_model

    model, processor = load_model(made[0])
    pictures = open_pictures(made[1])[:2]
    cached, anew = (generate(model, processor, pictures, 6, cache).ids for cache in (True, False))
    assert cached.shape == (2, 6) and cached.tolist() == anew.tolist()


def test_a_row_for_every_batch_and_for_the_cache_on_and_off(made):
    rows = measure("toy", made[0], open_pictures(made[1]), device="cpu", tokens=3, repeats=1, batches=(1, 2))
    assert [(row["batch"], row["cache"]) for row in rows] == [(1, True), (1, False), (2, True), (2, False)]
    assert all(row["first_token_seconds"] > 0 and row["tokens_per_second"] > 0 for row in rows)
