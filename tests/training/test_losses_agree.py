"""Several labels a row, many classes and focal loss: one training in both loops, however the updates are cut.

Tolerance 1e-5 relative, as in test_loops_agree.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.small_runs import make_rows
from tests.training.test_loops_agree import RELATIVE, largest_differences, train_both

KINDS: dict[str, dict[str, Any]] = {
    "several labels": {
        "kind": "multilabel",
        "num_classes": 5,
        "class_weights": torch.tensor([1.0, 2.0, 3.0, 1.0, 0.5]),
    },
    "several labels, focal": {"kind": "multilabel", "num_classes": 5, "focal_gamma": 2.0},
    "50 classes": {"num_classes": 50},
    "50 classes, focal": {"num_classes": 50, "focal_gamma": 2.0, "class_weights": torch.linspace(0.5, 1.5, 50)},
}


@pytest.mark.parametrize("name", KINDS)
def test_loops_agree_on_every_loss_and_accumulation_equals_one_large_batch(tmp_path: Path, name: str) -> None:
    """29 rows in updates of 8: the last one has 5, so that micro-batches of 3 differ in size."""
    settings = KINDS[name] | {"num_epochs": 1}
    rows = make_rows(29, kind=settings.get("kind", "classification"), num_classes=settings["num_classes"])
    by_trainer, by_hand = train_both(tmp_path, rows=rows, **settings)
    assert all(value <= RELATIVE for value in largest_differences(by_trainer, by_hand).values())
    cut_trainer, cut_by_hand = train_both(tmp_path / "cut", rows=rows, micro_batch_size=3, **settings)
    for whole, cut in ((by_trainer, cut_trainer), (by_hand, cut_by_hand)):
        differences = largest_differences(whole, cut, leave_out="key.bias")  # see test_loops_agree
        assert all(value <= RELATIVE for value in differences.values()), differences
