"""Every run in MLflow: what it was made from, how it went, what it cost. The only importer of mlflow.

    with stage_run("sft", params, paths) as run:
        run.log_metrics({"loss": 2.1, "learning_rate": 1e-3}, step=10)   # a point of a curve
        run.log_metrics({"val_loss": 1.4})                               # a result of the run

A stage's run lies below the run of its reproduction, which carries all parameters and the stages' results, so that
two reproductions can be compared. Everything goes to a local journal first; see `journal` and `courier`.
"""

from minivlm.tracking.candidate import Candidate
from minivlm.tracking.null_run import NullRun
from minivlm.tracking.run import Run
from minivlm.tracking.stages import stage_run

__all__ = ["Candidate", "NullRun", "Run", "stage_run"]
