"""What every part of the benchmark shares: a machine's settings, one process measured, pairs of figures.

Nothing heavy is imported here or in the modules that use it: a child's peak memory counts what its parent held when it
was started, and the parent's threads would take time from what is measured.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent
POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Finished:
    """A process that ended well: wall-clock seconds, largest resident size, standard output."""

    seconds: float
    peak_bytes: int
    output: str


@dataclass(frozen=True)
class Bench:
    """What all parts of one benchmark share. `work`: a scratch directory; `environment`: of each process; `gpu`: there
    is one."""

    model: Path
    work: Path
    repeats: int
    updates: int
    predict_rows: int
    generated_rows: tuple[int, ...]
    task: str
    fast: tuple[str, ...]
    environment: dict[str, str]
    gpu: bool = False

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A directory that is deleted afterwards: a training leaves hundreds of megabytes."""
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=self.work) as directory:
            yield Path(directory)

    def run(self, command: Sequence[str | Path], **extra: str) -> Finished:
        """Run a command to its end. Raises RuntimeError with its last lines when it fails."""
        words = [str(word) for word in command]
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            began = time.perf_counter()
            process = subprocess.Popen(words, stdout=output, stderr=errors, env=self.environment | extra)
            _, status, usage = os.wait4(process.pid, 0)  # the usage of this child alone
            seconds = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            for file in (output, errors):
                file.seek(0)
            if process.returncode != 0:
                raise RuntimeError(f"{' '.join(words)}: exit code {process.returncode}\n{errors.read()[-2000:]}")
            unit = 1 if sys.platform == "darwin" else 1024
            return Finished(seconds, usage.ru_maxrss * unit, output.read())

    def part(self, name: str, *arguments: str | Path, **extra: str) -> dict[str, Any]:
        """What a part of parts.py measured in a process of its own."""
        done = self.run([sys.executable, SCRIPTS / "parts.py", name, *arguments], **extra)
        found: dict[str, Any] = json.loads(done.output.splitlines()[-1])
        return found

    def seconds_until(self, command: Sequence[str | Path], reached: Callable[[], bool]) -> float:
        """Seconds from the start of a process until `reached`; the process is then killed."""
        words = [str(word) for word in command]
        with tempfile.TemporaryFile("w+") as log:
            began = time.perf_counter()
            with subprocess.Popen(words, stdout=log, stderr=log, env=self.environment) as process:
                while not reached():
                    if process.poll() is not None:
                        log.seek(0)
                        raise RuntimeError(f"{' '.join(words)} ended before its first update\n{log.read()[-2000:]}")
                    time.sleep(POLL_SECONDS)
                seconds = time.perf_counter() - began
                process.kill()
        return seconds

    def config(self, directory: Path, data: Path, *, task: str, **training: Any) -> Path:
        """A config that trains this benchmark's model on `data`, with nothing but the length of the run chosen."""
        file = directory / "config.yaml"
        return write_config(file, self.model, data, directory / "run", task=task, training=training)


@dataclass(frozen=True)
class Pair:
    """A line of the table: finetune's figure and the reference's, one of each per turn.

    reference: empty where the goal is about finetune's figure itself. higher_is_better: of the figure, so the ratio
    finetune / reference has to reach the goal, or to stay below it.
    """

    name: str
    what: str
    unit: str
    ours: list[float]
    reference: list[float] = field(default_factory=list)
    goal: float | None = None
    higher_is_better: bool = True

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ours) / statistics.median(self.reference) if self.reference else None

    @property
    def ratios(self) -> list[float]:
        """Turn by turn, so that a machine that slows down slows both."""
        return [ours / reference for ours, reference in zip(self.ours, self.reference, strict=False)]

    @property
    def reached(self) -> bool | None:
        value = self.ratio if self.reference else statistics.median(self.ours)
        if self.goal is None or value is None:
            return None
        return value >= self.goal if self.higher_is_better else value <= self.goal

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "finetune": self.ours,
            "reference": self.reference,
            "ratio": self.ratio,
            "ratio_by_turn": self.ratios,
            "goal": self.goal,
            "reached": self.reached,
        }


def write_config(file: Path, model: Path, data: Path, output: Path, *, task: str, **sections: Any) -> Path:
    """The config of a run that trains this model on these rows; sections: what else it says."""
    content = {
        "task": task,
        "model": {"name_or_path": str(model)},
        "data": {"path": str(data), "name": None},
        "output_dir": str(output),
        **sections,
    }
    file.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
    return file


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def write_rows(file: Path, lines: Sequence[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def evenly(lines: Sequence[str], count: int) -> list[str]:
    """`count` lines from all over the file, repeated from the start when there are fewer."""
    if count >= len(lines):
        return [lines[place % len(lines)] for place in range(count)]
    return [lines[place * len(lines) // count] for place in range(count)]


def read_lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()
