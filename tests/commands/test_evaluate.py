"""Scores: one number in training, on disk and from `evaluate`; each row once; the same files each time; gates."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, DataError, GateFailedError, MissingError
from finetune_cli.runs.run_dir import RunDir
from tests.commands.run_files import LOOPS, Answer, Trained, history, read_jsonl, saved_scores


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("task", ["sst2", "mrpc"])
def test_evaluate_gives_the_score_logged_at_the_best_step(
    learned: Callable[..., Trained], task: str, loop: str
) -> None:
    trained = learned(task, loop)
    [logged] = [line for line in history(trained.run.path, "eval") if line["step"] == trained.report.best_step]
    report = evaluate(str(trained.run.path))
    assert report.to_json() == saved_scores(trained.run.path)
    assert report.loss == pytest.approx(logged["loss"], rel=1e-6)
    assert {name: metric.value for name, metric in report.metrics.items()} == {
        name: logged[name] for name in ("accuracy", "f1")
    }


def test_the_best_step_has_the_best_score_the_earliest_of_equals(learned: Callable[..., Trained]) -> None:
    trained = learned("sst2")
    scores = [(line["accuracy"], -line["step"]) for line in history(trained.run.path, "eval")]
    assert trained.report.best_step == -max(scores)[1]


def test_scores_are_those_of_the_predictions_written_beside_them(learned: Callable[..., Trained]) -> None:
    """Accuracy, loss, class table and confusion matrix counted again from predictions.jsonl."""
    trained = learned("mrpc")
    rows = read_jsonl(trained.run.evaluation("validation") / "predictions.jsonl")
    scores = saved_scores(trained.run.path)
    assert scores["n"] == len(rows) == 12
    assert scores["metrics"]["accuracy"]["value"] == np.mean([row["label"] == row["prediction"] for row in rows])
    assert scores["loss"] == pytest.approx(-np.mean([np.log(row["probabilities"][row["label"]]) for row in rows]))
    names = [entry["label"] for entry in scores["per_class"]]
    assert names == ["not_equivalent", "equivalent"]
    counted = [[sum(r["label"] == a and r["prediction"] == b for r in rows) for b in names] for a in names]
    assert scores["confusion"] == counted
    assert [entry["support"] for entry in scores["per_class"]] == [sum(line) for line in counted]
    train = read_jsonl(Path(trained.config.data.path) / "train.jsonl")
    commonest = names[int(np.mean([row["label"] for row in train]) > 0.5)]
    assert scores["baseline"]["accuracy"] == np.mean([row["label"] == commonest for row in rows])


def test_evaluating_twice_writes_the_same_bytes(learned: Callable[..., Trained]) -> None:
    run = learned("sst2").run
    folder = run.evaluation("validation")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    evaluate(str(run.path))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_intervals_depend_on_seed_level_and_samples(learned: Callable[..., Trained]) -> None:
    trained = learned("mrpc")
    folder = trained.run.evaluation("validation")
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    found = {}
    for change in ("seed=42", "seed=7", "evaluation.bootstrap.level=0.5", "evaluation.bootstrap.samples=0"):
        report = evaluate(str(trained.run.path), overrides=["evaluation.bootstrap.samples=500", change])
        found[change] = report.metrics["accuracy"]
    for path, content in kept.items():
        path.write_bytes(content)
    assert len({metric.value for metric in found.values()}) == 1
    usual, narrow = found["seed=42"], found["evaluation.bootstrap.level=0.5"]
    assert narrow.high - narrow.low < usual.high - usual.low
    assert found["evaluation.bootstrap.samples=0"].low is None
    assert usual == found["seed=42"]


def test_a_share_of_train_that_is_drawn_anew_from_other_data_is_said_to_be_no_test(
    tmp_path: Path, finished_run: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"text": f"{word} film {number}", "label": word} for number in range(20) for word in ("good", "bad")]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = finished_run(data)
    evaluate(run)
    assert "have changed" not in caplog.text
    data.write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    evaluate(run)
    assert "The data have changed since this run was trained on them" in caplog.text
    assert "the model has been trained on some of its rows, so the score is too high" in caplog.text
    caplog.clear()
    evaluate(run, split="train")
    assert "The data have changed" in caplog.text
    assert "too high" not in caplog.text


@pytest.fixture
def finished_run(tmp_path: Path) -> Callable[[Path], Path]:
    """A run of two updates on a file of its own, of which a fifth is the validation split."""

    def train_on(data: Path) -> Path:
        config = tmp_path / "config.yaml"
        settings = {
            "task": "classification",
            "model": {"from_scratch": {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}},
            "data": {"path": str(data), "text": "text", "label": "label", "splits": {"validation": 0.2}},
            "training": {"max_steps": 2},
            "evaluation": {"bootstrap": {"samples": 0}, "baseline": False},
            "output_dir": str(tmp_path / "run"),
        }
        config.write_text(json.dumps(settings))
        train(load_config(config))
        return tmp_path / "run"

    return train_on


def test_a_file_is_scored_apart_from_the_splits(tmp_path: Path, learned: Callable[..., Trained]) -> None:
    trained = learned("sst2")
    before = saved_scores(trained.run.path)
    rows = read_jsonl(Path(trained.config.data.path) / "train.jsonl")[:10]
    file = tmp_path / "validation.csv"
    file.write_text("sentence,label\n" + "".join(f"{row['sentence']},{row['label']}\n" for row in rows))
    report = evaluate(trained.run.path, data=file)
    assert (report.n, report.metrics["accuracy"].value) == (10, 1.0)
    assert saved_scores(trained.run.path) == before
    assert saved_scores(trained.run.path, report.split)["n"] == 10


def test_a_bare_model_is_scored_on_a_file_by_label_name(tmp_path: Path, learned: Callable[..., Trained]) -> None:
    trained = learned("sst2")
    rows = read_jsonl(Path(trained.config.data.path) / "train.jsonl")[:10]
    file = tmp_path / "mine.jsonl"
    names = ("negative", "positive")
    file.write_text(
        "".join(json.dumps({"sentence": row["sentence"], "label": names[row["label"]]}) + "\n" for row in rows)
    )
    report = evaluate(trained.run.model, data=file)
    assert report.metrics["accuracy"].value == 1.0
    assert set(report.metrics) == {"accuracy", "f1_macro"}
    with pytest.raises(ConfigError, match="--data FILE"):
        evaluate(trained.run.model)


def test_train_can_be_scored_and_an_unknown_split_is_named(learned: Callable[..., Trained]) -> None:
    trained = learned("sst2")
    assert evaluate(trained.run.path, split="train").metrics["accuracy"].value == 1.0
    with pytest.raises(DataError, match="no split 'test', only: train, validation"):
        evaluate(trained.run.path, split="test")


def test_a_gate_that_fails_exits_4_after_the_scores(
    learned: Callable[..., Trained], command: Callable[..., Answer]
) -> None:
    run = learned("sst2").run.path
    passed = command(["evaluate", run, "--gate", "accuracy>=0.5", "--gate", "loss<5"])
    assert passed.code == 0, passed.stderr
    assert "gate accuracy>=0.5: passed, found " in passed.stdout
    failed = command(["evaluate", run, "--json", "--gate", "accuracy>1", "--gate", "f1.low>1"])
    assert failed.code == 4
    document = json.loads(failed.stdout)
    assert [(gate["gate"], gate["passed"]) for gate in document.pop("gates")] == [
        ("accuracy>1", False),
        ("f1.low>1", False),
    ]
    assert document == saved_scores(run)
    assert "accuracy>1: found" in failed.stderr
    assert "f1.low>1: found" in failed.stderr


def test_a_baseline_bounds_the_drop_on_the_same_rows(
    learned: Callable[..., Trained], command: Callable[..., Answer], tmp_path: Path
) -> None:
    run = learned("sst2").run.path
    baseline, junit = tmp_path / "perfect.jsonl", tmp_path / "gates.xml"
    rows = read_jsonl(run / "eval" / "validation" / "predictions.jsonl")
    opposite = {"negative": "positive", "positive": "negative"}
    worse = [{**row, "prediction": opposite[row["label"]]} for row in rows]
    better = [{**row, "prediction": row["label"]} for row in rows]
    options = ["--baseline", baseline, "--max-drop", "accuracy=0", "--junit", junit]
    baseline.write_text("".join(f"{json.dumps(row)}\n" for row in worse))
    passed = command(["evaluate", run, *options])
    assert passed.code == 0, passed.stderr
    assert re.search(r"gate max-drop accuracy=0: passed, found [01]\.\d{4}, baseline 0\.0000", passed.stdout)
    assert 'failures="0"' in junit.read_text()
    baseline.write_text("".join(f"{json.dumps(row)}\n" for row in better))
    found = saved_scores(run)["metrics"]["accuracy"]["value"]
    answer = command(["evaluate", run, *options])
    assert answer.code == (0 if found == 1 else 4)
    assert f"found {found:.4f}, baseline 1.0000" in answer.stdout
    with pytest.raises(ConfigError, match=r"is a model\. Name a run"):
        evaluate(run / "model", baseline=str(baseline), max_drops=["accuracy=0"])


def test_gates_of_the_config_are_obeyed_by_train_and_evaluate(
    tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer]
) -> None:
    file, run = write_config(tmp_path, evaluation={"gates": ["accuracy>=0", "accuracy>1"]}), RunDir(tmp_path / "run")
    for times in ("trained", "found finished"):
        answer = command(["train", file])
        assert answer.code == 4, times
        assert "gate accuracy>1: FAILED, found 0." in answer.stdout
        assert "gate accuracy>=0: passed" in answer.stdout
        assert "accuracy>1: found 0." in answer.stderr
    record = run.read_record()
    assert (record.status, record.exit_code) == ("finished", 4)
    assert (run.model / "README.md").is_file()
    with pytest.raises(GateFailedError) as caught:
        evaluate(run.path, gates=["loss<99"])
    assert [outcome.passed for outcome in caught.value.report.gates] == [True, False, True]


def test_a_gate_on_what_was_not_computed_is_a_usage_error(learned: Callable[..., Trained]) -> None:
    with pytest.raises(ConfigError, match="'auroc' was not computed, only: accuracy, f1, loss"):
        evaluate(learned("sst2").run.path, gates=["auroc>0.5"])
    with pytest.raises(GateFailedError) as caught:
        evaluate(learned("sst2").run.path, gates=["accuracy<0"])
    assert caught.value.report.split == "validation"


def test_a_run_without_a_model_says_to_train_it(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    with pytest.raises(MissingError, match="finetune train"):
        evaluate(str(write_config(tmp_path)))
