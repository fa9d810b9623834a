"""What the code imports, read from its syntax: the module graph that dvc.yaml and the layers are held against.

`python tests/contract/imports.py` prints the source deps of each stage; with --write it puts them into dvc.yaml.
"""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("download", "validate", "base", "tokenize", "pretrain", "sft", "evaluate")


def source_files() -> list[Path]:
    """Every Python file of the package and of the stage commands."""
    return sorted([*(ROOT / "src/minivlm").rglob("*.py"), *(ROOT / "pipelines").glob("*.py")])


def module_name(path: Path) -> str:
    """`minivlm.data.batches` for src/minivlm/data/batches.py; a package for its __init__.py."""
    parts = path.relative_to(ROOT / "src" if "src" in path.relative_to(ROOT).parts else ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """The project's modules by name."""
    return {module_name(path): path for path in source_files()}


@cache
def syntax(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported_names(path: Path) -> set[str]:
    """Every dotted name that a file imports, those inside functions included, TYPE_CHECKING blocks not.

    `from a.b import c` yields both `a.b` and `a.b.c`: c may be a module.
    """
    names: set[str] = set()
    for node in _running_nodes(syntax(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module_name(path).split(".")
                inside = package if path.name == "__init__.py" else package[:-1]
                inside = inside[: len(inside) - node.level + 1]
                base = ".".join([*inside, *([node.module] if node.module else [])])
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def _running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from _running_nodes(other)
            continue
        yield from _running_nodes(child)


def direct_imports(path: Path) -> set[str]:
    """The project's own modules that a file imports; for `from minivlm.data import batches` only the module."""
    return {name for name in imported_names(path) if name in modules()}


def holds_code(path: Path) -> bool:
    """Whether a file holds more than a docstring and names such as __version__ and __all__."""

    def is_code(node: ast.stmt) -> bool:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return False
        return not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith("__"))

    return any(is_code(node) for node in syntax(path).body)


def source_deps(stage: str) -> list[str]:
    """The source files that `python -m pipelines.<stage>` can import, in the order of dvc.yaml."""
    waiting, seen = [f"pipelines.{stage}"], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in modules() or name in seen:
            continue
        seen.add(name)
        waiting += direct_imports(modules()[name])
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    paths = {modules()[name] for name in seen}
    return sorted(str(p.relative_to(ROOT)) for p in paths if p.name != "__init__.py" or holds_code(p))


def is_source(dep: str) -> bool:
    """Whether a dep of dvc.yaml is source code."""
    return dep.endswith(".py")


def rewrite(path: Path) -> None:
    """Put the source deps of every stage into dvc.yaml; data deps, their order and comments stay."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 4096
    document = yaml.load(path)
    for stage, entry in document["stages"].items():
        if f"pipelines.{stage}" in modules():
            deps = entry["deps"]
            data = [dep for dep in deps if not is_source(dep)]
            deps[:] = source_deps(stage) + data
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        yaml.dump(document, stream)


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        rewrite(ROOT / "dvc.yaml")
    else:
        for stage in STAGES:
            print(f"{stage}:")
            print("".join(f"    - {dep}\n" for dep in source_deps(stage)))
