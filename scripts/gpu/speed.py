"""BERT-base on one GPU beside the plain Trainer script and `pipeline`, all in one process: about two minutes.

    python -m scripts.gpu.speed --model DIRECTORY [--out DIRECTORY] [--updates 80]

scripts/bench/bench.py measures the same in a process for each side and turn, which takes several times as long. The
model: any, or an untrained one by scripts/bench/base.py. Two epochs over the same rows on each side; the second is
timed. Each line is printed and written to speed.json when it is known. On a CPU it runs, too, to be tried with a tiny
model.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import runpy
import statistics
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from scripts.bench import parts
from scripts.bench.data import task_data
from scripts.bench.measure import SCRIPTS, evenly, read_lines, write_config, write_rows
from scripts.compare_runs import read_history
from scripts.gpu.small import ON_GPU

NEVER, VALIDATION_ROWS, PREDICT_ROWS = 10**6, 64, 8000 if ON_GPU else 1000
LARGE_BATCH = 256


@dataclass
class Speed:
    """What the measurements share, and what they found."""

    model: Path
    work: Path
    out: Path
    updates: int
    found: dict[str, Any] = field(default_factory=dict)

    def note(self, name: str, **facts: Any) -> None:
        self.found[name] = facts
        sys.stdout.write(f"{name:<46}{'  '.join(f'{key} {value:,.4g}' for key, value in facts.items())}\n")
        sys.stdout.flush()
        (self.out / "speed.json").write_text(json.dumps(self.found, indent=2) + "\n", encoding="utf-8")

    def rows(self, task: str, batch_size: int, updates: int) -> tuple[Path, int]:
        """A directory with the rows of so many updates, and their real tokens."""
        source, place = task_data(task)[0], self.work / f"{task}-{batch_size}"
        if not place.exists():
            write_rows(place / "train.jsonl", evenly(read_lines(source / "train.jsonl"), updates * batch_size))
            write_rows(place / "validation.jsonl", evenly(read_lines(source / "validation.jsonl"), VALIDATION_ROWS))
        return place, parts.tokens(Namespace(model=self.model, data=place / "train.jsonl"))["tokens"]

    def training(self, task: str, side: str, batch_size: int = 32, **settings: Any) -> None:
        """side: "plain fp32", "plain bf16", or how to call finetune with these settings."""
        updates = self.updates if batch_size == 32 else self.updates // 6  # as many as MRPC has of 256 rows
        data, tokens = self.rows(task, batch_size, updates)
        clear()
        with tempfile.TemporaryDirectory(dir=self.work) as directory:
            if side.startswith("plain"):
                times = self.plain(task, data, Path(directory), batch_size, bf16=side.endswith("bf16"))
            else:
                times = self.ours(task, data, Path(directory), batch_size, settings)
        if len(times) != 2 * updates:
            raise RuntimeError(f"{side}: {len(times)} updates were done; expected {2 * updates}")
        second = times[updates - 1 :]
        steps = [after - before for before, after in pairwise(second)]
        facts = {
            "rows_per_second": updates * batch_size / sum(steps),
            "median_ms": 1e3 * statistics.median(steps),
            "tokens_per_second": tokens / sum(steps),
            "peak_MB": torch.cuda.max_memory_reserved() / 1e6 if ON_GPU else 0.0,
        }
        self.note(f"{task}, batch {batch_size}, {side}", **facts)

    def plain(self, task: str, data: Path, directory: Path, batch_size: int, *, bf16: bool) -> list[float]:
        given, sys.argv = sys.argv, ["reference.py", "--model", str(self.model), "--data", str(data)]
        sys.argv += ["--output", str(directory), "--task", task, "--epochs", "2", "--batch-size", str(batch_size)]
        sys.argv += ["--bf16"] * bf16
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                runpy.run_path(str(SCRIPTS / "reference.py"), run_name="__main__")
        finally:
            sys.argv = given
        seconds: list[float] = json.loads((directory / "updates.json").read_text(encoding="utf-8"))["seconds"]
        return seconds

    def ours(self, task: str, data: Path, run: Path, batch_size: int, settings: dict[str, Any]) -> list[float]:
        file = write_config(
            run / "config.yaml",
            self.model,
            data,
            run / "run",
            task=task,
            training={"batch_size": batch_size, "num_epochs": 2, **settings},
            evaluation={"every": NEVER, "bootstrap": {"samples": 0}, "baseline": False},
            checkpointing={"every": NEVER},
        )
        train(load_config(file), offline=True)
        self.trained = run / "run"
        return [record["seconds"] for record in read_history(run / "run") if record["type"] == "train"]

    def predictions(self) -> None:
        """`predict` and `pipeline` in bf16, on the same rows of SST-2."""
        file, output = self.work / "unlabelled.jsonl", self.work / "answers.jsonl"
        write_rows(file, evenly(read_lines(task_data("sst2")[0] / "train.jsonl"), PREDICT_ROWS))
        data, _ = self.rows("sst2", 32, self.updates)
        with tempfile.TemporaryDirectory(dir=self.work) as directory:
            self.ours("sst2", data, Path(directory), 32, {"max_steps": 2})
            clear()
            found = parts.predict(Namespace(model=self.trained, data=file, output=output))
            self.note("predict", rows_per_second=found["rows"] / found["seconds"])
            clear()
            sizes = [32, 128, 512]
            options = Namespace(model=self.trained / "model", data=file, output=output, batch_sizes=sizes)
            found = parts.pipeline(options)
            for size, seconds in found["seconds"].items():
                self.note(f"pipeline, batch size {size}", rows_per_second=found["rows"] / seconds)

    def shares(self) -> None:
        """Of torch.mm: 6 for each parameter outside the embeddings and each real token, as in bench.py."""
        clear()
        peak = parts.matmul(Namespace())["gflops"]
        parameters = parts.parameters(Namespace(model=self.model))["parameters"]
        self.note("torch.mm", TFLOPs=peak / 1e3)
        for name, facts in list(self.found.items()):
            if "tokens_per_second" in facts and "plain" not in name:
                self.note(f"share: {name}", of_torch_mm=6 * parameters * facts["tokens_per_second"] / 1e9 / peak)


def clear() -> None:
    gc.collect()
    if ON_GPU:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("."), help="where speed.json goes (default: here)")
    parser.add_argument("--updates", type=int, default=80, help="of 32 rows in an epoch (default 80)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="finetune-speed-") as work:
        it = Speed(options.model, Path(work), options.out, options.updates)
        steps: list[Callable[[], None]] = [
            *(
                lambda task=task, side=side: it.training(task, side)  # type: ignore[misc]
                for task in ("mrpc", "sst2")
                for side in ("plain fp32", "default", *(["plain bf16"] if ON_GPU else []))
            ),
            lambda: it.training("mrpc", "loop accelerate", loop="accelerate"),
            lambda: it.training("mrpc", "cuda_graphs: false", cuda_graphs=False),
            it.predictions,
            lambda: it.training("mrpc", "compile: true", compile=True),
            lambda: it.training("mrpc", "default", LARGE_BATCH),
            lambda: it.training("mrpc", "compile: true", LARGE_BATCH, compile=True),
            it.shares,
        ]
        for step in steps:
            step()


if __name__ == "__main__":
    main()
