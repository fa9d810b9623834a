"""Imports run downward only, and each outside tool has one door."""

import graphlib

import pytest

from tests.contract.imports import ROOT, direct_imports, imported_names, module_name, modules, source_files

# A package imports from its own and from lower ranks; packages of one rank do not import each other.
RANKS = {
    "minivlm": 0,  # config, paths, files, errors and the other modules that stand alone
    "minivlm.data": 1,
    "minivlm.hub": 1,
    "minivlm.model": 1,
    "minivlm.tracking": 1,
    "minivlm.generation": 2,
    "minivlm.stage": 3,
    "minivlm.training": 3,
    "minivlm.evaluation": 3,
    "minivlm.serving": 3,
    "minivlm.planning": 4,  # a plan counts with the training's own functions
    "minivlm.cli": 5,
    "pipelines": 5,
}
# Tool → the only packages that may import it.
DOORS = {
    # Runs go to MLflow through the tracker; what MLflow itself loads and calls answers it with its own exception.
    "mlflow": ("minivlm.tracking", "minivlm.serving.pyfunc"),
    "great_expectations": ("minivlm.data.validation",),
    "dvc": ("nowhere",),
}


def package(module: str) -> str:
    """The entry of RANKS that a module belongs to."""
    parts = module.split(".")
    return next(name for end in (2, 1) if (name := ".".join(parts[:end])) in RANKS)


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downward(path):
    home = package(module_name(path))
    for name in direct_imports(path):
        other = package(name)
        if other == home or name == "minivlm":
            continue
        assert RANKS[other] < RANKS[home], f"{home} may not import {name}: it is not below it"


def test_no_import_is_circular():
    graph = {}
    for name, path in modules().items():
        # A package's own __init__ runs before its modules; that it names them is no circle.
        graph[name] = {other for other in direct_imports(path) if not name.startswith(f"{other}.")} - {name}
    assert tuple(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("tool", DOORS)
def test_each_tool_has_one_door(tool):
    for path in source_files():
        if any(name.split(".")[0] == tool for name in imported_names(path)):
            assert module_name(path).startswith(DOORS[tool]), f"{path.relative_to(ROOT)} imports {tool}"


def test_a_file_is_read_in_one_sitting():
    lengths = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in source_files()}
    assert {path: lines for path, lines in lengths.items() if lines > 300} == {}
