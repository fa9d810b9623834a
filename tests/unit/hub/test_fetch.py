"""`fetch` with huggingface_hub's session and cache against the loopback hub: what arrives, what is asked for."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer

import pytest
from filelock import FileLock
from huggingface_hub import hf_hub_download, scan_cache_dir

from minivlm.errors import UserError
from minivlm.files import sha256_file
from minivlm.hub import cache as cache_module
from minivlm.hub import fetch, fetching
from minivlm.hub.cache import Cache
from tests.contract.imports import ROOT
from tests.hub_server import files_of, serving
from tests.unit.hub.conftest import content, pin_of, write


def cache(environment) -> Path:
    return environment / "home" / "hub"


def test_pinned_files_arrive_at_their_paths_whole(root, hub):
    pins = [pin_of(root, "model", "ours/llm"), pin_of(root, "dataset", "ours/rows", "download.hub.sft")]
    for folder, source in zip(fetch(pins), ("models/ours/llm", "datasets/ours/rows"), strict=True):
        arrived = {path: file.read_bytes() for path, file in files_of(folder).items()}
        assert arrived == {path: file.read_bytes() for path, file in files_of(root / source).items()}


def test_only_pinned_files_are_fetched_and_shown(root, hub):
    pin = pin_of(root, "model", "ours/llm")
    whole = fetch([pin])[0]
    [part] = fetch([pin._replace(files={"config.json": pin.files["config.json"]})])
    assert list(files_of(part)) == ["config.json"] and len(files_of(whole)) == 3


def test_a_second_fetch_asks_the_hub_nothing(root, hub):
    pin = pin_of(root, "model", "ours/llm")
    first = fetch([pin])
    hub.log.clear()
    assert fetch([pin]) == first and hub.log == []


def test_a_file_that_the_real_client_has_is_not_fetched_again(root, hub, environment):
    pin = pin_of(root, "model", "ours/llm")
    for path in pin.files:
        hf_hub_download(pin.repo, path, revision=pin.revision, endpoint=hub.url, cache_dir=cache(environment))
    hub.log.clear()
    fetch([pin])
    assert hub.log == []


def test_the_real_client_finds_what_was_fetched(root, hub, environment):
    pin = pin_of(root, "model", "ours/llm")
    fetch([pin])
    hub.log.clear()
    for path, (size, _) in pin.files.items():
        found = hf_hub_download(
            pin.repo, path, revision=pin.revision, endpoint=hub.url, cache_dir=cache(environment)
        )
        assert Path(found).stat().st_size == size
    assert hub.log == []
    told = scan_cache_dir(cache(environment))
    assert [repo.repo_id for repo in told.repos] == ["ours/llm"] and told.warnings == []


def test_large_content_of_another_revision_is_not_fetched_again(root, hub):
    fetch([pin_of(root, "model", "ours/llm")])
    write(root, "models/ours/llm/tokenizer.json", b'{"new": 1}')
    hub.log.clear()
    fetch([pin_of(root, "model", "ours/llm")])
    assert [r for r in hub.bodies() if "model.safetensors" in r.path] == []
    assert len(hub.bodies("tokenizer.json")) == 1


def test_the_same_content_under_two_names_is_fetched_once(root, hub):
    shutil.copy(root / "models/ours/llm/model.safetensors", root / "models/ours/llm/copy.safetensors")
    pin = pin_of(root, "model", "ours/llm")
    [folder] = fetch([pin])
    assert (folder / "copy.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert len(hub.bodies(".safetensors")) == 1


def test_as_many_files_as_asked_come_at_a_time(root, environment, monkeypatch):
    for number in range(6):
        write(root, f"models/ours/many/{number}.bin", content(str(number), 40_000))
    with serving(root, slow=400_000) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        fetch([pin_of(root, "model", "ours/many")], downloads=3)
        assert server.most_at_once == 3


def partial_weights(root, environment) -> Path:
    """Where the weights of ours/llm grow."""
    sha256 = pin_of(root, "model", "ours/llm").files["model.safetensors"][1]
    return cache(environment) / f"models--ours--llm/blobs/{sha256}.incomplete"


def wait_until(condition, seconds=60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.01)


CHILD = """
import sys
from minivlm.files import sha256_file
from minivlm.hub import cache as cache_module
from minivlm.hub import fetch, fetching
from minivlm.hub.cache import Cache
from tests.unit.hub.conftest import pin_of
from pathlib import Path
fetch([pin_of(Path(sys.argv[1]), "model", "ours/llm")], place="huggingface", downloads=1)
"""


def test_a_killed_download_goes_on_where_it_stopped(root, hub, environment):
    hub.misbehave("model.safetensors", "hold")
    partial = partial_weights(root, environment)
    with subprocess.Popen([sys.executable, "-c", CHILD, str(root)], cwd=ROOT) as child:
        wait_until(lambda: partial.exists() and partial.stat().st_size > 80_000)
        child.kill()
    there = partial.stat().st_size
    hub.release.set()
    hub.log.clear()
    [folder] = fetch([pin_of(root, "model", "ours/llm")])
    asked = hub.bodies("model.safetensors")
    assert (f"bytes={there}-", 206, 200_000 - there) in [(r.range, r.status, r.sent) for r in asked]
    assert all(r.range for r in asked if r.sent > 100_000)
    assert (folder / "model.safetensors").read_bytes() == (root / "models/ours/llm/model.safetensors").read_bytes()
    assert list(cache(environment).rglob("*.incomplete")) == []


def test_ctrl_c_ends_a_download_soon_and_keeps_what_came(root, hub, environment):
    hub.slow = 20_000  # ten seconds in all
    partial = partial_weights(root, environment)
    with subprocess.Popen([sys.executable, "-c", CHILD, str(root)], cwd=ROOT, stderr=subprocess.DEVNULL) as child:
        wait_until(lambda: partial.exists() and partial.stat().st_size > 0)
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=6) != 0
    assert partial.stat().st_size > 0


def test_two_processes_fetch_a_file_once(root, hub):
    hub.slow = 400_000
    command = [sys.executable, "-c", CHILD, str(root)]
    children = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    assert [r.sent for r in hub.bodies("model.safetensors")] == [200_000]


def test_a_failure_does_not_wait_for_another_process(root, hub, environment):
    write(root, "models/ours/llm/other.bin", content("other", 1000))
    pin = pin_of(root, "model", "ours/llm")
    folder = cache(environment) / ".locks/models--ours--llm"
    folder.mkdir(parents=True)
    hub.misbehave("other.bin", "change", times=10)
    held = FileLock(folder / f"{pin.files['model.safetensors'][1]}.lock", thread_local=False)
    late = Timer(10, held.release)  # a wait that should not be ends as a failure
    late.start()
    with held, pytest.raises(UserError, match=r"other\.bin"):
        fetch([pin], place="huggingface")
    late.cancel()
    assert hub.bodies("model.safetensors") == []


def test_a_partial_file_that_is_complete_is_not_asked_for(root, hub, environment):
    source = root / "models/ours/llm/model.safetensors"
    write(cache(environment), partial_weights(root, environment), source.read_bytes())
    fetch([pin_of(root, "model", "ours/llm")])
    assert hub.bodies("model.safetensors") == []


@pytest.mark.parametrize("old", [b"wrong" * 100, b"x" * 300_000], ids=["another beginning", "too long"])
def test_a_useless_partial_file_is_replaced(root, hub, environment, old):
    pin = pin_of(root, "model", "ours/llm")
    write(cache(environment), partial_weights(root, environment), old)
    [folder] = fetch([pin])
    assert (folder / "model.safetensors").read_bytes() == (root / "models/ours/llm/model.safetensors").read_bytes()
    assert hub.bodies("model.safetensors")[-1].range is None


@pytest.mark.parametrize("change", [b"\0", b"", b"more than there was"], ids=["other bytes", "empty", "longer"])
def test_a_damaged_cache_is_noticed_and_mended(root, hub, change):
    pin = pin_of(root, "model", "ours/llm")
    [folder] = fetch([pin])
    file = (folder / "model.safetensors").resolve()
    good = file.read_bytes()
    file.write_bytes(change + good[1:] if change == b"\0" else b"" if not change else good + change)
    hub.log.clear()
    [folder] = fetch([pin])
    assert (folder / "model.safetensors").read_bytes() == good
    assert len(hub.bodies()) == 1


def test_what_another_process_mends_meanwhile_is_not_discarded(root, hub, monkeypatch):
    pin = pin_of(root, "model", "ours/llm")
    [folder] = fetch([pin])
    file = (folder / "model.safetensors").resolve()
    good = file.read_bytes()
    file.write_bytes(b"damaged")

    def check_all(*arguments):
        states = _check_all(*arguments)
        file.write_bytes(good)
        return states

    _check_all = fetching._check_all
    monkeypatch.setattr(fetching, "_check_all", check_all)
    hub.log.clear()
    fetch([pin])
    assert hub.log == [] and file.read_bytes() == good


def test_what_another_process_discards_meanwhile_is_fetched(root, hub, monkeypatch):
    pin = pin_of(root, "model", "ours/llm")
    [folder] = fetch([pin])
    file = (folder / "model.safetensors").resolve()
    monkeypatch.setattr(cache_module, "sha256_file", lambda path: path.unlink() or sha256_file(path))
    [folder] = fetch([pin])
    assert file.is_file() and len(files_of(folder)) == 3


def test_what_vanishes_at_the_end_is_one_line(root, hub, monkeypatch):
    name = Cache.name

    def name_and_lose(self, file):
        name(self, file)
        self.blob(file).unlink()

    monkeypatch.setattr(Cache, "name", name_and_lose)
    with pytest.raises(UserError, match=r"config.json of ours/llm: something else has removed it from .*run this"):
        fetch([pin_of(root, "model", "ours/llm")])


def test_a_damaged_copy_beside_a_whole_content_of_two_names_is_mended(root, hub):
    shutil.copy(root / "models/ours/llm/model.safetensors", root / "models/ours/llm/copy.safetensors")
    pin = pin_of(root, "model", "ours/llm")
    [folder] = fetch([pin])
    named = folder.parents[1] / "snapshots" / pin.revision / "copy.safetensors"
    named.unlink()
    named.write_bytes(b"damaged")
    [folder] = fetch([pin])
    whole = (root / "models/ours/llm/model.safetensors").read_bytes()
    assert all((folder / name).read_bytes() == whole for name in ("copy.safetensors", "model.safetensors"))
    assert named.read_bytes() == whole


def test_a_wrong_pin_does_not_cost_the_cache_its_file(root, hub):
    pin = pin_of(root, "model", "ours/llm")
    [folder] = fetch([pin])
    for path in ("model.safetensors", "config.json"):
        files = {path: (pin.files[path][0], "0" * 64)}
        hub.log.clear()
        with pytest.raises(UserError, match=f"base.llm.pretrained: {path} of ours/llm.*{'0' * 64}"):
            fetch([pin._replace(files=files)])
        assert fetch([pin]) == [folder]


def test_a_wrong_pin_of_a_small_file_of_the_real_client_keeps_its_file(root, hub, environment):
    pin = pin_of(root, "model", "ours/llm")
    told = {"revision": pin.revision, "endpoint": hub.url, "cache_dir": cache(environment)}
    path = Path(hf_hub_download(pin.repo, "config.json", **told))
    with pytest.raises(UserError, match="minivlm pin"):
        fetch([pin._replace(files={"config.json": (path.stat().st_size, "0" * 64)})])
    assert path.is_file()


def test_offline_uses_the_cache_and_names_what_is_missing(root, hub, environment, monkeypatch):
    pin = pin_of(root, "model", "ours/llm")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError) as told:
        fetch([pin])
    assert all(path in str(told.value) for path in pin.files) and "\n" not in str(told.value)
    assert "models--ours--llm" in str(told.value) and str(cache(environment)) in str(told.value)
    assert hub.log == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    fetch([pin])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fetch([pin])


def test_a_cache_that_was_copied_serves_another_machine(root, hub, environment, monkeypatch):
    pin = pin_of(root, "model", "ours/llm")
    fetch([pin])
    other = environment / "other" / "hub"
    other.mkdir(parents=True)
    shutil.move(cache(environment) / "models--ours--llm", other)  # whatever pointed back at the old place is dead
    monkeypatch.setenv("HF_HOME", str(other.parent))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told = {"revision": pin.revision, "cache_dir": other, "local_files_only": True}
    assert all(Path(hf_hub_download(pin.repo, path, **told)).is_file() for path in pin.files)
    [folder] = fetch([pin])
    assert folder.is_relative_to(other) and len(files_of(folder)) == 3


def test_the_disk_is_looked_at_before_the_first_byte(root, hub, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 150_000))
    with pytest.raises(UserError, match=r"200\.0 kB are to be fetched, 150\.0 kB are free.*HF_HOME"):
        fetch([pin_of(root, "model", "ours/llm")])
    assert hub.log == []


def test_what_is_there_already_needs_no_disk(root, hub, environment, monkeypatch):
    pin = pin_of(root, "model", "ours/llm")
    data = (root / "models/ours/llm/model.safetensors").read_bytes()
    write(cache(environment), partial_weights(root, environment), data[:100_000])
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 150_000))
    fetch([pin])


def test_a_disk_that_fills_up_is_one_line_and_keeps_what_came(root, hub, environment, monkeypatch):
    import minivlm.hub.transfer as transfer

    class Full:
        def __init__(self, stream):
            self.stream = stream

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def write(self, chunk):
            if self.stream.tell() > 50_000:
                raise OSError(28, "No space left on device")
            return self.stream.write(chunk)

    read = transfer._Transfer._read
    monkeypatch.setattr(
        transfer._Transfer, "_read", lambda self, response, stream: read(self, response, Full(stream))
    )
    with pytest.raises(UserError, match="the disk is full"):
        fetch([pin_of(root, "model", "ours/llm")], downloads=1)
    kept = cache(environment).glob("models--ours--llm/blobs/*.incomplete")
    assert max(path.stat().st_size for path in kept) > 50_000


def test_the_server_runs_as_a_process_of_its_own(root, environment, monkeypatch):
    port, log = environment / "port", environment / "log"
    command = [sys.executable, "tests/hub_server.py", "--root", root, "--port-file", port, "--log", log]
    with subprocess.Popen(command, cwd=ROOT) as server:
        try:
            wait_until(port.exists)
            monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port.read_text()}")
            fetch([pin_of(root, "model", "ours/llm")])
        finally:
            server.kill()
    requests = [json.loads(line) for line in log.read_text().splitlines()]
    assert sum(request["sent"] for request in requests) >= 200_000


def test_on_a_terminal_there_is_one_bar(root, hub, capfd, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    fetch([pin_of(root, "model", "ours/llm")])
    told = capfd.readouterr().err
    assert "fetch" in told and "200.0/200.0 kB" in told and "check" not in told.split("fetch")[-1]


def test_elsewhere_than_on_a_terminal_one_line_tells_the_end(root, hub, capfd):
    fetch([pin_of(root, "model", "ours/llm")])
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("fetch: 200.0 kB of 200.0 kB, ")
