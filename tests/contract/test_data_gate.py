"""CI runs the checks on data and schemas, by the same script here and there."""

import os

from ruamel.yaml import YAML

from tests.contract.imports import ROOT

SCRIPT = ".ci/data"


def test_the_workflow_and_the_local_run_check_data_and_schemas_by_one_script():
    job = YAML(typ="safe").load(ROOT / ".github/workflows/ci.yml")["jobs"]["data-schema"]
    runs = [step.get("run", "") for step in job["steps"]]
    assert SCRIPT in runs and any("dvc repro tokenize" in run for run in runs)
    assert SCRIPT in (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert os.access(ROOT / SCRIPT, os.X_OK)


def test_the_script_stops_at_the_first_thing_that_fails():
    lines = (ROOT / SCRIPT).read_text(encoding="utf-8").splitlines()
    assert "set -euo pipefail" in lines
    said = "\n".join(lines)
    for part in (
        "check-data",
        "docs/examples",
        "tests/unit/data/validation",
        "tests/integration/test_data_gate.py",
    ):
        assert part in said
    assert "||" not in said
