"""Two real updates on several processes, beside the same two on one: do they follow the same curve here?"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from finetune_cli.errors import RunFailedError
from finetune_cli.records.doctor import Trial
from finetune_cli.runs.run_dir import RunDir

TIMEOUT_SECONDS = 300
TOLERANCE = 1e-4  # relative; sums over processes differ in their last digits (4e-6 was the most on CPUs)
ROWS_PER_PROCESS = 4
CONFIG = """\
task: sst2
model: {{from_scratch: {{}}, dropout: 0.0, attention_dropout: 0.0}}
data: {{path: 'builtin:sst2-mini', max_length: 64}}
training: {{max_steps: 2, batch_size: {rows}, learning_rate: 1e-3, precision: fp32}}
evaluation: {{metrics: [accuracy], bootstrap: {{samples: 0}}}}
"""


def try_processes(processes: int) -> Trial:
    """Train a small new model for two updates with `--num-processes`, and compare loss and gradient norm with one.

    It works in a temporary directory and asks nothing of the network.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="finetune-doctor-") as name:
        directory = Path(name)
        config = directory / "config.yaml"
        config.write_text(CONFIG.format(rows=ROWS_PER_PROCESS * processes), encoding="utf-8")
        curves = []
        for count in dict.fromkeys((1, processes)):
            try:
                curves.append(_curve(config, directory, count))
            except RunFailedError as err:
                return Trial(processes, time.monotonic() - began, error=str(err), one_fails=count == 1)
    difference = largest_difference(curves[0], curves[-1])
    error = None if difference <= TOLERANCE else f"the curve of {processes} processes is not that of one"
    return Trial(processes, time.monotonic() - began, difference, error)


def largest_difference(first: list[float], second: list[float]) -> float:
    """The largest relative difference of two lists; infinite when one has other entries or a value is not finite."""
    if len(first) != len(second) or not all(map(math.isfinite, [*first, *second])):
        return math.inf
    return max(abs(a - b) / max(abs(a), abs(b), 1e-12) for a, b in zip(first, second, strict=True))


def run_python(*arguments: str, timeout: float, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments and further variables of the environment, without any input.

    Raises subprocess.TimeoutExpired when it had to be killed; what it launched dies with it, see system.launching.
    """
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def _curve(config: Path, directory: Path, processes: int) -> list[float]:
    """Loss and gradient norm of each update. Raises RunFailedError with the last line of what the training said."""
    run = directory / f"run-{processes}"
    command = ["finetune_cli", "train", str(config), "--output-dir", str(run), "--offline", "-q"]
    command += ["--num-processes", str(processes)] if processes > 1 else []
    try:
        process = run_python("-m", *command, timeout=TIMEOUT_SECONDS, FINETUNE_CACHE=str(directory / "cache"))
    except subprocess.TimeoutExpired:
        raise RunFailedError(f"training on {processes} processes did not end within {TIMEOUT_SECONDS} s") from None
    if process.returncode:
        lines = [line for line in process.stderr.splitlines() if line.strip()]
        message = next((line for line in reversed(lines) if line.startswith("error:")), "".join(lines[-1:]))
        noun = "process" if processes == 1 else "processes"
        raise RunFailedError(f"training on {processes} {noun} failed: {message.removeprefix('error: ')}")
    history = RunDir(run).read_history()
    return [line[key] for line in history if line["type"] == "train" for key in ("loss", "grad_norm")]
