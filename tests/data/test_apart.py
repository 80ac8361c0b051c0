"""A run directory among the data is refused: its history and predictions would be taken as rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_cli.data.apart import require_apart
from finetune_cli.errors import ConfigError

AMONG: list[tuple[str, str, dict[str, Any]]] = [
    ("data", "data", {}),
    ("./data/", "data", {}),
    ("data/test", "data", {}),
    ("data/validation_hard", "data", {}),
    ("data/dev/run", "data", {}),
    ("data/data/train", "data", {}),
    ("reviews", "reviews/*.jsonl", {}),
    ("reviews/run", "reviews/*/*.jsonl", {}),
    ("reviews/run", "reviews/**/*.jsonl", {}),
    ("reviews/run", "reviews", {"train": "**/*.jsonl"}),
    ("user/name", "user/name", {}),  # of the Hub: the folder would hide it from the next run
]
APART: list[tuple[str, str, dict[str, Any]]] = [
    ("runs/a", "data", {}),
    ("runs/a", ".", {}),
    ("data/runs/a", "data", {}),
    ("data", "data/train.csv", {"validation": 0.2}),
    ("data2", "data", {}),
    ("runs", "reviews/*.jsonl", {}),
    ("reviews/run", "reviews/*.jsonl", {}),
    ("reviews", "reviews/part-*.jsonl", {}),
    ("runs/name", "user/name", {}),
]


@pytest.mark.parametrize(("output_dir", "data_path", "splits"), AMONG)
def test_a_run_among_the_data_is_refused(output_dir: str, data_path: str, splits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"output_dir: .* would be taken as rows. Name another directory"):
        require_apart(output_dir, data_path, splits, None)


@pytest.mark.parametrize(("output_dir", "data_path", "splits"), APART)
def test_a_run_beside_the_data_is_not(output_dir: str, data_path: str, splits: dict[str, Any]) -> None:
    require_apart(output_dir, data_path, splits, "bert-base-uncased")
    require_apart(str(Path(output_dir).absolute()), data_path, splits, None)


def test_a_run_that_is_called_like_the_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="output_dir: bert-base-uncased is the name of the model too"):
        require_apart("bert-base-uncased", "data", {}, "bert-base-uncased")
