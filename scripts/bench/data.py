"""What the benchmarks train on: real GLUE rows where FINETUNE_GLUE_DIR names them, else the package's sentences."""

from __future__ import annotations

import os
from pathlib import Path

from finetune_cli.models.resolving import resolve_model

SAMPLES = Path(__file__).parents[2] / "finetune_cli" / "samples"


def task_data(task: str) -> tuple[Path, str]:
    """The directory with train.jsonl and validation.jsonl of `mrpc` or `sst2`, and what to call it in a table."""
    real = os.environ.get("FINETUNE_GLUE_DIR")
    if real:
        return Path(real).absolute() / task, f"real {task} rows"
    return SAMPLES / f"{task}-mini", f"the package's own {task}-mini sample (FINETUNE_GLUE_DIR is not set)"


def model_directory(name: str) -> Path:
    """Where the model's files are; both sides get the same directory."""
    return resolve_model(name)
