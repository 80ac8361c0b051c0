"""What the steps of the GPU check share: small runs of a new BERT on the shipped sentences, and comparisons of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from finetune_cli.records.training import Listener, TrainReport
from scripts.compare_runs import read_history, relative_difference
from scripts.gpu.check import PYTHONPATH, ROOT
from scripts.models.families import build

Step = Callable[[Path], dict[str, Any]]

ON_GPU = torch.cuda.is_available()
FP32, REDUCED = 1e-3, 5e-2  # relative differences: kernels add in another order; bf16 has three digits
LOOPS = ("trainer", "accelerate")
SIZES = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256}


class Skipped(Exception):
    """A step that this machine has nothing for."""


def on_a_gpu(why: str = "needs a GPU") -> Callable[[Step], Step]:
    """A step that is skipped on a CPU."""

    def on_gpu_alone(step: Step) -> Step:
        @wraps(step)
        def or_skipped(directory: Path) -> dict[str, Any]:
            if not ON_GPU:
                raise Skipped(why)
            return step(directory)

        return or_skipped

    return on_gpu_alone


def write_config(
    directory: Path,
    *,
    model: str | None = None,
    dropout: float = 0.0,
    evaluate_every: int = 6,
    save_every: int = 3,
    **training: Any,
) -> Path:
    """directory/config.yaml: 12 updates of 16 rows in fp32, or as `training` says. Its run: directory/run.

    model: a family, see scripts.models.families, of which a tiny model is built; None: a BERT.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if model is not None:
        part: dict[str, Any] = {"name_or_path": str(build(model, directory / "family"))}
    else:
        part = {"from_scratch": SIZES, "dropout": dropout, "attention_dropout": dropout}
    settings = {
        "task": "sst2",
        "model": part,
        "data": {"path": "builtin:sst2-mini", "max_length": 64},
        "training": {"max_steps": 12, "batch_size": 16, "learning_rate": 1e-3, "precision": "fp32", **training},
        "evaluation": {"every": evaluate_every, "metrics": ["accuracy"], "bootstrap": {"samples": 0}},
        "checkpointing": {"every": save_every, "keep": 10},
        "output_dir": str(directory / "run"),
    }
    file = directory / "config.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return file


def trained(directory: Path, *, listen: Listener = lambda event: None, **settings: Any) -> TrainReport:
    report = train(load_config(write_config(directory, **settings)), offline=True, listen=listen)
    assert isinstance(report, TrainReport)
    return report


def curve(directory: Path) -> list[tuple[float | None, float | None]]:
    """Loss and gradient norm of each update."""
    return [(line["loss"], line["grad_norm"]) for line in read_history(directory / "run") if line["type"] == "train"]


def largest_difference(first: Path, second: Path) -> float:
    """The largest relative difference of two runs in loss and gradient norm; infinite when only one is a number."""
    ours, theirs = curve(first), curve(second)
    assert len(ours) == len(theirs), f"{len(ours)} and {len(theirs)} updates"
    return max(relative_difference(a, b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True))


def alike(first: Path, second: Path, within: float) -> dict[str, float]:
    """How far two runs' curves are apart, which must be within this."""
    difference = largest_difference(first, second)
    assert difference <= within, f"the curves differ by {difference}"
    return {"difference": difference}


def same_weights(first: Path, second: Path) -> bool:
    ours, theirs = (load_file(place / "run" / "model" / "model.safetensors") for place in (first, second))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def started(arguments: list[str], **environment: str) -> subprocess.Popen[str]:
    """A Python process of this checkout; stdout and stderr together."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": PYTHONPATH, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )


def finished(*processes: subprocess.Popen[str], seconds: float = 120) -> None:
    """Wait for processes. Raises AssertionError, with the last lines, when one fails; none is left behind."""
    try:
        outputs = [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, "\n".join(output.splitlines()[-8:])
