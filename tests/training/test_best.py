"""Which evaluation is the best so far: decided once, by the monitor, and carried in its records."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from finetune_cli.display.progress import Lines, TrainingDisplay
from finetune_cli.errors import NotFinishedError
from finetune_cli.records.training import EvalRecord, TrainingEvent
from finetune_cli.training.monitor import Scores
from finetune_cli.training.progress import BestRule, Cadence
from tests.training.small_runs import Run, make_rows
from tests.training.test_lag import small_monitor
from tests.training.test_resume import stop_at


def marked(directory: Path, scores: list[dict[str, Scores]], *, metric: str, greater_is_better: bool) -> list[str]:
    """Step and split of the evaluations marked as best, when each of as many updates is scored."""
    heard: list[TrainingEvent] = []
    turns = iter(scores)
    monitor = small_monitor(
        directory,
        SimpleNamespace(num_processes=1, is_main_process=True, scaler=None),
        [],
        cadence=Cadence(len(scores), 1, None, None, None),
        best_rule=BestRule(metric, greater_is_better=greater_is_better),
        evaluate=lambda *_: next(turns),
        listen=heard.append,
    )
    with monitor:
        for _ in scores:
            monitor.after_update(loss=torch.tensor(1.0), grad_norm=torch.tensor(1.0), learning_rate=0.1)
    return [f"{event.step} {event.split}" for event in heard if isinstance(event, EvalRecord) and event.best]


def test_the_earliest_of_equals_is_marked_and_nan_never_is_after_a_number(tmp_path: Path) -> None:
    scores = [{"validation": (0.4, {"f1": value})} for value in (0.5, 0.7, 0.7, math.nan, 0.6, 0.8)]
    found = marked(tmp_path, scores, metric="f1", greater_is_better=True)
    assert found == ["1 validation", "2 validation", "6 validation"]


def test_less_is_better_for_a_loss(tmp_path: Path) -> None:
    scores = [{"validation": (loss, {"f1": f1})} for loss, f1 in ((0.6, 0.5), (0.7, 0.9), (0.5, 0.1))]
    assert marked(tmp_path, scores, metric="loss", greater_is_better=False) == ["1 validation", "3 validation"]


def test_a_first_score_that_is_undefined_is_the_best_until_another_comes(tmp_path: Path) -> None:
    """As the checkpoints have it: a finished run has a model."""
    scores = [{"validation": (0.4, {"pearson": value})} for value in (math.nan, math.nan, 0.1)]
    assert marked(tmp_path, scores, metric="pearson", greater_is_better=True) == ["1 validation", "3 validation"]


def test_the_first_split_alone_decides_and_is_marked(tmp_path: Path) -> None:
    scores = [
        {"validation": (0.4, {"f1": first}), "validation_other": (0.4, {"f1": second})}
        for first, second in ((0.5, 0.1), (0.4, 0.9), (0.6, 0.2))
    ]
    found = marked(tmp_path, scores, metric="f1", greater_is_better=True)
    assert found == ["1 validation", "3 validation"]


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_a_continued_run_knows_of_the_better_evaluation_before_it(tmp_path: Path, loop: str) -> None:
    """So does its display, whose process has not seen that evaluation."""
    settings: dict[str, Any] = {"rows": make_rows(16), "num_epochs": 3}
    with pytest.raises(NotFinishedError):
        Run(loop, tmp_path, **settings, **stop_at(3), loss_of=lambda: 0.5).train()
    said: list[str] = []
    later = iter([0.6, 0.4])
    with TrainingDisplay(Lines(said.append)) as listen:
        Run(loop, tmp_path, **settings, listen=listen, loss_of=lambda: next(later), resume=True).train()
    shown = [line for line in said if "validation" in line]
    assert [(line.split()[1], line.endswith("* best")) for line in shown] == [("4", False), ("6", True)]
