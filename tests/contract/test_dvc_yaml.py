"""dvc.yaml against the code and the parameters: one name per stage, exact deps, params and outs."""

import ast
import json
import re
import subprocess
from pathlib import PurePosixPath
from typing import Any

import pytest
from ruamel.yaml import YAML

from minivlm import paths
from minivlm.config import Params, load_params
from tests.contract.imports import ROOT, STAGES, is_source, source_deps, syntax

UNDECLARED = {"runtime", "prices", "tracking"}
NOT_OUTS = {"cost.json", "index.html", "report.md", "data_docs"}


def pipeline() -> dict[str, dict[str, Any]]:
    return YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def entries(stage: dict[str, Any], *kinds: str) -> dict[str, dict[str, Any]]:
    """Path → options of the outputs of these kinds (`outs`, `metrics`, `plots`)."""
    found: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        for entry in stage.get(kind, []):
            found.update(entry if isinstance(entry, dict) else {entry: {}})
    return found


def overlaps(one: str, other: str) -> bool:
    """Whether one path is the other or lies inside it."""
    a, b = PurePosixPath(one), PurePosixPath(other)
    return a == b or a in b.parents or b in a.parents


def written() -> list[str]:
    return [stage for stage in STAGES if (ROOT / "pipelines" / f"{stage}.py").exists()]


def parameters_read(stage: str) -> set[str]:
    """What a stage command reads of params, as dotted keys: `stage.params.sft.freeze` → `sft.freeze`.

    `params = stage.params` is understood; params as a whole may go nowhere else.
    """
    tree = syntax(ROOT / "pipelines" / f"{stage}.py")
    assignments = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    renamed = {id(value) for node in assignments for value in _named_params(node)}
    inner: set[int] = set()
    read: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute | ast.Name) or id(node) in inner | renamed:
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            continue
        chain: list[str] = []
        part: ast.expr = node
        while isinstance(part, ast.Attribute):
            chain.insert(0, part.attr)
            part = part.value
            inner.add(id(part))
        chain.insert(0, part.id if isinstance(part, ast.Name) else "")
        if "params" in chain:
            key = ".".join(chain[chain.index("params") + 1 :])
            assert key, f"pipelines/{stage}.py passes all of params on; a library function takes plain values"
            read.add(key.replace("validate_", "validate"))
    return {key for key in read if key.split(".")[0] in {f.alias or n for n, f in Params.model_fields.items()}}


def _named_params(node: ast.Assign) -> list[ast.expr]:
    """The values that an assignment gives to the name `params`."""
    target = node.targets[0]
    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
        pairs = list(zip(target.elts, node.value.elts, strict=True))
    else:
        pairs = [(target, node.value)]
    return [value for name, value in pairs if isinstance(name, ast.Name) and name.id == "params"]


def test_one_name_per_stage_everywhere():
    commands = {path.stem for path in (ROOT / "pipelines").glob("*.py")} - {"__init__"}
    sections = {f.alias or name for name, f in Params.model_fields.items()} - UNDECLARED - {"seed", "threads"}
    assert tuple(pipeline()) == STAGES == paths.STAGES
    assert commands == sections == set(STAGES)
    assert [stage["cmd"] for stage in pipeline().values()] == [f"python -m pipelines.{name}" for name in STAGES]


@pytest.mark.parametrize("stage", written())
def test_source_deps_are_what_the_stage_imports(stage):
    declared = [dep for dep in pipeline()[stage]["deps"] if is_source(dep)]
    expected = source_deps(stage)
    assert declared == expected, "run `python tests/contract/imports.py --write`, or paste:\n" + "".join(
        f"    - {dep}\n" for dep in expected
    )


@pytest.mark.parametrize("stage", STAGES)
def test_data_deps_are_written_by_an_earlier_stage_or_versioned(stage):
    earlier = STAGES[: STAGES.index(stage)]
    outs = [out for name in earlier for out in entries(pipeline()[name], "outs", "metrics")] + ["data"]
    for dep in pipeline()[stage]["deps"]:
        assert is_source(dep) or any(overlaps(dep, out) for out in outs), f"nothing makes {dep}"


@pytest.mark.parametrize("stage", STAGES)
def test_outputs_lie_in_the_stage_own_folders(stage):
    outs = entries(pipeline()[stage], "outs", "metrics", "plots")
    for out, options in outs.items():
        assert PurePosixPath(out).parts[:2] in {("artifacts", stage), ("reports", stage)}, out
        assert not NOT_OUTS & set(PurePosixPath(out).parts), f"{out} differs from run to run"
        assert options.get("cache", True) == out.startswith("artifacts/"), f"{out}: reports live in git"
    assert stage == "download" or f"reports/{stage}/metrics.json" in entries(pipeline()[stage], "metrics")


