"""The processes of a training, and the settings that make it repeatable."""

from __future__ import annotations

import os

ROWS_WORTH_A_WORKER = {"cpu": 20_000, "cuda": 1_000}
"""By kind of device: so many take as long as a worker's start, which imports torch (3 to 5 s). A GPU waits while
this process decodes, 305 pictures of 640 x 480 a second; on a CPU decoding is a small share of a step, and 20,000
drawn scenes take 6 s of a whole training (docs/performance.md, "The data loader")."""


def loader_workers(workers: int, threads: int, device: str, rows: int, trainings: int = 1) -> int:
    """Processes that prepare batches of `rows` rows in all; 0: the training's own process does.

    Few rows are prepared sooner than a process starts. On a CPU only the cores that the training leaves over are
    taken. `trainings`: processes of this training on this machine, which share both.
    """
    from minivlm.hardware import cores

    if rows < ROWS_WORTH_A_WORKER[kind := device.partition(":")[0]]:
        return 0
    spare = workers if kind == "cuda" else min(workers, cores() - trainings * threads)
    return max(0, spare // trainings)


def seed_everything(seed: int, threads: int) -> None:
    """Seed Python, NumPy and torch, fix the number of threads and ask for deterministic kernels.

    The same seed and threads then give the same bytes on the same machine. Call it before CUDA is first used.
    """
    import random

    import numpy as np
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is repeatable only with it
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # On by default with the above, to find reads of what was never written: it writes every torch.empty twice.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010  (unknown to mypy)
