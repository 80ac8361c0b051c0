"""Reading what a run has written, and comparing two runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from finetune_cli.config.fields import RunConfig
from finetune_cli.records.training import TrainReport
from finetune_cli.runs.run_dir import RunDir

LOOPS = ["trainer", "accelerate"]


@dataclass(frozen=True)
class Trained:
    """A finished run: its config as a file and as an object, its directory, and what `train` returned."""

    file: Path
    config: RunConfig
    run: RunDir
    report: TrainReport


@dataclass(frozen=True)
class Answer:
    """How a command ended: its exit code and its two streams."""

    code: int
    stdout: str
    stderr: str


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def history(run: Path, record_type: str) -> list[dict[str, Any]]:
    """The lines of one type, "train" or "eval", without the clock."""
    records = [record for record in read_jsonl(run / "history.jsonl") if record["type"] == record_type]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def saved_scores(run: Path, split: str = "validation") -> dict[str, Any]:
    return json.loads((run / "eval" / split / "metrics.json").read_text(encoding="utf-8"))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def same_weights(first: Path, second: Path) -> bool:
    left, right = weights(first), weights(second)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


SEARCH: dict[str, Any] = {
    "parameters": {
        "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "training.batch_size": [8, 16],
    },
    "trials": 3,
}
# Sections of a config whose trials take a moment.
SMALL: dict[str, Any] = {
    "training": {"max_steps": 4},
    "evaluation": {"every": 2, "bootstrap": {"samples": 50}},
    "checkpointing": {"every": 1},
}
