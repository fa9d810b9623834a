"""The page's time and cost: what a run took, beside what the original states."""

import pytest

from minivlm.evaluation.page.cost import against_the_original, cost, times
from minivlm.evaluation.page.numbers import count, duration, money, scaled
from minivlm.training.energy import Energy
from tests.unit.evaluation.toys import cost_of


def test_cost_is_shown_with_its_projections_and_why_energy_is_missing():
    shown = cost({"sft": cost_of()})
    for text in ("2 min 5 s", "AMD &lt;EPYC&gt;", "0.007 CNY", "not measured", "has no RAPL package", "9 TFLOP",
                 "10.0%", "3.00 GiB", "measured here", "to an RTX 3090", "to an H200"):  # fmt: skip
        assert text in shown, text
    there = cost_of()["projected"]["RTX 4090"]
    assert f"{duration(there['seconds_low'])} to {duration(there['seconds_high'])}" in shown


def test_measured_energy_and_a_gpus_memory_are_shown():
    memory = {"process": 1 << 30, "gpu_allocated": 2 << 30, "gpu_reserved": 5 << 30}
    shown = cost(
        {
            "sft": cost_of(
                energy=Energy(12_520.0, "NVML: total energy counter of 1 GPU board", seconds=125.2), memory=memory
            )
        }
    )
    assert "12.5 kJ<small>100 W on average" in shown and "NVML" in shown and "GPU 5.00 GiB" in shown


def test_the_base_shows_both_of_its_trainings():
    part = {"samples_per_second": 321.0, "tokens_per_second": 4.0, "padding_share": 0.25}
    base = {key: value for key, value in cost_of().items() if key not in part}
    shown = cost({"base": base | {"parts": {"vision_tower": part, "llm": part}}, "sft": cost_of()})
    assert "vision tower 321" in shown and "language model 25.0%" in shown
    assert shown.index(">Base<") < shown.index(">SFT<")


def test_a_cost_of_an_older_version_is_left_out():
    assert cost({"pretrain": {"device": "CPU", "seconds": 1.0}}) == ""
    assert ">Pretrain<" not in cost({"pretrain": {"device": "CPU"}, "sft": cost_of()})


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0004, "under 1 ms"),
        (0.042, "42 ms"),
        (0.42, "0.4 s"),
        (48.3, "48 s"),
        (59.9, "60 s"),
        (2222, "37 min"),
        (599.9, "10 min"),
        (3599, "1 h 0 min"),
        (4800, "1 h 20 min"),
    ],
)
def test_durations_are_said_in_words(seconds, said):
    assert duration(seconds) == said


SCHEDULE = {
    "operations": {"pretrain": 1e17, "sft": 3e17},
    "devices": {"RTX 4090": {"hours": 1.0, "hours_low": 0.8, "hours_high": 1.6}},
}


def test_what_the_original_states_stands_beside_this_run_and_projections_say_that_they_are():
    shown = against_the_original({"pretrain": cost_of(), "sft": cost_of()}, SCHEDULE)
    rows = {row.split("</th>")[0]: row for row in shown.split("<tr>")[2:]}
    stated = next(row for heading, row in rows.items() if "original states<small>RTX 4090<" in heading)
    assert ">2.5 h<" in stated and ">2.0 h<" in stated and ">4.5 h<" in stated
    assert "1.3 yuan" in shown and "RTX 3090, another schedule" in shown
    schedule = next(row for heading, row in rows.items() if "original's schedule here" in heading)
    assert "<em>projected</em>" in schedule and ">15 min<" in schedule and ">45 min<" in schedule
    assert "48 min to 1 h 36 min" in schedule and "1.88 CNY" in schedule and "1.50 CNY to 3.01 CNY" in schedule
    measured = next(row for heading, row in rows.items() if "This run, measured" in heading)
    assert "4 min 10 s" in measured and "500 samples" in measured and "projected" not in measured
    there = next(row for heading, row in rows.items() if "This run's operations" in heading)
    assert "<em>projected</em>" in there


def test_without_both_trainings_or_a_schedule_nothing_is_made_up():
    assert against_the_original({"sft": cost_of()}, SCHEDULE) == ""
    assert "schedule here" not in against_the_original({"pretrain": cost_of(), "sft": cost_of()}, {})


def test_the_figure_of_the_pipeline_gets_the_times_that_are_known():
    assert times({"sft": cost_of(), "base": {"device": "CPU"}}) == {"sft": "2 min 5 s"}


def test_numbers_have_separators_and_units():
    assert count(1234567) == "1,234,567" and count(0.5) == "0.5" and count("<x>") == "&lt;x&gt;"
    assert scaled(1_493_053) == "1.49 M" and scaled(12) == "12 "
    assert money(None, "CNY") == "no price known" and money(2.6, "CNY") == "2.60 CNY"
