"""A saved LLaVA directory → what MLflow loads and serves: weights, the code that answers, signature, example.

    MLmodel  requirements.txt  input_example.json  …
    data/model/         the LLaVA directory, as transformers loads it
    code/minivlm/       of this package as it was what answers, as `minivlm caption` does: `minivlm.serving.pyfunc`

Nothing in it names a path of this machine.
"""

from __future__ import annotations

import ast
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from minivlm.tracking.journal import link_or_copy

LOADER = "minivlm.serving.pyfunc"
# What loading and answering import; what these need themselves pip finds.
_PACKAGES = ("mlflow", "numpy", "pandas", "pillow", "safetensors", "tokenizers", "torch", "transformers", "jinja2")


def requirements() -> list[str]:
    """The installed versions of what a model needs, for pip: without the builds (`+cpu`) that an index lacks."""
    return [f"{package}=={version(package).partition('+')[0]}" for package in _PACKAGES]


def copy_code(target: Path) -> None:
    """Copy the modules that `LOADER` imports, directly or not, to `target`: as they are now, at their places."""
    package = Path(__file__).resolve().parents[1]
    waiting, seen = [LOADER], set[str]()
    while waiting:
        name = waiting.pop()
        place = package.joinpath(*name.split(".")[1:])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if name in seen or name.split(".")[0] != package.name or not file.is_file():
            continue
        seen.add(name)
        waiting += [name.rpartition(".")[0], *_imported(file)]
        copy = target / file.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def _imported(file: Path) -> list[str]:
    """The dotted names that a file imports, inside functions too; of `from a import b` also `a.b`.

    What it imports for its types alone (`if TYPE_CHECKING:`) is never run, and left out.
    """
    names: list[str] = []
    waiting: list[ast.AST] = [ast.parse(file.read_bytes())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            waiting += ast.iter_child_nodes(node)
    return names


def write(folder: Path, operation: dict[str, Any], run_id: str, model_id: str) -> None:
    """Write the MLflow model that a journal's operation `model` describes into `folder`, which does not exist yet.

    Takes no room for the weights where `folder` is on the disk of the journal: they get a second name.
    """
    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.models.model import MLMODEL_FILE_NAME
    from mlflow.pyfunc import save_model
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "image"), ColSpec(DataType.string, "question", required=False)]),
        outputs=Schema([ColSpec(DataType.string, "caption")]),
        params=ParamSchema([ParamSpec("max_new_tokens", DataType.long, operation["max_new_tokens"])]),
    )
    data = folder.with_name("data") / "model"
    data.mkdir(parents=True, exist_ok=True)  # empty: MLflow would copy what is in it, and then once more
    model = Model(artifact_path="model", run_id=run_id, model_id=model_id, model_uuid=model_id)
    save_model(
        str(folder),
        loader_module=LOADER,
        data_path=str(data),
        code_paths=[operation["code"]],
        pip_requirements=operation["requirements"],
        model_config={**{name: operation[name] for name in ("question", "max_new_tokens")}, "device": "auto"},
        signature=signature,
        input_example=pd.DataFrame([{"image": operation["example"], "question": operation["question"]}]),
        mlflow_model=model,
    )
    shutil.copytree(operation["model"], folder / "data" / "model", copy_function=link_or_copy, dirs_exist_ok=True)
    model.model_size_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    model.save(str(folder / MLMODEL_FILE_NAME))