@pytest.mark.parametrize("stage", STAGES)
def test_declared_params_exist_and_are_its_own(stage):
    values = load_params(ROOT / "params.yaml").model_dump(by_alias=True)
    declared = pipeline()[stage]["params"]
    assert stage in declared and declared == sorted(declared)
    for key in declared:
        assert key.split(".")[0] not in UNDECLARED, f"{key} changes no output"
        value = values
        for part in key.split("."):
            value = value[part]


@pytest.mark.parametrize("stage", written())
def test_declared_params_are_those_that_the_stage_reads(stage):
    declared = set(pipeline()[stage]["params"])
    read = {key for key in parameters_read(stage) if key.split(".")[0] not in UNDECLARED}
    covered = {key for key in declared if any(each == key or each.startswith(f"{key}.") for each in read)}
    missing = {key for key in read if not any(key == each or key.startswith(f"{each}.") for each in declared)}
    assert missing == set(), "read but not declared: a change would not run the stage again"
    assert covered == declared, "declared but not read: a change would run the stage for nothing"


def test_the_learning_rate_of_sft_reaches_sft_and_evaluate_alone():
    stages = pipeline()
    reached = {name for name, stage in stages.items() if {"sft", "sft.learning_rate"} & set(stage["params"])}
    for name in STAGES:
        outs = [out for done in reached for out in entries(stages[done], "outs", "metrics", "plots")]
        if any(overlaps(dep, out) for dep in stages[name]["deps"] for out in outs):
            reached.add(name)
    assert reached == {"sft", "evaluate"}


def test_no_stage_that_trains_depends_on_held_out_rows():
    held_out = [f"artifacts/{stage}" for stage in ("download", "validate", "tokenize")]
    for name in ("base", "pretrain", "sft"):
        for dep in pipeline()[name]["deps"]:
            for folder in held_out:
                assert dep != folder, f"{name} depends on all of {folder}"
                assert not dep.startswith((f"{folder}/heldout", f"{folder}/compositional")), f"{name}: {dep}"


def plots() -> dict[str, dict[str, Any]]:
    return {
        name: plot for entry in YAML(typ="safe").load(ROOT / "dvc.yaml")["plots"] for name, plot in entry.items()
    }


@pytest.mark.parametrize("name", plots())
def test_a_plot_has_title_axes_a_template_and_columns_that_are_there(name):
    plot = plots()[name]
    assert plot["title"] and plot["x_label"] and plot["y_label"]
    template = json.loads((ROOT / ".dvc" / "plots" / f"{plot['template']}.json").read_text(encoding="utf-8"))
    assert template["data"] == {"values": "<DVC_METRIC_DATA>"}
    outs = {out for stage in STAGES for out in entries(pipeline()[stage], "outs")}
    for file, column in plot["y"].items():
        assert file in outs
        with (ROOT / file).open(encoding="utf-8") as rows:
            assert {plot["x"], column} <= set(next(rows).strip().split(","))


def test_data_is_hashed_by_dvc_and_kept_in_git():
    out = YAML(typ="safe").load(ROOT / "data.dvc")["outs"][0]
    assert (out["path"], out["cache"]) == ("data", False)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_an_output_that_a_fresh_clone_lacks(stage):
    # Else DVC takes the committed reports for its outputs and skips it, with its page and its MLflow run.
    made = [path for path, options in entries(pipeline()[stage], "outs").items() if options.get("cache", True)]
    assert [path for path in made if path.startswith(f"artifacts/{stage}")]


def _committed(file: str) -> Any:
    """The file as the last commit has it: a parameter that is being tried out is no fault."""
    if not (ROOT / ".git").exists():
        pytest.skip("unpacked without git: there is no commit to check")
    shown = subprocess.run(["git", "show", f"HEAD:{file}"], cwd=ROOT, capture_output=True, check=True)
    return YAML(typ="safe", pure=True).load(shown.stdout.decode())


def test_the_committed_results_are_those_of_the_committed_parameters():
    params = _committed("params.yaml")
    for name, stage in _committed("dvc.lock")["stages"].items():
        for key, value in stage["params"]["params.yaml"].items():
            expected = params
            for part in key.split("."):
                expected = expected[part]
            assert value == expected, f"{name}: {key}"


def test_the_experiment_that_the_readme_shows_changes_something():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"dvc exp run .*?-S (\S+)=(\S+)", readme)
    assert shown
    for key, value in shown:
        section, name = key.split(".")
        assert float(value) != getattr(load_params(ROOT / "params.yaml").section(section), name)
