"""Rows in windows, and micro-batches by tokens: the same loss and curve however an update is cut, in both loops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from finetune_cli.data.prepared import PreparedSplit
from finetune_cli.data.windows import Pool, WindowSettings
from finetune_cli.errors import NotFinishedError
from finetune_cli.tasks import Kind
from tests.training.small_runs import Run, make_rows
from tests.training.test_loops_agree import RELATIVE, largest_differences, train_both
from tests.training.test_resume import assert_same_run, stop_at

LONGEST = 10  # tokens of a window: rows have 3 to 24
STRIDE = 3


def in_windows(rows: PreparedSplit, kind: Kind = "classification", pool: Pool = "mean") -> PreparedSplit:
    """The first token of a row and its last one are in each of its windows, as special tokens are."""
    edges = np.tile([1, 1, LONGEST - 2], (rows.num_rows, 1))
    return replace(rows, edges=edges, windows=WindowSettings(STRIDE, pool, kind, LONGEST))


def cut_by_hand(tokens: list[int]) -> list[list[int]]:
    """8 tokens of the text between the first and the last one, 5 further on each time, the last ones at the end."""
    if len(tokens) <= LONGEST:
        return [tokens]
    first, *text, last = tokens
    starts = [*range(0, len(text) - 8, 5), len(text) - 8]
    return [[first, *text[start : start + 8], last] for start in starts]


def test_an_update_s_loss_is_the_mean_over_rows_of_the_mean_over_their_windows(tmp_path: Path) -> None:
    rows = in_windows(make_rows(20))
    run = Run("accelerate", tmp_path, rows, micro_batch_size=3, num_epochs=1)
    model, losses = run.build().model.eval(), []
    order = run.build().order.update(1)
    assert rows.labels is not None
    for row in order:
        windows = cut_by_hand(rows.tokens(row).tolist())
        label = torch.tensor([int(rows.labels[row])])
        each = [functional.cross_entropy(model(torch.tensor([window])).logits, label).item() for window in windows]
        losses.append(np.mean(each))
    assert run.train().updates()[0, 0] == pytest.approx(np.mean(losses), rel=1e-5)
    records = [record for record in run.history() if record["type"] == "train"]
    assert [record["rows"] for record in records] == [8, 8, 4]
    assert records[0]["tokens"] == sum(
        len(window) for row in order for window in cut_by_hand(rows.tokens(row).tolist())
    )


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_loops_agree_on_windows_of_every_kind(tmp_path: Path, kind: Kind) -> None:
    num_classes, weights = (3, torch.tensor([0.5, 1.0, 2.0])) if kind == "multilabel" else (2, None)
    rows = in_windows(make_rows(29, kind=kind, num_classes=num_classes), kind)
    settings = {"kind": kind, "num_classes": num_classes, "class_weights": weights}
    runs = train_both(tmp_path, rows=rows, micro_batch_size=3, dropout=0.1, **settings)
    assert len(runs[0].updates()) == 8
    assert all(value <= RELATIVE for value in largest_differences(*runs).values())
    evaluations = [[record for record in run.history() if record["type"] == "eval"] for run in runs]
    assert evaluations[0] == evaluations[1]


@pytest.mark.parametrize("rows", [make_rows(29), in_windows(make_rows(29))], ids=["whole", "windows"])
def test_an_update_cut_by_rows_by_tokens_or_packed_is_the_same(tmp_path: Path, rows: PreparedSplit) -> None:
    def train(name: str, loop: str = "accelerate", **settings: Any) -> Run:
        return Run(loop, tmp_path / name, rows, **{"micro_batch_size": "auto", **settings}).train()

    whole = train("whole", micro_batch_size=8)
    for name, others in {
        "by two": {"micro_batch_size": 2},
        "by tokens": {"micro_batch_tokens": 40},
        "by tokens, trainer": {"micro_batch_tokens": 40, "loop": "trainer"},
        "packed": {"packing": True},
    }.items():
        differences = largest_differences(whole, train(name, **others), leave_out="key.bias")
        assert all(value <= RELATIVE for value in differences.values()), (name, differences)


def test_micro_batches_by_tokens_bound_what_the_model_is_given(tmp_path: Path) -> None:
    run = Run("trainer", tmp_path, make_rows(29), micro_batch_size="auto", micro_batch_tokens=40, num_epochs=1)
    shapes: list[tuple[bool, tuple[int, ...]]] = []

    def look(module: Any, args: Any, options: Any) -> None:
        shapes.append((module.training, tuple(options["input_ids"].shape)))

    run.tamper = lambda parts: parts.model.register_forward_pre_hook(look, with_kwargs=True) and None
    run.train()
    assert max(rows * tokens for _, (rows, tokens) in shapes) <= 40
    assert {training for training, _ in shapes} == {True, False}
    assert len({rows for training, (rows, _) in shapes if training}) > 1


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
@pytest.mark.parametrize("tokens", [None, 40])
def test_a_stopped_run_on_windows_continues_bit_for_bit(tmp_path: Path, loop: str, tokens: int | None) -> None:
    """In the middle of an epoch, when updates have different numbers of micro-batches."""
    rows, size = in_windows(make_rows(29)), 3 if tokens is None else "auto"
    settings: dict[str, Any] = {"rows": rows, "micro_batch_size": size, "micro_batch_tokens": tokens, "dropout": 0.1}
    undisturbed = Run(loop, tmp_path / "undisturbed", **settings).train()
    with pytest.raises(NotFinishedError, match="after update 6 of 8"):
        Run(loop, tmp_path / "stopped", **settings, **stop_at(6)).train()
    assert_same_run(undisturbed, Run(loop, tmp_path / "stopped", **settings, resume=True).train())


def test_rows_that_fit_train_bit_for_bit_as_without_windows(tmp_path: Path) -> None:
    rows = make_rows(29)
    loose = replace(in_windows(rows), windows=WindowSettings(STRIDE, "mean", "classification", 24))
    runs = [
        Run("trainer", tmp_path / name, kept, micro_batch_size=3, dropout=0.1).train()
        for name, kept in (("plain", rows), ("windows", loose))
    ]
    assert_same_run(*runs)
