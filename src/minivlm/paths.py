"""Every path of the project, once. A stage's name is its folder's name under artifacts/ and reports/."""

import os
from pathlib import Path

STAGES = ("download", "validate", "base", "tokenize", "pretrain", "sft", "evaluate")
SPLITS = ("pretrain", "sft", "heldout", "compositional")
TRAIN_SPLITS = ("pretrain", "sft")


def project_root() -> Path:
    """The checkout this code runs from: the folder of params.yaml, found from this file upward.

    Under `dvc exp run --temp` that is the temporary checkout, so that a stage reads and writes there.
    """
    return Path(__file__).resolve().parents[2]


def home_root() -> Path:
    """The user's own checkout, also from inside `dvc exp run --temp` (DVC_ROOT stays the original there)."""
    return Path(os.environ.get("DVC_ROOT") or project_root())


def short(path: Path, folder: Path | None = None) -> str:
    """A path as people read it: from `folder` (the working directory) where it lies inside, otherwise as it is."""
    folder = folder or Path.cwd()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


class Paths:
    """Paths below one checkout (`root`): inputs, outputs in DVC's cache, reports in git, local state."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or project_root()
        self.params = self.root / "params.yaml"
        self.data = self.root / "data"
        self.profiles = self.root / "profiles"
        self.questions = self.data / "questions.json"
        self.state = self.root / ".state"
        # MLflow's store and journal outlive the temporary checkout of `dvc exp run --temp`.
        home = home_root() if root is None else self.root
        self.tracking = home / "mlruns"
        self.journal = home / ".state" / "tracking"

    def artifacts(self, stage: str) -> Path:
        """artifacts/<stage>/: the outputs of a stage that DVC caches."""
        return self.root / "artifacts" / stage

    def reports(self, stage: str) -> Path:
        """reports/<stage>/: metrics, plots and tables of a stage, in git."""
        return self.root / "reports" / stage

    def table(self, split: str) -> Path:
        """The Parquet file of a split (`pretrain`, `sft`, `heldout`, `compositional`)."""
        return self.artifacts("download") / f"{split}.parquet"

    def accepted(self, split: str) -> Path:
        """The row numbers of a split that validation accepted (a one-column Parquet file)."""
        return self.artifacts("validate") / f"{split}.parquet"

    def base_part(self, part: str) -> Path:
        """artifacts/base/<part>/, with part one of `tokenizer`, `vision_tower`, `llm`."""
        return self.artifacts("base") / part

    def tokens(self, split: str) -> Path:
        """The token store of a split."""
        return self.artifacts("tokenize") / split

    def model(self, stage: str) -> Path:
        """The transformers LLaVA directory that `pretrain` or `sft` wrote."""
        return self.artifacts(stage) / "model"
