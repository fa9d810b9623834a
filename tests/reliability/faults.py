"""Break a training in every way that its page lists, and see that one line says so and that nothing is lost.

    python -m tests.reliability.faults --number 5

Each fault is injected into a running stage at a random step, really: the system refuses to write or to give
memory, a file is touched, a process is killed. Then the stage is run again, undisturbed, and ends as one that
was never disturbed: the same bytes, one run in MLflow, each step once. The counts go to docs/reliability.json.
"""

from __future__ import annotations

import random
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from minivlm.data.store import TokenStore
from minivlm.training.distributed import ALONE
from minivlm.training.feed import Feed
from tests.integration.toy_stage import Stage, write_toy_inputs
from tests.reliability.kills import Outcome, compare, make_stage, run_whole
from tests.reliability.moments import Whole
from tests.reliability.record import record, unhandled

LISTED = 20  # rows of a step that a line names

# Runs the stage, in which {act} happens after step {step}.
HARNESS = """
import os, resource, signal, sys
from pathlib import Path
import pipelines.pretrain as stage
from minivlm.training import device, feed, logbook, loop, vision_language

tell = logbook.Logbook.__call__

def act():
{act}

def tell_and_act(self, step, metrics):
    tell(self, step, metrics)
    if step == {step}:
        act()

logbook.Logbook.__call__ = tell_and_act
{before}
if __name__ == "__main__":
    stage.app()
"""


@dataclass(frozen=True)
class Fault:
    """What is done in the process, the exit code and line that follow; `after`: done to what it has left."""

    act: str
    code: int
    line: str
    before: str = ""
    after: Callable[[Stage], None] = lambda stage: None
    again: str = ""  # what the second run has to say on stderr


def damage_newest(stage: Stage) -> None:
    """Flip one bit in the last state."""
    newest = max(stage.root.glob(".state/pretrain/*/step-*"))
    data = bytearray(newest.read_bytes())
    data[-3] ^= 1
    newest.write_bytes(data)


FAULTS = {
    "SIGTERM": Fault("os.kill(os.getpid(), signal.SIGTERM)", 75, r"stopped: pretrain: after step \d+ of .*"),
    "Ctrl-C": Fault("os.kill(os.getpid(), signal.SIGINT)", 75, r"stopped: pretrain: after step \d+ of .*"),
    "disk full at a saved state": Fault(
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))",
        2,
        r"error: .* the state after step \d+ cannot be saved .*make room.*",
    ),
    "disk full at the results": Fault(
        "pass",
        2,
        r"error: .*last\.safetensors: File too large",
        before="write = vision_language._write_results\n"
        "def write_on_a_full_disk(*arguments):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, resource.RLIM_INFINITY))\n"
        "    write(*arguments)\n"
        "vision_language._write_results = write_on_a_full_disk",
    ),
    "memory refused": Fault(
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used, resource.RLIM_INFINITY))\n"
        "import torch\n"
        "torch.empty(1 << 34, dtype=torch.uint8)",
        2,
        r"error: pretrain: out of memory on this machine; set pretrain\.batch_tokens to .*",
    ),
    "input changed": Fault(
        "Path('artifacts/tokenize/pretrain/tokens.bin').touch()",
        2,
        r"error: .*tokens\.bin: changed while pretrain was reading it.*",
    ),
    "loading process killed": Fault(
        # The training is in a step when the system tells of it, and not where it asks for the next batch.
        "import psutil, time\n"
        "[each.kill() for each in psutil.Process().children() if 'spawn_main' in ' '.join(each.cmdline())]\n"
        "until = time.monotonic() + 1\n"
        "while time.monotonic() < until: pass",
        2,
        r"error: a process that loads rows was killed .*lower runtime\.workers.*",
        before="feed.loader_workers = lambda *arguments: 1",
    ),
    "second process": Fault(
        "import subprocess\n"
        "second = subprocess.run([sys.executable, '-m', 'pipelines.pretrain'], capture_output=True, text=True)\n"
        "said = f'error: pretrain is being run in this checkout by process {os.getpid()}; '\n"
        "refused = second.returncode == 2 and second.stderr.startswith(said)\n"
        "os.kill(os.getpid(), signal.SIGTERM if refused else signal.SIGKILL)",
        75,
        r"stopped: pretrain: after step \d+ of .*",
    ),
    "saved state damaged": Fault(
        "os.kill(os.getpid(), signal.SIGTERM)",
        75,
        r"stopped: pretrain: after step \d+ of .*",
        after=damage_newest,
        again=r"warning: .*: damaged, its bytes are not those that were saved; removed\n",
    ),
}


def disturbed(stage: Stage, act: str, step: int, before: str = "") -> tuple[int, str, str]:
    """(exit code, output, errors) of the stage, in which `act` happens after `step`; every step is saved."""
    lines = "\n".join(f"    {line}" for line in act.splitlines())
    (stage.root / "harness.py").write_text(HARNESS.format(act=lines, step=step, before=before))
    stage.set(tracking=True, save_minutes=0.0)
    return stage.run(*stage.python("harness.py"))


