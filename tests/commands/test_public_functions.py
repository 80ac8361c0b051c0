"""The four verbs as functions: `from finetune_cli import prepare, train, evaluate, predict, load_config`."""

from __future__ import annotations

import json
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


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_each_run_of_one_process_has_its_own_precision(
    tmp_path: Path, write_config: Callable[..., Path], loop: str
) -> None:
    """Accelerate keeps the precision of a process's first run."""
    file = write_config(tmp_path, training={"loop": loop, "max_steps": 2})
    for precision in ("fp32", "bf16", "fp32"):
        directory = tmp_path / precision
        train(load_config(file, [f"training.precision={precision}", f"output_dir={directory}"]), overwrite=True)
        record = json.loads((directory / "run.json").read_text(encoding="utf-8"))
        assert record["precision"] == precision


def test_predicting_nothing_gives_nothing(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    train(load_config(write_config(tmp_path)))
    assert list(predict(tmp_path / "run", [])) == []
    assert list(predict(tmp_path / "run" / "model", [])) == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    import finetune_cli

    assert {"evaluate", "load_config", "predict", "prepare", "train"} <= set(dir(finetune_cli))
    with pytest.raises(AttributeError, match="has no attribute 'compare_all'"):
        _ = finetune_cli.compare_all
