"""MLflow's page over a checkout's runs, as `minivlm ui` serves it, and a Chromium that looks at it."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.integration.mlflow_server import first_line, wait_until

ROOT = Path(__file__).resolve().parents[2]
SIZE = {"width": 1600, "height": 1000}
SECONDS = 90_000  # ms that a page may take on a busy machine
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""
# Said by MLflow's page itself, on every view: it asks a server without users who is there, and its charts resize.
_HARMLESS = ("users/current", "ResizeObserver loop")
# The panel that MLflow opens once in a new browser, over a quarter of the page.
_NO_ASSISTANT = """
  if (location.protocol === "http:") localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true")
"""


@contextlib.contextmanager
def served(checkout: Path) -> Iterator[str]:
    """The address that `minivlm ui` says for the runs of a checkout, once it answers there."""
    foreign = ("MLFLOW_", "DVC_", "PYTEST_")
    own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, [own.get("PYTHONPATH")])])
    # Where a stage runs in a copy of a checkout, DVC_ROOT says whose runs they are.
    environment = own | {"PYTHONPATH": path, "DVC_ROOT": str(checkout)}
    process = subprocess.Popen(
        [sys.executable, "-m", "minivlm.cli.main", "ui", "--port", "5600"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        said = first_line(process)
        address = re.search(r"http://127\.0\.0\.1:\d+/\S+", said)
        assert address, f"no address: {said!r}"
        health = address[0].partition("/#/")[0] + "/health"

        def answers():
            assert process.poll() is None, "it ended"
            with contextlib.suppress(OSError), urllib.request.urlopen(health, timeout=2) as answer:
                return answer.status == 200
            return False

        wait_until(answers, why="the page did not start")
        yield address[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@contextlib.contextmanager
def looked_at():
    """A page of a Chromium of its own, and the list of the errors that its console shows."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=flags)
        context = browser.new_context(viewport=SIZE)
        context.set_default_timeout(SECONDS)
        context.add_init_script(_NO_ASSISTANT)
        page, errors = context.new_page(), []

        def heard(message):
            said = f"{message.text} {message.location.get('url', '')}"
            if message.type == "error" and not any(words in said for words in _HARMLESS):
                errors.append(said)

        page.on("console", heard)
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page, errors
        browser.close()


def open_view(page, address: str, mode: str = "") -> None:
    """The runs as a table; or as CHART or ARTIFACT, in a page that has been elsewhere."""
    page.goto("about:blank")
    page.goto(address + (f"&compareRunsMode={mode}" if mode else ""))
