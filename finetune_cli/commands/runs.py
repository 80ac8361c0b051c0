"""finetune runs: the runs below a directory, sorted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from finetune_cli.errors import ConfigError, did_you_mean
from finetune_cli.runs.listing import ListedRun, RunList, list_runs
from finetune_cli.tasks import METRICS

ORDERS = ("newest", "path", "time", "size")


def runs(directory: Path, *, sort: str = "newest", failed: bool = False) -> RunList:
    """The runs at or below `directory`.

    sort: "newest" first, by "path", the longest "time" or largest "size" first, or a metric's name: the best first, and
    runs without that score last. failed: those that failed alone. Raises ConfigError.
    """
    if sort not in (*ORDERS, "loss", *METRICS):
        raise ConfigError(
            f"--sort {sort}: expected {', '.join(ORDERS)}, loss, or a metric such as f1."
            f"{did_you_mean(sort, [*ORDERS, *METRICS])}"
        )
    found = list_runs(directory)
    kept = [run for run in found.runs if run.record.status == "failed" or not failed]
    kept.sort(key=lambda run: run.path)
    if sort in ORDERS:
        kept.sort(key=lambda run: _size(run, sort), reverse=sort != "path")
    else:
        kept.sort(key=lambda run: _badness(run, sort))
    return replace(found, runs=kept)


def _size(run: ListedRun, order: str) -> str | float:
    """What a run is sorted by; a run that does not say comes after the others."""
    record = run.record
    if order == "path":
        return run.path
    if order == "newest":
        return record.started or ""
    if order == "size":
        return record.size_bytes or 0
    return record.training_seconds or record.seconds or 0.0


def _badness(run: ListedRun, metric: str) -> tuple[bool, float]:
    score = (run.record.scores or {}).get(metric)
    if score is None or score.value is None:
        return True, 0.0
    higher_is_better = metric != "loss" and METRICS[metric].greater_is_better
    return False, -score.value if higher_is_better else score.value
