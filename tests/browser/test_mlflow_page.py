"""Two reproductions side by side in MLflow's page: columns, curves, captions, what was reused. Needs Chromium."""

import re

import pytest
from PIL import Image

from minivlm.files import write_json, write_text
from minivlm.paths import Paths
from minivlm.tracking import courier, stage_run, system
from tests.browser.mlflow_page import CHROMIUM, looked_at, open_view, served
from tests.unit.tracking.test_lineage import make, write_rows
from tests.unit.tracking.toys import PARAMS, ThreadInsteadOfProcess, wait_for

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine"),
]
COLUMNS = ("changed", "sft.val_loss", "evaluate.sft.heldout.attribute_recall", "hours", "money")


def reproduce(paths, key, rate):
    """A reproduction of two stages; what pretrain has left is there."""
    params = PARAMS.model_copy(update={"sft": PARAMS.sft.model_copy(update={"learning_rate": rate})})
    with stage_run("sft", params, paths, key=key) as run:
        for step in range(1, 11):
            run.log_metrics({"loss": 2.0 / step + 100 * rate}, step)
        write_json(paths.reports("sft") / "metrics.json", {"val_loss": 0.2 + 100 * rate})
        wait_for(lambda: len([key for key in run._last if key.startswith("system/")]) > 3)
    with stage_run("evaluate", params, paths, key=key) as run:
        scores = {"sft": {"heldout": {"attribute_recall": 0.9 - rate, "image_gap": 1.0}}}
        write_json(paths.reports("evaluate") / "metrics.json", scores)
        run.log_image(Image.new("RGB", (64, 64), "orange"), "pictures/sunset")
        picture = Image.new("RGB", (64, 64), "orange")
        run.log_table(
            {"title": ["日落"], "picture": [picture], "sft caption": [f"海上日落 {rate}"]}, "captions.json"
        )


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The page over two reproductions that differ in the learning rate, its address, and the console's errors."""
    paths = Paths(tmp_path_factory.mktemp("checkout"))
    write_rows(paths.table("sft"), 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(courier, "start", ThreadInsteadOfProcess)
        patch.setattr(system, "_FIRST", 0.05)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with stage_run("pretrain", PARAMS, paths, key="first"):
            make(paths, "pretrain")
        reproduce(paths, "first", 0.001)
        reproduce(paths, "second", 0.002)
    write_text(paths.params, "")
    with served(paths.root) as address, looked_at() as (page, errors):
        yield page, address, errors


@pytest.fixture(autouse=True)
def quiet(shown):
    """Each page is shown without errors in the console."""
    _, _, errors = shown
    errors.clear()
    yield
    assert errors == []


def test_the_table_opens_with_the_columns_that_matter(shown):
    page, address, _ = shown
    open_view(page, address)
    page.get_by_text("sft.learning_rate: 0.001 → 0.002").wait_for()
    page.get_by_text("first here").wait_for()
    for column in COLUMNS:
        assert page.get_by_role("columnheader", name=column, exact=True).count(), column
    assert page.get_by_text("0.898").count() == 1


def test_the_loss_curves_of_both_lie_over_each_other(shown):
    page, address, _ = shown
    open_view(page, address, "CHART")
    lines = page.locator(".js-plotly-plot").first.locator(".scatterlayer .trace path.js-line")
    lines.nth(1).wait_for(state="attached")
    drawn = {line.get_attribute("d") for line in lines.all()}  # each twice, for smoothing
    assert len(drawn) == 2
    assert all(path.count("L") > 5 for path in drawn), drawn  # points that lie on a line are left out
    assert len({line.evaluate("line => line.style.stroke") for line in lines.all()}) == 2


def test_two_selected_runs_are_compared_by_what_differs(shown):
    page, address, _ = shown
    open_view(page, address)
    page.get_by_text("first here").wait_for()
    page.locator(".ag-header input[type=checkbox]").first.check(force=True)
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url(re.compile("compare-runs"))
    page.get_by_text("sft.learning_rate", exact=True).first.wait_for()


def test_the_captions_of_both_stand_side_by_side(shown):
    page, address, _ = shown
    open_view(page, address, "ARTIFACT")
    for rate in (0.001, 0.002):
        page.get_by_text(f"海上日落 {rate}").wait_for()


def test_a_run_shows_its_data_its_machine_and_what_it_took_over(shown):
    page, address, _ = shown
    open_view(page, address)
    page.get_by_text("sft.learning_rate: 0.001 → 0.002").wait_for()
    page.locator(".ag-row a").first.click()
    page.get_by_text("changed since").wait_for()
    assert page.get_by_text("sft.parquet").count() == 1
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="pretrain of no commit 1").click()
    made = opened.value
    made.get_by_text("First stage of training").first.wait_for()
    made.close()
    page.get_by_role("link", name="sft", exact=True).click()
    page.get_by_role("tab", name="System metrics").click()
    page.get_by_text("cpu_utilization_percentage").first.wait_for()
    page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for(state="attached")
