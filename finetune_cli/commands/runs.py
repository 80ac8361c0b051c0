"""finetune runs: the runs below a directory, sorted."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from finetune_cli.errors import ConfigError, did_you_mean
from finetune_cli.runs.listing import ListedRun, RunList, list_runs
from finetune_cli.tasks import METRICS

logger = logging.getLogger(__name__)

ORDERS = ("newest", "path", "time", "size")


def runs(directory: Path, *, sort: str = "newest", failed: bool = False) -> RunList:
    """The runs at or below `directory`.

    sort: "newest" first, by "path", the longest "time" or largest "size" first, or a metric's name: the best first, and
    runs without that score last. failed: those alone that failed or were killed. Raises ConfigError.
    """
    if sort not in (*ORDERS, "loss", *METRICS):
        raise ConfigError(
            f"--sort {sort}: expected {', '.join(ORDERS)}, loss, or a metric such as f1."
            f"{did_you_mean(sort, [*ORDERS, *METRICS])}"
        )
    listed = list_runs(directory)
    kept = [run for run in listed.runs if run.status in ("failed", "killed") or not failed]
    kept.sort(key=lambda run: run.path)
    if sort in ORDERS:
        kept.sort(key=lambda run: _size(run, sort), reverse=sort != "path")
    else:
        kept.sort(key=lambda run: _badness(run, sort))
        if kept and all(_badness(run, sort)[0] for run in kept):
            there = dict.fromkeys(name for run in kept for name in run.record.scores or {})
            hint = f" They have: {', '.join(there)}." if there else ""
            logger.warning("--sort %s: none of these runs has that score, so they come by their paths.%s", sort, hint)
    return replace(listed, runs=kept)


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
