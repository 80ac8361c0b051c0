"""The four verbs as functions: `from finetune_cli import prepare, train, evaluate, predict, load_config`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_cli import evaluate, load_config, predict, prepare, train


def test_the_whole_job_from_python(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    config = load_config(write_config(tmp_path), ["training.num_epochs=2"])
    prepared = prepare(config)
    assert {name: split.num_rows for name, split in prepared.splits.items()} == {"train": 48, "validation": 12}
    seen: list[str] = []
    report = train(config, listen=lambda event: seen.append(type(event).__name__))
    assert seen == ["TrainingStarted", *(["StepRecord"] * 6 + ["EvalRecord"]) * 2]
    assert report.steps == 12
    scores = evaluate(report.run_dir)
    assert scores == report.evaluations[0]
    answers = list(predict(report.run_dir, ["a good film", "a bad meal"]))
    assert [answer["id"] for answer in answers] == [0, 1]
    rows = str(tmp_path / "data" / "validation.jsonl")
    assert len(list(predict(str(report.run_dir), rows))) == 12
    assert evaluate(str(report.run_dir), data=rows).n == 12


def test_predicting_nothing_gives_nothing(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    train(load_config(write_config(tmp_path)))
    assert list(predict(tmp_path / "run", [])) == []
    assert list(predict(tmp_path / "run" / "model", [])) == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    import finetune_cli

    assert {"evaluate", "load_config", "predict", "prepare", "train"} <= set(dir(finetune_cli))
    with pytest.raises(AttributeError, match="has no attribute 'compare_all'"):
        _ = finetune_cli.compare_all
