"""A stage that computes nothing and tells the tracker much: what is tested is what becomes of what it tells.

As a program: `python -m tests.integration.tracked_stage ROOT STEPS PAUSE [model]`, a run of `sft` in the checkout
ROOT that goes on where a killed one was, as a training does. It prints each step that was told and notes the
cost. With `model` it tells of a model at its end, as evaluate does.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from minivlm.config import load_params
from minivlm.paths import Paths
from minivlm.tracking import Candidate, stage_run
from minivlm.tracking.champion import Score

ROOT = Path(__file__).resolve().parents[2]
CURVES = ("loss", "learning_rate", "grad_norm", "samples_per_second")
BEGUN = 1_767_225_600_000  # milliseconds: of a step every process says the same, the time too
RESULTS = ("val_loss", "steps")


class TrackedStage:
    """The stage in the checkout `root`, told of the tracking server at `uri`."""

    def __init__(self, root, uri, **environment):
        foreign = ("MLFLOW_", "DVC_", "PYTEST_")
        own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT), *filter(None, [own.get("PYTHONPATH")])])
        self.root, self.paths = root, Paths(root)
        self.environment = own | {"MLFLOW_TRACKING_URI": uri, "PYTHONPATH": path} | environment
        root.mkdir(parents=True, exist_ok=True)

    def start(self, steps, pause=0.002, patience=None, model=False):
        """The running stage, in a session of its own; its output is what it prints of each step.

        `patience`: seconds that it waits at its end, when they are to be others than the courier's; `model`: it
        has a model to be registered.
        """
        name = "tests.integration.tracked_stage"
        program = ["-m", name]
        if patience is not None:
            run = f"import runpy; runpy.run_module({name!r}, run_name='__main__', alter_sys=True)"
            program = ["-c", f"from minivlm.tracking import courier; courier.PATIENCE = {patience}; {run}"]
        return self._start([sys.executable, *program, str(self.root), str(steps), str(pause), *["model"] * model])

    def sync(self):
        """The running command `minivlm sync` for this checkout, without the server's address."""
        return self._start([sys.executable, "-m", "minivlm.cli.main", "sync"], MLFLOW_TRACKING_URI="")

    def _start(self, command, **environment):
        # A checkout's journals are found from DVC_ROOT where a stage runs in a copy of it.
        env = self.environment | {"DVC_ROOT": str(self.root)} | environment
        return subprocess.Popen(
            command, env=env, cwd=ROOT, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def journals(self):
        return sorted(self.paths.journal.glob("*.jsonl"))


def read_until(process, step):
    """Wait until the stage has told of `step`."""
    for line in process.stdout:
        if int(line) == step:
            return
    raise AssertionError(process.stderr.read())


def values(step):
    """The numbers of a step, the same in every process."""
    numbers = [3.0 / step, 1e-3 * step, 0.1 * step, float(step)]
    return dict(zip(CURVES, numbers, strict=True))


def take_up(run, noted):
    """Go on with the run that is noted, or note this one."""
    if noted.exists():
        run.go_on(noted.read_text())
    else:
        noted.write_text(run.id)
        run.begin()


def model_of(root):
    """What is told of a model; its files are looked into by nobody."""
    directory = root / "artifacts" / "model"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.safetensors").write_bytes(bytes(range(256)) * 4096)
    score = Score("attribute_recall", 0.5, "a" * 16)
    return Candidate("minivlm", "sft", directory, "?", 8, "data:image/png;base64,AAAA", "A toy.", score)


def main(root, steps, pause, *what):
    from PIL import Image

    paths = Paths(root)
    spent, longest = 0.0, 0.0
    with stage_run("sft", load_params(ROOT / "params.yaml"), paths, key=str(os.getpid()), resumes=True) as run:
        take_up(run, root / "run")
        began = time.monotonic()
        for step in range(1, steps + 1):
            time.sleep(pause)
            before = time.monotonic()
            run.log_metrics(values(step), step, BEGUN + step)
            took = time.monotonic() - before
            spent, longest = spent + took, max(longest, took)
            print(step, flush=True)
        seconds = time.monotonic() - began
        run.log_metrics({"val_loss": 1.5, "steps": steps})
        (root / "report.md").write_text(f"{steps} steps", encoding="utf-8")
        run.log_artifact(root / "report.md", "sft")
        run.log_image(Image.new("RGB", (8, 8), "red"), "dot")
        run.log_table({"n": [1, 2]}, "table.json")
        (root / "report.md").write_text("of a later run", encoding="utf-8")
        if what:
            run.log_model(model_of(root))
        (root / "spent.json").write_text(
            json.dumps({"seconds": seconds, "in_tracker": spent, "longest": longest, "over": time.time()})
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:])
