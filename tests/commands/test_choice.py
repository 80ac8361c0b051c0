"""What a run says of its model having been chosen: on the terminal, in its files, at a gate, over seeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, GateFailedError
from finetune_cli.records.evaluation import EvalReport
from finetune_cli.records.training import SeedsReport
from finetune_cli.records.verdicts import Choice
from finetune_cli.runs.run_dir import RunDir
from tests.commands.run_files import Answer, Trained, saved_scores

FOUR_EVALUATIONS = ("training.num_epochs=4", "training.learning_rate=3e-3")


@pytest.fixture
def chosen(tmp_path: Path, train_run: Callable[..., Trained]) -> Trained:
    """The best of four evaluations on 12 rows."""
    return train_run(tmp_path, *FOUR_EVALUATIONS)


def test_the_kept_model_has_its_scores_as_they_are_and_corrected(
    chosen: Trained, command: Callable[..., Answer]
) -> None:
    (report,) = chosen.report.evaluations
    assert report.choice == Choice(4, "accuracy")
    stored = saved_scores(chosen.run.path)
    assert stored["choice"] == {"candidates": 4, "metric": "accuracy"}
    for name in ("accuracy", "f1"):
        found = stored["metrics"][name]["corrected"]
        assert found["candidates"] == 4
        assert found["low"] <= found["value"] <= found["high"]
    assert stored["metrics"]["accuracy"]["corrected"]["value"] <= stored["metrics"]["accuracy"]["value"]
    assert EvalReport.from_json(stored) == report
    said = command(["train", chosen.file, *(f"--set={one}" for one in FOUR_EVALUATIONS)])
    assert said.code == 0
    assert "corrected" in said.stdout
    assert "best of 4 evaluations on these rows, by accuracy" in said.stdout
    for page in (chosen.run.model / "README.md", chosen.run.evaluation("validation") / "report.md"):
        assert "best of 4 evaluations on these rows, by accuracy" in page.read_text()
        assert "| corrected |" in page.read_text()
    assert f"{report.corrected['f1'].value:.3f}" in (chosen.run.evaluation("validation") / "report.html").read_text()


def test_evaluate_corrects_as_train_did_and_not_for_metrics_whose_scores_were_not_kept(chosen: Trained) -> None:
    before = saved_scores(chosen.run.path)
    evaluate(chosen.run.path)
    assert saved_scores(chosen.run.path) == before
    report = evaluate(chosen.run.path, overrides=["evaluation.metrics=[accuracy, auroc]"])
    assert set(report.corrected) == {"accuracy"}


def test_rows_that_chose_nothing_need_no_correction_and_say_so(
    tmp_path: Path, train_run: Callable[..., Trained], make_dataset: Callable[..., Path], command: Callable[..., Answer]
) -> None:
    data = make_dataset(tmp_path / "data")
    (data / "test.jsonl").write_bytes((data / "validation.jsonl").read_bytes())
    run = train_run(tmp_path / "a", "training.num_epochs=2", data={"path": str(data)}).run
    report = evaluate(run.path, split="test")
    assert report.choice == Choice(1)
    assert report.corrected["f1"].value == report.metrics["f1"].value
    assert "Nothing was chosen on these rows" in command(["evaluate", run.path, "--split", "test"]).stdout
    assert evaluate(run.path, split="train").choice is None
    assert evaluate(run.path, data=data / "test.jsonl").choice is None


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_without_a_metric_for_best_the_last_model_is_kept_and_nothing_was_chosen(
    tmp_path: Path, train_run: Callable[..., Trained], loop: str
) -> None:
    trained = train_run(tmp_path, *FOUR_EVALUATIONS, f"training.loop={loop}", "evaluation.metric_for_best=null")
    assert trained.report.best_step == trained.report.steps == 24
    (report,) = trained.report.evaluations
    assert report.choice == Choice(1)
    assert report.corrected["accuracy"].value == report.metrics["accuracy"].value
    assert load_config(trained.run.config).evaluation.metric_for_best is None
    assert "was kept (the last one)" in (trained.run.evaluation("validation") / "report.md").read_text()


def test_a_run_of_an_earlier_version_says_that_its_scores_are_too_good(chosen: Trained) -> None:
    (chosen.run.evaluation("validation") / "candidates.npz").unlink()
    report = evaluate(chosen.run.path)
    assert (report.choice, report.corrected) == (Choice(None), {})
    assert "too good by an unknown amount" in str(report.choice)
    with pytest.raises(GateFailedError, match="kept no predictions"):
        evaluate(chosen.run.path, gates=["f1.corrected>=0"])


def test_a_gate_may_ask_for_the_corrected_score(chosen: Trained) -> None:
    corrected = chosen.report.evaluations[0].corrected["accuracy"]
    report = evaluate(chosen.run.path, gates=[f"accuracy.corrected>={corrected.value}"])
    assert report.gates[0].found == corrected.value
    assert corrected.low is not None
    report = evaluate(chosen.run.path, gates=[f"accuracy.corrected.low>={corrected.low}"])
    assert report.gates[0].found == corrected.low
    with pytest.raises(GateFailedError):
        evaluate(chosen.run.path, gates=[f"accuracy.corrected>{corrected.value}"])


@pytest.mark.parametrize(
    ("gate", "problem"),
    [
        ("loss.corrected<=1", "loss is not corrected"),
        ("f1.correct>=0.1", "Did you mean f1.corrected"),
        ("f1.corrected>=85", "f1 lies in 0 to 1. Did you mean 0.85"),
        ("auroc.corrected>=0.5", "'auroc' is not among evaluation.metrics"),
        ("evaluate:x.corrected>=0.5", "evaluate:x is not corrected"),
    ],
)
def test_a_gate_on_a_corrected_score_that_there_cannot_be_is_found_in_the_config(
    tmp_path: Path, gate: str, problem: str, write_config: Callable[..., Path]
) -> None:
    file = write_config(tmp_path, evaluation={"gates": [gate]})
    with pytest.raises(ConfigError, match=problem) as caught:
        load_config(file)
    line = next(number for number, text in enumerate(file.read_text().splitlines(), 1) if gate in text)
    assert f"config.yaml:{line}:" in str(caught.value)


def test_early_stopping_needs_a_metric(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    file = write_config(
        tmp_path, training={"num_epochs": 3, "early_stopping": {"patience": 1}}, evaluation={"metric_for_best": None}
    )
    with pytest.raises(ConfigError, match="metric_for_best is null"):
        load_config(file)


@pytest.mark.parametrize("metric", ["accuracy", "loss", "null"])
def test_the_best_seed_is_corrected_for_all_evaluations_of_all_seeds(
    tmp_path: Path, write_config: Callable[..., Path], metric: str
) -> None:
    gates = ["accuracy.corrected>=0"]
    settings: dict[str, Any] = {"training": {"num_epochs": 2}, "evaluation": {"gates": gates}}
    file = write_config(tmp_path, **settings)
    report = train(load_config(file, ["training.seeds=[3, 1, 2]", f"evaluation.metric_for_best={metric}"]))
    assert isinstance(report, SeedsReport)
    best = report.best
    assert best is not None
    name = {"null": "accuracy"}.get(metric, metric)
    values = report.splits[0].metrics[name].values
    assert values[best.seed] == (min if metric == "loss" else max)(values.values())
    assert (best.metric, best.candidates) == (name, 3 if metric == "null" else 6)
    assert best.corrected is not None
    worse = best.corrected.value - best.score.value
    assert worse >= 0 if metric == "loss" else worse <= 0
    stored = json.loads(RunDir(tmp_path / "run").summary.read_text())["best"]
    assert stored["corrected"]["candidates"] == best.candidates
    means = [run.evaluations[0].corrected["accuracy"].value for run in report.runs.values()]
    assert report.gates[0].found == pytest.approx(sum(means) / 3)


def test_a_training_says_what_the_words_alone_would_score_and_evaluate_keeps_it(
    chosen: Trained, command: Callable[..., Answer]
) -> None:
    words = chosen.report.evaluations[0].text_baseline
    assert words is not None
    assert words.rows == 48
    assert not chosen.report.stopped_early
    assert set(words.metrics) == {"accuracy", "f1"}
    assert set(words.differences) == {"accuracy"}  # the rows are too few for a bootstrap
    model, difference = chosen.report.evaluations[0].metrics["accuracy"].value, words.differences["accuracy"]
    assert difference.difference == pytest.approx(model - words.metrics["accuracy"].value)
    assert difference.method == "mcnemar"
    said = command(["evaluate", chosen.run.path])
    assert "TF-IDF, fitted on 48 rows" in said.stdout
    assert evaluate(chosen.run.path).text_baseline == words
    assert evaluate(chosen.run.path, overrides=["evaluation.baseline=false"]).text_baseline is None
    assert evaluate(chosen.run.path).text_baseline == words  # fitted once more
    assert evaluate(chosen.run.path, split="train").text_baseline is None  # of rows that both have learned
    for page in ("report.html", "report.md"):
        assert "TF-IDF with logistic regression" in (chosen.run.evaluation("validation") / page).read_text()


def test_the_baseline_of_the_words_can_be_left_out(tmp_path: Path, train_run: Callable[..., Trained]) -> None:
    trained = train_run(tmp_path, "evaluation.baseline=false")
    assert trained.report.evaluations[0].text_baseline is None
    assert "text_baseline" not in saved_scores(trained.run.path)


def test_anything_but_auto_or_false_is_no_baseline(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="auto or false"):
        load_config(write_config(tmp_path), ["evaluation.baseline=tfidf"])
