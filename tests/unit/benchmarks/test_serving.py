"""Serving is measured on real streams, as OpenAI's client hears them."""

import sys
import threading
from pathlib import Path

import pytest
from openai import OpenAI

from benchmarks.serving import Server, Side, Timed, ask, measure, picture_uri
from minivlm.serving import server as serving
from minivlm.serving.answering import Answerer
from tests.unit.evaluation.toys import picture

PICTURES = [picture_uri(picture(seed)) for seed in range(2)]


@pytest.fixture(scope="module")
def served(llava):
    begun = threading.Event()
    server = serving.Server(Answerer(*llava), "minivlm-tiny", begun.set)
    with serving.bind("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        assert begun.wait(30)
        yield Server(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", "minivlm-tiny", 1.0)
        server.should_exit = True
        thread.join()


def client_of(server):
    return OpenAI(base_url=server.address, api_key="none", max_retries=0, timeout=60)


def test_an_answer_is_timed_to_its_first_text_and_its_end(served):
    with client_of(served) as client:
        answer = ask(client, served.model, PICTURES[0], tokens=6, temperature=0.0, seed=0)
    assert 0 < answer.first <= answer.end and 1 <= answer.tokens <= 6


def test_a_row_for_every_side_and_number_of_requests_at_once(served):
    sides = [Side(served, 0.0, "b"), Side(served, 1.0, "a")]
    rows = measure(sides, PICTURES, tokens=5, repeats=2, at_once=(1, 3))
    assert [(row["server"], row["at_once"]) for row in rows] == [("a", 1), ("a", 3), ("b", 1), ("b", 3)]
    assert all(row["first_token_seconds"] > 0 and row["answers_per_second"] > 0 for row in rows)


def test_the_rate_is_of_the_tokens_after_the_first():
    assert Timed(first=1.0, end=3.0, tokens=5).rate == 2.0
    assert Timed(first=1.0, end=1.0, tokens=5).rate is None


@pytest.mark.slow
@pytest.mark.parametrize("serve", ["minivlm_serve", "transformers_serve"])
def test_both_servers_begin_and_answer(llava_directory: Path, serve):
    import benchmarks.serving

    with getattr(benchmarks.serving, serve)(llava_directory, "cpu") as server:
        [row] = measure([Side(server)], PICTURES, tokens=3, repeats=1, at_once=(1,))
        assert server.ready > 0 and row["tokens_of_an_answer"] <= 3


@pytest.mark.parametrize(("program", "most"), [("raise SystemExit(3)", 60), ("import time; time.sleep(60)", 0.2)])
def test_a_server_that_ends_or_hangs_is_not_waited_for(monkeypatch, program, most):
    import benchmarks.serving

    monkeypatch.setattr(benchmarks.serving, "READY", most)
    with pytest.raises(RuntimeError, match="did not begin"):
        benchmarks.serving._serving([sys.executable, "-c", program], "none").__enter__()