def has_written(stage: Stage) -> list[str]:
    """What is wrong when a stage that was ended has left an output."""
    written = [path for path in (stage.root / "artifacts/pretrain").rglob("*") if path.is_file()]
    return ["it has written artifacts"] if written else []


def inject(stage: Stage, whole: Whole, fault: Fault, step: int) -> Outcome:
    """Run the stage with the fault after `step`, then without it; `faults` of the outcome is what went wrong."""
    outcome = Outcome()
    code, _, errors = disturbed(stage, fault.act, step, fault.before)
    outcome.unhandled += unhandled(errors)
    lines = errors.strip().splitlines()
    if code != fault.code or not lines or not re.fullmatch(fault.line, lines[-1]) or unhandled(errors):
        outcome.faults.append(f"exit code {code}: {errors[-2000:]}")
        return outcome
    outcome.faults += has_written(stage)
    fault.after(stage)
    code, output, errors = stage.run()
    if code or not re.fullmatch(fault.again, errors) or "goes on after step" not in output:
        outcome.faults.append(f"the second run: exit code {code}: {output[-500:]} {errors[-2000:]}")
        return outcome
    compare(stage, whole, outcome)
    return outcome


def not_finite(stage: Stage, whole: Whole, step: int) -> Outcome:
    """A step, the one after `step`, ruins the weights: the next is not taken, its rows are named, two states stay.

    Started again it ends in the same line; without the state of the step that did it, as one that was never
    disturbed.
    """
    outcome = Outcome()
    ended = [disturbed(stage, "loop._Plan.rate = lambda self, step: 1e30", step), stage.run()]
    line = (
        rf"error: pretrain: step {step + 2}, learning rate \S+: loss \S+, gradient norm \S+; training stopped; "
        r"rows of the step: (pretrain:\d+(?:, pretrain:\d+)*)( and \d+ more)?(; the weights that .*)?\n"
    )
    for code, _, errors in ended:
        outcome.unhandled += unhandled(errors)
        found = re.fullmatch(line, errors)
        if code != 2 or not found or found[1].split(", ") != rows_of(stage, step + 2)[:LISTED]:
            outcome.faults.append(f"exit code {code}: {errors[-2000:]}")
    if f"goes on after step {step + 1:,}" not in ended[1][1]:
        outcome.faults.append(f"the second run: {ended[1][1][-500:]}")
    states = sorted(stage.root.glob(".state/pretrain/*/step-*"))
    if [int(path.name[5:13]) for path in states] != [step, step + 1]:
        outcome.faults.append(f"states: {', '.join(path.name for path in states)}")
    outcome.faults += has_written(stage)
    if outcome.faults:
        return outcome
    states[-1].unlink()
    code, output, errors = stage.run()
    if code or errors or f"goes on after step {step:,}" not in output:
        outcome.faults.append(f"the last run: exit code {code}: {output[-500:]} {errors[-2000:]}")
        return outcome
    (stage.root / ".state/pretrain/best.safetensors").unlink(missing_ok=True)  # it is for a person to look at
    compare(stage, whole, outcome)
    return outcome


def rows_of(stage: Stage, step: int) -> list[str]:
    """The rows that the toy stage reads in a step."""
    values, store = stage.values["pretrain"], TokenStore(stage.root / "artifacts/tokenize/pretrain")
    size = {name: values[name] for name in ("batch_tokens", "accumulation", "epochs")}
    steps = Feed(store, ALONE, seed=stage.values["seed"], **size).steps
    return [f"pretrain:{store.row_numbers[row]}" for batch in steps[step - 1] for row in batch]


def main(
    number: Annotated[int, typer.Option("--number", "-n", help="Injections of each kind.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the steps.")] = 0,
) -> None:
    """Inject each fault `number` times; exit code 1 when one of them was not handled."""
    draw, counts, total, began = random.Random(seed), dict[str, int](), Outcome(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        root = Path(folder)
        inputs = write_toy_inputs(root / "inputs", root)
        whole = run_whole(make_stage(root / "whole", inputs))
        for kind in ("loss not finite", *FAULTS):
            for number_of in range(1, number + 1):
                stage = make_stage(root / f"{kind} {number_of}", inputs)
                step = draw.randint(2, whole.steps - 2)
                fault = FAULTS.get(kind)
                found = inject(stage, whole, fault, step) if fault else not_finite(stage, whole, step)
                counts[kind] = counts.get(kind, 0) + (not found.faults)
                for name in ("faults", "lost_steps", "doubled_metrics", "unhandled"):
                    setattr(total, name, getattr(total, name) + getattr(found, name))
                typer.echo(f"{kind}, step {step}: {'; '.join(found.faults) or 'one line, nothing lost'}")
    record(
        "faults",
        {
            "command": f"python -m tests.reliability.faults --number {number}",
            "injected": number * len(counts),
            "handled": counts,
            **total.figures(began),
        },
    )
    raise typer.Exit(bool(total.faults))


if __name__ == "__main__":
    typer.run(main)
