"""The views that an experiment is given: new ones and those of an earlier version."""

import json

import pytest

from minivlm.files import write_json
from minivlm.tracking.page import LocalPage, address, experiment_tags, stale_tags
from minivlm.tracking.store import connect
from minivlm.tracking.view import REFERENCES, SCENES, STAGES, VERSION_TAG, VIEWS, view_for
from tests.unit.tracking.toys import PARAMS, started

NOTE = "mlflow.note.content"
SHARED = "mlflow.sharedViewState."


def state(view):
    """A view as the page reads it."""
    saved = json.loads(experiment_tags()[SHARED + view.key])
    assert saved["name"] == view.name
    return json.loads(saved["state"])


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.key)
def test_a_view_fits_what_the_page_reads(view):
    saved = state(view)
    assert saved["selectedColumns"] == saved["columnOrder"] == list(saved["columnWidths"])
    sections = {section["uuid"] for section in saved["compareRunSections"]}
    charts = saved["compareRunCharts"]
    assert {chart["metricSectionId"] for chart in charts} <= sections
    assert len({chart["uuid"] for chart in charts}) == len(charts)
    assert len(experiment_tags()[SHARED + view.key]) < 20_000  # what MLflow takes of a tag


def test_rows_without_scenes_have_cider_for_recall():
    assert view_for("scenes") is SCENES and view_for("local") is view_for("hub") is REFERENCES
    assert any("attribute_recall" in column for column in SCENES.columns)
    assert any("cider" in column for column in REFERENCES.columns)
    assert not any("attribute_recall" in column for column in REFERENCES.columns)


def test_columns_are_of_what_runs_have(paths):
    """Those of scores, which evaluate tells, aside."""
    reports = {"val_loss": 1.0, "train_loss": 1.0, "samples_per_second": 1.0, "mfu": 0.1}
    for stage in ("pretrain", "sft"):
        write_json(paths.reports(stage) / "metrics.json", {"val_loss": 1.0})
        started(paths, stage, key="a", does=lambda run: run.log_metrics(reports))
    client, experiment = connect(paths.tracking, PARAMS.tracking.experiment)
    runs = client.search_runs([experiment])
    has = {f"metrics.{key}" for run in runs for key in run.data.metrics}
    has |= {f"tags.{key}" for run in runs for key in run.data.tags} | {"tags.git.dirty", "tags.reused"}
    for view in VIEWS:
        assert {column for column in view.columns if ".evaluate." not in column} <= has
    assert client.search_runs([experiment], STAGES.search) != []


@pytest.mark.parametrize("made_by", [{}, {VERSION_TAG: "1"}, {VERSION_TAG: "?"}])
def test_an_experiment_of_an_earlier_version_is_given_the_views_once(checkout, made_by):
    client, experiment = connect(checkout.tracking, PARAMS.tracking.experiment)
    for key in client.get_experiment(experiment).tags:
        if key.startswith((SHARED, "minivlm.", NOTE)):
            client._tracking_client.store.delete_experiment_tag(experiment, key)
    for key, value in {**made_by, f"{SHARED}reproductions": "old", NOTE: "our own words"}.items():
        client.set_experiment_tag(experiment, key, value)
    database = checkout.tracking / "mlflow.db"
    before = LocalPage.read(database, PARAMS.tracking.experiment)
    assert before is not None and not before.is_fresh
    connect(checkout.tracking, PARAMS.tracking.experiment)
    tags = client.get_experiment(experiment).tags
    assert tags.items() >= (experiment_tags() | {NOTE: "our own words"}).items()
    after = LocalPage.read(database, PARAMS.tracking.experiment)
    assert after == LocalPage(experiment, runs=0, is_fresh=True)


def test_what_a_later_version_has_given_stays():
    assert stale_tags({VERSION_TAG: "999", f"{SHARED}reproductions": "newer"}) == {}
    assert stale_tags(experiment_tags()) == {}


@pytest.mark.parametrize("content", [None, b"", b"no database" * 100])
def test_without_a_database_there_is_no_page(tmp_path, content):
    file = tmp_path / "mlflow.db"
    if content is not None:
        file.write_bytes(content)
    assert LocalPage.read(file, "minivlm") is None


def test_the_address_names_the_view():
    found = address("http://here", "7", SCENES)
    assert (
        found == "http://here/#/experiments/7/runs?viewStateShareKey=reproductions&workflowType=machine_learning"
    )
