"""What a hub may do to a download: each is survived, or ends in one line that says what to do."""

import time
from email.utils import formatdate

import pytest

from minivlm.errors import UserError
from minivlm.hub import fetch
from tests.hub_server import serving
from tests.unit.hub.conftest import content, pin_of, write

WEIGHTS = "model.safetensors"


def fetch_whole(root, **options):
    """Fetch ours/llm and compare every byte."""
    [folder] = fetch([pin_of(root, "model", "ours/llm")], **options)
    assert (folder / WEIGHTS).read_bytes() == (root / "models/ours/llm" / WEIGHTS).read_bytes()


def refused(pin, place="huggingface") -> str:
    """The one line that a fetch ends in."""
    with pytest.raises(UserError) as told:
        fetch([pin], place=place)
    line = str(told.value)
    assert "\n" not in line and line.startswith(pin.name)
    return line


def test_a_dropped_connection_is_taken_up_again(root, hub, waits):
    hub.misbehave(WEIGHTS, "drop", times=3)
    fetch_whole(root)
    asked = hub.bodies(WEIGHTS)
    assert [r.range for r in asked] == [None, "bytes=100000-", "bytes=150000-", "bytes=175000-"]
    assert waits == [1, 2, 4]


def test_a_body_without_length_that_ends_early_is_taken_up_again(root, hub):
    hub.misbehave(WEIGHTS, "no-length")
    fetch_whole(root)
    assert [r.range for r in hub.bodies(WEIGHTS)] == [None, "bytes=100000-"]


def test_a_server_that_drops_for_ever_is_given_up(root, hub):
    hub.misbehave(WEIGHTS, "drop", times=100, share=0.0)
    assert "drops the connection" in refused(pin_of(root, "model", "ours/llm"))
    assert len(hub.bodies(WEIGHTS)) == 8


def test_a_server_without_ranges_that_drops_for_ever_is_given_up(root, hub):
    hub.misbehave(WEIGHTS, "drop-no-range", times=1000)
    assert "drops the connection" in refused(pin_of(root, "model", "ours/llm"))
    assert len(hub.bodies(WEIGHTS)) == 8


