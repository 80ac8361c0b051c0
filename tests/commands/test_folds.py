"""Cross-validation: an ordinary run for each fold, every row scored once, by the fold that did not train on it."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from finetune_cli.commands.compare import compare
from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.export import export
from finetune_cli.commands.prepare import prepare
from finetune_cli.commands.train import train
from finetune_cli.config.dump import config_diff
from finetune_cli.config.load import load_config
from finetune_cli.errors import (
    ConfigError,
    DataError,
    GateFailedError,
    MembersFailedError,
    MissingError,
    NotFinishedError,
)
from finetune_cli.records.folds import FoldsReport
from finetune_cli.records.training import MemberStarted, StepRecord
from finetune_cli.runs.run_dir import RunDir
from tests.commands.run_files import LOOPS, Answer, read_jsonl, same_weights, saved_scores

FEW = ("data.folds=3", "training.max_steps=4", "evaluation.bootstrap.samples=50")


def train_folds(file: Path, *overrides: str, **options: Any) -> FoldsReport:
    report = train(load_config(file, [*FEW, *overrides]), **options)
    assert isinstance(report, FoldsReport)
    return report


def predictions(folder: Path) -> list[dict[str, Any]]:
    return read_jsonl(folder / "eval" / "validation" / "predictions.jsonl")


@pytest.mark.parametrize("loop", LOOPS)
def test_every_row_is_scored_by_the_fold_that_did_not_train_on_it(
    tmp_path: Path, write_config: Callable[..., Path], loop: str
) -> None:
    report = train_folds(write_config(tmp_path, data={"id": "idx"}), f"training.loop={loop}")
    run = RunDir(tmp_path / "run")
    assert [one.path.name for one in run.members("fold")] == ["fold-1", "fold-2", "fold-3"]
    whole = {row["id"]: row for row in predictions(run.path)}
    assert list(whole) == list(range(48))  # all rows, once, in the order of the data
    for one in run.members("fold"):
        config = load_config(one.config)
        assert config.data.folds
        prepared = prepare(config)
        tested = {row["id"]: row for row in predictions(one.path)}
        assert set(tested) == set(prepared.splits["validation"].ids)
        assert not set(tested) & set(prepared.splits["train"].ids)
        assert len(tested) + prepared.splits["train"].num_rows == 48
        for row_id, row in tested.items():
            assert whole[row_id]["prediction"] == row["prediction"]
            assert whole[row_id]["probabilities"] == pytest.approx(row["probabilities"], rel=1e-12)
    assert report.pooled
    right = [row["label"] == row["prediction"] for row in whole.values()]
    assert report.pooled.metrics["accuracy"].value == np.mean(right)
    assert report.pooled.loss == pytest.approx(
        np.mean([-math.log(row["probabilities"][row["label"]]) for row in whole.values()])
    )
    assert saved_scores(run.path)["n"] == 48
    assert (run.path / "eval" / "validation" / "report.html").is_file()


def test_scores_over_folds_have_the_corrected_interval(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    report = train_folds(write_config(tmp_path), "data.folds={n: 2, repeats: 2}")
    losses = [saved_scores(tmp_path / "run" / f"fold-{fold}")["loss"] for fold in (1, 2, 3, 4)]
    found = report.splits[0].metrics["loss"]
    assert list(found.values.values()) == losses
    error = math.sqrt((1 / 4 + 1) * np.var(losses, ddof=1))  # each fold tests as many rows as it trains on
    low, high = scipy.stats.t.interval(0.95, 3, loc=np.mean(losses), scale=error)
    assert (found.low, found.high) == pytest.approx((low, high))
    record = RunDir(tmp_path / "run").read_record()
    assert (record.kind, record.folds, record.scored_rows) == ("folds", 4, 48)
    summary = json.loads(RunDir(tmp_path / "run").summary.read_text())
    assert summary == json.loads(json.dumps(report.to_json()))


def test_a_fold_is_the_run_that_its_config_repeats_and_a_kill_loses_nothing(
    tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    file, now = write_config(tmp_path), [0]

    def stop_in_the_second(event: Any) -> None:
        if isinstance(event, MemberStarted):
            now[0] = event.key
        elif isinstance(event, StepRecord) and (now[0], event.step) == (2, 3):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(NotFinishedError):
        train_folds(file, listen=stop_in_the_second)
    assert RunDir(tmp_path / "run").read_record().status == "stopped"
    stopped = train_folds(file)
    assert [(one.already_finished, one.resumed_from) for one in stopped.runs.values()] == [
        (True, 0),
        (False, 3),
        (False, 0),
    ]
    again = train_folds(file)
    assert all(one.already_finished for one in again.runs.values())
    assert again.pooled == stopped.pooled
    fold = tmp_path / "run" / "fold-2"
    alone = train(load_config(fold / "config.yaml", [f"output_dir={tmp_path / 'alone'}"]))
    assert same_weights(alone.run_dir, fold)
    config = load_config(fold / "config.yaml")
    assert [key for key, *_ in config_diff(config, load_config(file, FEW))] == ["data.folds.fold", "output_dir"]


def test_a_fold_that_fails_is_named_and_tried_again(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    def fail_in_the_first(event: Any) -> None:
        if isinstance(event, StepRecord):
            raise RuntimeError("the cable fell out")

    file = write_config(tmp_path)
    with pytest.raises(MembersFailedError, match=r"3 of 3 folds failed(.|\n)*fold 1: RuntimeError") as caught:
        train_folds(file, listen=fail_in_the_first)
    assert caught.value.report.pooled is None
    assert train_folds(file, "evaluation.gates=[loss>=0]").pooled
    with pytest.raises(GateFailedError, match="the scores over 3 folds"):
        train_folds(file, "evaluation.gates=[loss<0.001]")


def test_folds_are_compared_row_by_row_and_have_no_model_of_their_own(
    tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer]
) -> None:
    file = write_config(tmp_path, data={"id": "idx"})
    other = str(tmp_path / "other")
    first = train_folds(file).run_dir
    train_folds(file, "training.learning_rate=1e-5", f"output_dir={other}")
    report = compare([str(first), other])
    assert report.n == 48
    with pytest.raises(ConfigError, match=r"a run for each of several folds.*fold-1"):
        evaluate(first)
    answer = command(["train", file, *(f"-s{one}" for one in FEW)])
    assert answer.code == 0, answer.stderr
    assert "validation: 48 rows" in answer.stdout
    assert "validation over 3 folds" in answer.stdout
    assert "Nadeau and Bengio" in answer.stdout
    document = json.loads(command(["train", file, *(f"-s{one}" for one in FEW), "--json"]).stdout)
    assert document["pooled"]["n"] == 48


def test_one_directory_holds_one_kind_of_runs(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    file = write_config(tmp_path)
    train_folds(file)
    with pytest.raises(ConfigError, match=r"data\.folds\.n: 3 there, 2 now"):
        train_folds(file, "data.folds=2")
    with pytest.raises(ConfigError, match="holds several runs, such as fold-1"):
        train(load_config(file))
    with pytest.raises(ConfigError, match="fold-1, which is no seed"):
        train(load_config(file, ["training.seeds=[1, 2]"]))
    assert list(train_folds(file, "data.folds=2", overwrite=True).runs) == [1, 2]
    assert len(RunDir(tmp_path / "run").members()) == 2


def test_prepare_and_the_dry_run_look_at_the_first_fold(
    tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer]
) -> None:
    file = write_config(tmp_path)
    report = prepare(load_config(file, FEW)).report
    assert (report.splits["train"].rows, report.splits["validation"].rows) == (32, 16)
    document = json.loads(command(["train", file, *(f"-s{one}" for one in FEW), "--dry-run", "--json"]).stdout)
    assert (document["runs"], document["updates"]) == (3, 4)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["data.folds=1"], "data.folds: 1 is out of range. Allowed: a whole number from 2"),
        (["data.folds=true"], "data.folds: true is a flag"),
        (["data.folds=five"], "data.folds: 'five' is text"),
        (["data.folds={n: 5, repeat: 2}"], "data.folds.repeat: unknown key"),
        (["data.folds={repeats: 2}"], "data.folds.n: is missing"),
        (["data.folds={n: 3, repeats: 0}"], "data.folds.repeats: 0 is out of range"),
        (["data.folds={n: 3, fold: 4}"], "data.folds.fold: 4 is out of range. Allowed: 1 to 3"),
        (["data.folds={n: 3, group: sentence}"], "data.folds.group: sentence is data.text too"),
        (["data.folds={n: 3, group: label}"], "data.folds.group: label is data.label too"),
        (["data.folds=3", "data.splits.validation=0.1"], "data.splits.validation: data.folds takes the validation"),
        (
            ["data.folds={n: 3, fold: last}"],
            "data.folds.fold: 'last' is not known. Allowed: a whole number from 1 or final",
        ),
        (["data.folds={n: 3, fold: final}"], "evaluation.metric_for_best: a model of all rows has no rows left to"),
        (["data.folds=3", "data.limit=2"], "data.limit: 2 is below data.folds (3)"),
        (["data.folds=3", "training.seeds=[1, 2]"], "training.seeds: data.folds makes several runs already"),
        (["data.folds=3", "hub.repo_id=a/b"], "hub: data.folds makes several models"),
    ],
)
def test_folds_that_cannot_be_are_refused_before_anything_starts(
    tmp_path: Path, write_config: Callable[..., Path], sets: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write_config(tmp_path), sets)
    assert message in str(caught.value)


def test_the_final_model_has_all_rows_and_the_scores_of_the_folds(
    tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer]
) -> None:
    file = write_config(tmp_path, data={"id": "idx"}, evaluation={"every": 2, "metric_for_best": "loss"})
    sets = ["data.folds=3", "training.num_epochs=2", "evaluation.bootstrap.samples=50", "evaluation.gates=[loss>=0]"]

    def stop_in_the_last(event: Any) -> None:
        if isinstance(event, StepRecord) and event.epoch > 0.5 and (tmp_path / "run" / "final").is_dir():
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(NotFinishedError):
        train(load_config(file, sets), final=True, listen=stop_in_the_last)
    report = train(load_config(file, sets), final=True)
    assert isinstance(report, FoldsReport)
    assert report.final is not None
    assert report.final.resumed_from > 0
    assert all(one.already_finished for one in report.runs.values())
    final = RunDir(tmp_path / "run").final
    config = load_config(final.config)
    assert config.training.num_epochs == np.median([one.best_step / 4 for one in report.runs.values()])  # 32 rows of 8
    assert report.final.steps == math.ceil(config.training.num_epochs * 6)  # 48 rows of 8
    assert list(prepare(config).splits) == ["train"]
    assert saved_scores(final.path) == saved_scores(tmp_path / "run")
    assert predictions(final.path) == predictions(tmp_path / "run")
    card = (final.model / "README.md").read_text()
    assert "answered by 3 models, each those that it was not trained on" in card
    assert "trained on all of these rows" in card
    with pytest.raises(DataError, match="trained on all rows: its scores are those of the folds"):
        evaluate(final.path)
    assert evaluate(final.path, data=tmp_path / "data" / "validation.jsonl").n == 12
    export(final.path, tmp_path / "exported", file_format="safetensors")
    assert command(["predict", tmp_path / "exported", "--text", "good film"]).code == 0
    summary = json.loads(RunDir(tmp_path / "run").summary.read_text())
    assert summary["final"]["steps"] == report.final.steps
    alone = train(load_config(file, [*sets, "training.num_epochs=1"]), overwrite=True)
    assert isinstance(alone, FoldsReport)
    assert not final.model.exists()


def test_no_final_model_without_folds_or_with_a_failed_gate(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    file = write_config(tmp_path)
    with pytest.raises(ConfigError, match="--final trains one model on all rows after the folds"):
        train(load_config(file), final=True)
    with pytest.raises(ConfigError, match=r"data\.folds\.fold is 2"):
        train(load_config(file, ["data.folds={n: 3, fold: 2}"]), final=True)
    final = ["data.folds={n: 3, fold: final}", "evaluation.metric_for_best=null"]
    with pytest.raises(MissingError, match="finetune train CONFIG --final"):
        train(load_config(file, final))
    with pytest.raises(GateFailedError):
        train(load_config(file, ["data.folds=2", "training.max_steps=1", "evaluation.gates=[loss<0.001]"]), final=True)
    assert not (tmp_path / "run" / "final").exists()
