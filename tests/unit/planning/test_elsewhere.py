"""Time of the stages that no probe runs, from what was measured before."""

import pytest

from minivlm import hardware
from minivlm.files import write_json
from minivlm.planning.assumptions import Asked
from minivlm.planning.estimate import estimate


def rows_json(cpu):
    measured = [
        {"rows": 1000, "seconds": 1.0, "rows_per_second": 1000.0, "peak_memory_bytes": 1},
        {"rows": 10000, "seconds": 20.0, "rows_per_second": 500.0, "peak_memory_bytes": 1},
    ]
    return {"tokenize": measured, "validate": measured, "machine": {"cpu": cpu}}


def test_data_stages_take_the_rates_that_were_measured_on_this_machine(with_profile):
    params, present = with_profile("tiny")
    path = present.paths.root / "benchmarks" / "results" / "rows.json"
    asked = Asked(stages=("validate", "download"))
    assert "python -m benchmarks.rows" in estimate(params, present, asked)["stages"]["validate"]["why"]
    write_json(path, rows_json("another CPU"))
    assert "another CPU" in estimate(params, present, asked)["stages"]["validate"]["why"]
    write_json(path, rows_json(hardware.cpu_model()))
    found = estimate(params, present, asked)["stages"]
    rows = 200 + 200 + 3 * 24 + 3 * 24
    assert found["validate"]["rows"] == rows
    assert found["validate"]["seconds"]["expected"] == pytest.approx(rows / 1000)
    assert found["validate"]["seconds"]["high"] > rows / 500
    assert found["download"]["seconds"] is None and "network" in found["download"]["why"]


def test_validate_decodes_a_picture_for_each_row(with_profile, checkout):
    """The rows that were measured share their pictures: decoding is a part of its own."""
    params, present = with_profile("")
    params = params.model_copy(update={"runtime": params.runtime.model_copy(update={"workers": 2})})
    asked, folder = Asked(stages=("validate", "tokenize")), checkout.root / "benchmarks" / "results"
    write_json(folder / "rows.json", rows_json(hardware.cpu_model()))
    before = estimate(params, present, asked)["stages"]
    assert "without decoding a picture for each row" in before["validate"]["note"]
    decoding = [{"milliseconds": 1.0}, {"milliseconds": 0.25}, {"milliseconds": 4.0}]
    write_json(folder / "loader.json", {"decoding": decoding, "machine": {"cpu": "another"}})
    assert estimate(params, present, asked)["stages"]["validate"]["seconds"] == before["validate"]["seconds"]
    write_json(folder / "loader.json", {"decoding": decoding, "machine": {"cpu": hardware.cpu_model()}})
    found = estimate(params, present, asked)["stages"]
    rows, alone = found["validate"]["rows"], before["validate"]["seconds"]["expected"]
    assert found["validate"]["seconds"]["expected"] == pytest.approx(alone + rows * 0.001 / 2)
    assert found["validate"]["seconds"]["high"] > alone + rows * 0.004 / 2
    assert found["validate"]["seconds"]["low"] < alone and "note" not in found["validate"]
    assert found["tokenize"]["seconds"] == before["tokenize"]["seconds"]
    write_json(folder / "loader.json", {"decoding": [{}]})
    assert estimate(params, present, asked)["stages"]["validate"]["seconds"] == before["validate"]["seconds"]


def test_the_base_takes_what_its_last_run_took(with_profile, checkout):
    params, present = with_profile("")
    asked = Asked(stages=("base",))
    assert "not measured with these parameters" in estimate(params, present, asked)["stages"]["base"]["why"]
    checkout.artifacts("base").mkdir(parents=True)
    before = {"device": hardware.cpu_model(), "seconds": 100.0, "flops": 7}
    write_json(checkout.reports("base") / "cost.json", before)
    assert estimate(params, present, asked)["stages"]["base"]["seconds"]["expected"] == pytest.approx(100.0)
    write_json(checkout.reports("base") / "cost.json", before | {"device": "another"})
    assert "another device: another" in estimate(params, present, asked)["stages"]["base"]["why"]


@pytest.mark.parametrize("text", ['{"device', "[]", "{}", '{"tokenize": [{"rows": 5}], "machine": "x"}'])
def test_a_damaged_measurement_leaves_the_time_open(with_profile, checkout, text):
    params, present = with_profile("")
    for path in (checkout.root / "benchmarks" / "results" / "rows.json", checkout.reports("base") / "cost.json"):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    checkout.artifacts("base").mkdir(parents=True)
    found = estimate(params, present, Asked(stages=("base", "tokenize")))["stages"]
    assert found["base"]["why"] == "reports/base/cost.json is damaged"
    assert "rows.json is " in found["tokenize"]["why"]
