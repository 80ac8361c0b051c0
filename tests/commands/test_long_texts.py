"""Texts longer than the model, from config to files: what is found in them, and that rows are counted, not windows."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands.run_files import Trained, saved_scores
from tests.conftest import FILLERS, NEGATIVE, POSITIVE, write_rows

TrainRun = Callable[..., Trained]
WINDOWS = "data.long_texts={windows: {stride: 4}}"
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64, "max_position_embeddings": 24}
SCRATCH = {"from_scratch": {"vocab_size": 200, **SIZES}, "dropout": 0.0, "attention_dropout": 0.0}
HEAD_TAIL = "data.long_texts={head_tail: 0.25}"


def documents(folder: Path, rows: int, *, part: tuple[int, int], words: int = 80, seed: int = 0) -> Path:
    """Files whose texts say in some of their words, those between the numbers of `part`, which class they are of."""
    generator = random.Random(seed)
    folder.mkdir()
    for split, count in (("train", rows), ("validation", rows // 2)):
        made = []
        for number in range(count):
            text, label = generator.choices(FILLERS, k=words), number % 2
            for place in generator.sample(range(*part), 6):
                text[place] = generator.choice((NEGATIVE, POSITIVE)[label])
            made.append({"sentence": " ".join(text), "label": label, "idx": f"{split}-{number}"})
        write_rows(folder / f"{split}.jsonl", made)
    return folder


def accuracy(trained: Trained) -> float:
    return float(saved_scores(trained.run.path)["metrics"]["accuracy"]["value"])


@pytest.fixture
def found(tmp_path: Path, train_run: TrainRun) -> Callable[..., float]:
    """found(part, setting) -> accuracy: of documents of 80 words, of which the model takes 22 at once."""

    def train(part: tuple[int, int], setting: str) -> float:
        data = tmp_path / f"data-{part[0]}"
        if not data.exists():
            documents(data, 80, part=part)
        settings: dict[str, Any] = {
            "model": SCRATCH,
            "data": {"path": str(data), "max_length": 24},
            "training": {"num_epochs": 4, "batch_size": 4, "learning_rate": 5e-3},
            "evaluation": {"baseline": False},
        }
        return accuracy(train_run(tmp_path / f"{part[0]} {len(setting)}", setting, **settings))

    return train


def test_windows_find_what_truncation_cuts_off(found: Callable[..., float]) -> None:
    """Of 40 rows of two equal classes; at chance 95 % have at most 26 right."""
    assert found((25, 60), "data.long_texts=truncate") <= 0.65
    assert found((25, 60), WINDOWS) >= 0.95


def test_head_tail_finds_what_is_at_the_end(found: Callable[..., float]) -> None:
    assert found((66, 80), "data.long_texts=truncate") <= 0.65
    assert found((66, 80), HEAD_TAIL) >= 0.95