def test_a_server_that_falls_silent_is_asked_again(root, hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.misbehave(WEIGHTS, "silence")
    fetch_whole(root)
    assert [r.range for r in hub.bodies(WEIGHTS)].count("bytes=100000-") == 1


def test_a_server_that_ignores_ranges_sends_it_all_again(root, hub):
    hub.misbehave(WEIGHTS, "drop")
    hub.misbehave(WEIGHTS, "no-range")
    fetch_whole(root)
    assert [(r.range, r.status) for r in hub.bodies(WEIGHTS)] == [(None, 200), ("bytes=100000-", 200)]


def test_the_wrong_range_is_not_appended(root, hub):
    hub.misbehave(WEIGHTS, "drop")
    hub.misbehave(WEIGHTS, "wrong-range")
    fetch_whole(root)
    assert hub.bodies(WEIGHTS)[-1].range is None


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(root, hub, status, waits):
    hub.misbehave(WEIGHTS, "status", times=3, status=status)
    fetch_whole(root)
    assert waits == [1, 2, 4]


def test_a_server_says_how_long_to_wait(root, hub, waits):
    hub.misbehave(WEIGHTS, "status", status=429, headers={"Retry-After": "37"})
    hub.misbehave(
        WEIGHTS, "status", status=503, headers={"Retry-After": formatdate(time.time() + 100, usegmt=True)}
    )
    hub.misbehave(WEIGHTS, "status", status=429, headers={"RateLimit": '"resolvers";r=0;t=55'})
    hub.misbehave(WEIGHTS, "status", status=429, headers={"Retry-After": "soon"})
    fetch_whole(root)
    assert waits[0] == 37 and 90 < waits[1] <= 100 and waits[2] == 55 and waits[3] == 8


def test_a_server_that_asks_for_hours_is_given_up_at_once(root, hub, waits):
    hub.misbehave(WEIGHTS, "status", status=429, headers={"Retry-After": "7200"})
    line = refused(pin_of(root, "model", "ours/llm"))
    assert "429" in line and "7200 seconds" in line and waits == []


@pytest.mark.parametrize("status", [429, 503])
def test_endless_refusals_end(root, hub, status, waits):
    hub.misbehave(WEIGHTS, "status", times=1000, status=status)
    line = refused(pin_of(root, "model", "ours/llm"))
    assert f"answers {status}" in line and "8 times in a row" in line
    assert waits == [1, 2, 4, 8, 16, 32, 60]


def test_progress_gives_new_patience(root, hub):
    write(root, "models/ours/big/big.bin", content("big", 5_000_000))
    hub.misbehave("big.bin", "drop", times=30, share=0.25)
    with pytest.raises(UserError):  # a quarter of an ever smaller rest is no progress in the end
        fetch([pin_of(root, "model", "ours/big")], place="huggingface")
    assert len(hub.bodies("big.bin")) > 8
    hub.faults.clear()
    fetch([pin_of(root, "model", "ours/big")])


def test_changed_bytes_are_fetched_once_more(root, hub):
    hub.misbehave(WEIGHTS, "change")
    fetch_whole(root)
    assert [r.range for r in hub.bodies(WEIGHTS)] == [None, None]


def test_bytes_that_stay_changed_are_named_and_not_kept(root, hub, environment):
    hub.misbehave(WEIGHTS, "change", times=1000)
    pin = pin_of(root, "model", "ours/llm")
    line = refused(pin)
    assert WEIGHTS in line and f"pinned is {pin.files[WEIGHTS][1]}" in line and "sends other bytes: sha256" in line
    blobs = environment / "home/hub/models--ours--llm/blobs"
    assert [p.name for p in blobs.iterdir() if pin.files[WEIGHTS][1] in p.name] == []


def test_a_login_page_in_place_of_a_file_is_named_and_costs_nothing_that_came(root, hub, environment):
    pin = pin_of(root, "model", "ours/llm")
    partial = environment / f"home/hub/models--ours--llm/blobs/{pin.files[WEIGHTS][1]}.incomplete"
    write(environment, partial, content("weights", 200_000)[:150_000])
    hub.instead["/resolve/"] = ("text/html; charset=utf-8", b"<html>Log in to the network</html>")
    assert "sends a web page for" in refused(pin)
    assert partial.stat().st_size == 150_000
    hub.instead.clear()
    fetch_whole(root)
    assert [r.range for r in hub.bodies(WEIGHTS)][-1] == "bytes=150000-"


@pytest.mark.parametrize("extra", [-50_000, 50_000])
def test_a_lie_about_the_length_is_noticed_before_a_byte_is_kept(root, hub, extra):
    hub.misbehave(WEIGHTS, "length", times=1000, extra=extra)
    line = refused(pin_of(root, "model", "ours/llm"))
    assert f"has {200_000 + extra} bytes, pinned are 200000" in line


def test_more_bytes_than_pinned_are_not_written(root, hub):
    hub.misbehave(WEIGHTS, "more", times=1000, extra=100_000)
    assert "sends more than the 200000 bytes that are pinned" in refused(pin_of(root, "model", "ours/llm"))


def test_a_size_that_is_not_the_pinned_one_is_named(root, hub):
    pin = pin_of(root, "model", "ours/llm")
    wrong = pin._replace(files={WEIGHTS: (199_999, pin.files[WEIGHTS][1])})
    assert f"{WEIGHTS} of ours/llm" in (line := refused(wrong)) and "has 200000 bytes, pinned are 199999" in line


def test_a_gated_repository_says_where_to_accept_and_how_to_log_in(root, hub, monkeypatch):
    hub.gated.add("ours/llm")
    line = refused(pin_of(root, "model", "ours/llm"))
    assert f"{hub.url}/ours/llm" in line and "HF_TOKEN" in line and "hf auth login" in line
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "gated" in refused(pin_of(root, "model", "ours/llm"))
    monkeypatch.setenv("HF_TOKEN", hub.token)
    fetch_whole(root)


def test_the_token_stays_with_the_hub(root, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.token)
    fetch_whole(root)
    seen = {("/_cdn/" in r.path, r.authorization) for r in hub.log}
    assert seen == {(False, f"Bearer {hub.token}"), (True, None)}


def test_a_private_or_absent_repository_reads_the_same(root, hub):
    hub.private.add("ours/llm")
    pin = pin_of(root, "model", "ours/llm")
    for each in (pin, pin._replace(repo="ours/nothing")):
        line = refused(each)
        assert each.repo in line and "HF_TOKEN" in line


def test_an_absent_revision_or_file_is_named(root, hub):
    pin = pin_of(root, "model", "ours/llm")
    assert "no such revision; `minivlm pin --update`" in refused(pin._replace(revision="a" * 40))
    assert "has no file nothing.bin" in refused(pin._replace(files={"nothing.bin": (1, "0" * 64)}))


def test_no_network_is_one_line_that_names_the_address(root, environment):
    line = refused(pin_of(root, "model", "ours/llm"))
    assert "http://127.0.0.1:9 cannot be reached" in line and "HF_ENDPOINT" in line


def test_a_name_that_does_not_resolve_is_one_line(root, environment, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    assert "http://hub.invalid cannot be reached" in refused(pin_of(root, "model", "ours/llm"))


def test_an_address_that_is_none_is_one_line(root, environment, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "hub.example.org")
    with pytest.raises(UserError, match=r"HF_ENDPOINT=hub.example.org: must be an address"):
        fetch([pin_of(root, "model", "ours/llm")])


def test_one_failure_stops_the_other_downloads(root, environment, monkeypatch):
    for number in range(4):
        write(root, f"models/ours/many/{number}.bin", content(str(number), 400_000))
    with serving(root, slow=40_000) as server:  # ten seconds for each of the others
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.misbehave("0.bin", "status", times=100, status=500)
        start = time.monotonic()
        with pytest.raises(UserError, match=r"0\.bin"):
            fetch([pin_of(root, "model", "ours/many")], place="huggingface")
        assert time.monotonic() - start < 6
