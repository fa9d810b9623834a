"""The screens of the documents: `python -m tests.browser.screens CHECKOUT`, whose last two runs are compared.

Writes docs/images/mlflow-*.png from MLflow's page over that checkout's runs, at three quarters of the size, and
where that has more than 150 KB, in 256 colours; and docs/images/demo.jpg from the demo with its models.
"""

import contextlib
import io
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.browser.mlflow_page import ROOT, looked_at, open_view, served
from tests.integration.mlflow_server import first_line

IMAGES = ROOT / "docs" / "images"
WIDTH, MOST = 1200, 150_000  # pixels, bytes
DEMO = {"width": 1280, "height": 910}
EXAMPLE, QUESTION = 7, "天气怎么样？"
# A page tells where the runs lie on this machine; its readers' lie elsewhere.
_WITHOUT = """folder => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walker.nextNode())
    walker.currentNode.data = walker.currentNode.data.replaceAll(folder, "/minivlm")
}"""


def save(page, name, height=1000):
    """The upper part of the page as docs/images/<name>.png."""
    from PIL import Image

    page.wait_for_timeout(3000)  # charts move into their places
    page.mouse.move(5, 995)
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB").crop((0, 0, 1600, height))
    small = shot.resize((WIDTH, height * WIDTH // 1600), Image.Resampling.LANCZOS)
    IMAGES.mkdir(parents=True, exist_ok=True)
    file = IMAGES / f"{name}.png"
    small.save(file, optimize=True)
    if file.stat().st_size >= MOST:
        small.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file.relative_to(ROOT)}: {file.stat().st_size:,} bytes")
    assert file.stat().st_size < MOST


def newest_version(checkout):
    """Name and number of the model's last version in the checkout's store."""
    database = (checkout / "mlruns" / "mlflow.db").as_uri()
    with contextlib.closing(sqlite3.connect(f"{database}?mode=ro", uri=True)) as connection:
        found = connection.execute("SELECT name, max(version) FROM model_versions GROUP BY name").fetchone()
    assert found, f"{checkout}: no registered model; tracking.registered_model is empty, or evaluate has not run"
    return found


def save_demo(checkout):
    """A picture, what the sft model says of it, and a question after that, as docs/images/demo.jpg."""
    from PIL import Image

    process = subprocess.Popen(
        [sys.executable, "-m", "minivlm.cli.main", "demo"], cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout / "src")},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        address = next(word for word in first_line(process).split() if word.startswith("http://"))
        with looked_at() as (page, _):
            page.set_viewport_size(DEMO)
            page.goto(address)
            page.locator("#examples button.thumbnail-item").nth(EXAMPLE).click()
            page.locator("#picture img").wait_for()
            for turns, question in enumerate(("", QUESTION), 1):
                if question:
                    page.locator("#question textarea").fill(question)
                page.locator("#ask").click()
                page.locator("#chat .message.bot").nth(turns - 1).wait_for()
                page.wait_for_function(
                    "() => document.querySelector('#status').innerText.includes('first token')"
                    " && !document.querySelector('#ask').disabled"
                )
            page.wait_for_timeout(1000)  # the page scrolls to the end of the conversation
            shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate()
    shot.save(IMAGES / "demo.jpg", quality=85, optimize=True)


def main(checkout):
    save_demo(checkout)
    with served(checkout) as address, looked_at() as (page, _):
        open_view(page, address)
        page.locator(".ag-row a").nth(1).wait_for()
        save(page, "mlflow-runs", 480)
        open_view(page, address, "CHART")
        page.locator(".js-plotly-plot .scatterlayer .trace").nth(1).wait_for(state="attached")
        save(page, "mlflow-curves", 720)
        open_view(page, address)
        page.locator(".ag-row a").first.click()
        page.get_by_text("Show more").first.click()
        save(page, "mlflow-run", 720)
        open_view(page, address)
        page.locator(".ag-row a").nth(1).click()
        page.get_by_role("tab", name="Artifacts").click()
        page.get_by_text("captions.json").first.click()
        page.get_by_text("sft caption").first.wait_for()
        page.evaluate(_WITHOUT, str(checkout))
        save(page, "mlflow-captions")
        version = address.partition("/#/")[0] + "/#/models/{}/versions/{}?workflowType=machine_learning"
        page.goto("about:blank")
        page.goto(version.format(*newest_version(checkout)))
        page.get_by_text("Inputs (").wait_for()
        for part in ("Inputs (", "Outputs ("):
            page.get_by_text(part).click()  # unfold what goes in and comes out
        save(page, "mlflow-version")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "mlruns").is_dir():
        sys.exit("usage: python -m tests.browser.screens CHECKOUT, one with runs in its mlruns/")
    main(Path(sys.argv[1]).resolve())
