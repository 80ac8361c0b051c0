"""The same training with several seeds: ordinary runs, their summary, and what happens when one stops or fails."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.train import train
from finetune_cli.config.dump import config_diff
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, ExitCode, GateFailedError, MembersFailedError, NotFinishedError
from finetune_cli.records.training import MemberStarted, SeedsReport, StepRecord
from finetune_cli.runs.run_dir import RunDir
from tests.commands.run_files import Answer, Trained, history, read_jsonl, same_weights, saved_scores

SEEDS = "training.seeds=[3, 1]"


def train_seeds(file: Path, *overrides: str, **options: Any) -> SeedsReport:
    report = train(load_config(file, overrides or (SEEDS,)), **options)
    assert isinstance(report, SeedsReport)
    return report


def test_each_seed_is_the_run_that_it_is_alone(
    tmp_path: Path, write_config: Callable[..., Path], train_run: Callable[..., Trained]
) -> None:
    alone = train_run(tmp_path / "alone", "seed=1")
    report = train_seeds(alone.file, SEEDS, f"output_dir={tmp_path / 'seeds'}")
    one = report.runs[1].run_dir
    assert one == tmp_path / "seeds" / "seed-1"
    assert same_weights(one, alone.run.path)
    for record_type in ("train", "eval"):
        assert history(one, record_type) == history(alone.run.path, record_type)
    config = load_config(one / "config.yaml")
    assert [key for key, *_ in config_diff(config, alone.config)] == ["output_dir"]
    assert not same_weights(one, report.runs[3].run_dir)


def test_the_summary_has_mean_spread_and_interval_of_every_score(
    tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    report = train_seeds(write_config(tmp_path), "training.seeds=[3, 1, 2]")
    assert (report.seeds, list(report.runs), report.failed) == ([3, 1, 2], [3, 1, 2], {})
    (split,) = report.splits
    assert (split.split, split.n, list(split.metrics)) == ("validation", 12, ["accuracy", "f1", "loss"])
    losses = [saved_scores(tmp_path / "run" / f"seed-{seed}")["loss"] for seed in (3, 1, 2)]
    low, high = scipy.stats.t.interval(0.95, 2, loc=np.mean(losses), scale=scipy.stats.sem(losses))
    found = split.metrics["loss"]
    assert found.values == dict(zip((3, 1, 2), losses, strict=True))
    assert (found.mean, found.sd) == pytest.approx((np.mean(losses), np.std(losses, ddof=1)))
    # the rows' share of the variance is small here: a little wider, on as many degrees of freedom
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.001)
    run = RunDir(tmp_path / "run")
    assert json.loads(run.summary.read_text()) == json.loads(json.dumps(report.to_json()))
    record = run.read_record()
    assert (record.status, record.exit_code, record.seeds) == ("finished", 0, [3, 1, 2])


def test_the_same_command_again_trains_nothing_and_one_more_seed_alone(
    tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    file = write_config(tmp_path)
    first, record = train_seeds(file), RunDir(tmp_path / "run").record.read_text()
    again = train_seeds(file)
    assert again.splits == first.splits
    assert RunDir(tmp_path / "run").record.read_text() == record
    more = train_seeds(file, "training.seeds=[3, 1, 2]")
    assert [run.already_finished for run in more.runs.values()] == [True, True, False]
    with pytest.raises(ConfigError, match=r"training\.seeds: 3, 1 left out"):
        train_seeds(file, "training.seeds=[2, 4]")
    with pytest.raises(ConfigError, match=r"training\.learning_rate: 0\.001 there, 0\.01 now"):
        train_seeds(file, "training.seeds=[3, 1, 2]", "training.learning_rate=1e-2")
    assert list(train_seeds(file, "training.seeds=[2, 4]", overwrite=True).runs) == [2, 4]
    assert [run.path.name for run in RunDir(tmp_path / "run").members("seed")] == ["seed-2", "seed-4"]


def interrupting(seed: int, act: Callable[[], None]) -> Callable[[Any], None]:
    """A listener that acts at the third update of this seed."""
    now: list[int] = []

    def listen(event: Any) -> None:
        if isinstance(event, MemberStarted):
            now[:] = [event.key]
        elif isinstance(event, StepRecord) and now == [seed] and event.step == 3:
            act()

    return listen


def fail() -> None:
    raise RuntimeError("the cable fell out")


def test_a_seed_that_fails_does_not_lose_the_others(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    file, run = write_config(tmp_path), RunDir(tmp_path / "run")
    with pytest.raises(MembersFailedError, match="1 of 3 seeds failed") as caught:
        train_seeds(file, "training.seeds=[1, 2, 3]", listen=interrupting(2, fail))
    assert caught.value.exit_code == ExitCode.RUN_FAILED
    report = caught.value.report
    assert (list(report.runs), report.failed) == ([1, 3], {2: "RuntimeError: the cable fell out"})
    assert json.loads(run.summary.read_text())["failed"] == {"2": "RuntimeError: the cable fell out"}
    assert (run.read_record().status, run.member("seed", 2).read_record().status) == ("failed", "failed")
    again = train_seeds(file, "training.seeds=[1, 2, 3]")
    assert [seed for seed, one in again.runs.items() if not one.already_finished] == [2]
    assert run.read_record().status == "finished"


def test_a_stop_ends_with_75_and_the_same_command_goes_on(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    file, run = write_config(tmp_path), RunDir(tmp_path / "run")
    with pytest.raises(NotFinishedError):
        train_seeds(file, listen=interrupting(1, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert (run.read_record().status, run.read_record().exit_code) == ("stopped", 75)
    with pytest.raises(ConfigError, match=r"holds a run for each of several seeds.*seed-1, .*seed-3"):
        evaluate(run.path)
    stopped = train_seeds(file)
    assert [(one.already_finished, one.resumed_from > 0) for one in stopped.runs.values()] == [
        (True, False),
        (False, True),
    ]
    undisturbed = train_seeds(file, SEEDS, f"output_dir={tmp_path / 'other'}")
    assert same_weights(stopped.runs[1].run_dir, undisturbed.runs[1].run_dir)
    assert stopped.splits == undisturbed.splits


def test_one_directory_does_not_hold_one_run_and_several(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    file = write_config(tmp_path)
    train(load_config(file))
    with pytest.raises(ConfigError, match="holds a single run"):
        train_seeds(file)
    train_seeds(file, overwrite=True)
    assert not RunDir(tmp_path / "run").model.exists()
    with pytest.raises(ConfigError, match="holds several runs, such as seed-1"):
        train(load_config(file))
    with pytest.raises(ConfigError, match="--resume PATH"):
        train_seeds(file, resume="checkpoints/step-000006")


def test_rows_drawn_from_train_are_the_same_for_every_seed(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    data = {"path": str(write_config(tmp_path).parent / "data" / "train.jsonl"), "splits": {"validation": 0.25}}
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    report = train_seeds(write_config(drawn, data=data))
    ids = [
        [row["id"] for row in read_jsonl(one.run_dir / "eval" / "validation" / "predictions.jsonl")]
        for one in report.runs.values()
    ]
    assert ids[0] == ids[1]
    config = load_config(report.runs[1].run_dir / "config.yaml")
    assert (config.seed, config.data.split_seed) == (1, 42)
    with pytest.raises(ConfigError, match=r"data\.split_seed: nothing is drawn"):
        load_config(write_config(tmp_path), ["data.split_seed=1"])


@pytest.mark.parametrize("seeds", ["1,1", "1", "1,two", "", "1;2", "-1,2", "1,4294967296"])
def test_seeds_that_cannot_be_are_refused(
    tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer], seeds: str
) -> None:
    answer = command(["train", write_config(tmp_path), f"--seeds={seeds}"])
    assert answer.code == ExitCode.CONFIG
    assert "seeds" in answer.stderr
    assert not (tmp_path / "run").exists()


def test_the_command_shows_the_summary(
    tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer]
) -> None:
    file = write_config(tmp_path, evaluation={"gates": ["accuracy>=0", "accuracy.high>=0"]})
    answer = command(["train", file, "--seeds", "3,1"])
    assert answer.code == 0, answer.stderr
    assert "validation: 12 rows, 2 seeds" in answer.stdout
    assert "gate accuracy>=0: passed, found 0." in answer.stdout
    assert "gate accuracy.high>=0: passed" in answer.stdout
    best = json.loads(RunDir(tmp_path / "run").summary.read_text())["best"]["seed"]
    assert f"Best by accuracy: seed {best}, " in answer.stdout
    assert f"finetune evaluate {tmp_path / 'run' / f'seed-{best}'}" in answer.stdout
    assert "Seed 3 (1 of 2)" in answer.stderr
    assert "Seed 1 (2 of 2)" in answer.stderr
    assert answer.stderr.count("tokenised rows: ") == 1  # what is said of the data is not said again for each seed
    assert "Finished before" not in answer.stdout
    assert command(["evaluate", tmp_path / "run" / "seed-1", "--fit", "temperature"]).code == 0
    again = command(["train", file, "--seeds", "3,1"]).stdout
    assert "Finished before, and not trained again: seed 3, 1." in again
    assert "Seed 1 is scored with its decision rule, fitted on these rows: too good." in again
    assert "Seed 3 is scored" not in again
    document = json.loads(command(["train", file, "--seeds", "3,1", "--json"]).stdout)
    assert list(document["splits"][0]["metrics"]["accuracy"]["values"]) == ["3", "1"]


def test_gates_of_the_config_hold_for_the_means_over_seeds(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    file, run = write_config(tmp_path, evaluation={"gates": ["loss<0.001"]}), RunDir(tmp_path / "run")
    with pytest.raises(GateFailedError, match="the means over 2 seeds") as caught:
        train_seeds(file)
    assert caught.value.report.gates[0].found == caught.value.report.splits[0].metrics["loss"].mean
    assert (run.read_record().status, run.read_record().exit_code) == ("finished", 4)
    assert [one.read_record().exit_code for one in run.members("seed")] == [0, 0]


@pytest.mark.slow
def test_seeds_train_in_groups_of_processes(
    tmp_path: Path, write_config: Callable[..., Path], run_cli: Callable[..., Any], tiny_bert: Path
) -> None:
    file = write_config(tmp_path, model={"name_or_path": str(tiny_bert), "dropout": 0.0})
    done = run_cli(["train", file, "--seeds=1,2", "--num-processes", "2", "--json"], timeout=400)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    one = train_seeds(file, "training.seeds=[1, 2]", f"output_dir={tmp_path / 'one'}").to_json()
    for name, score in document["splits"][0]["metrics"].items():
        assert score["mean"] == pytest.approx(one["splits"][0]["metrics"][name]["mean"], rel=1e-4)
    assert RunDir(tmp_path / "run" / "seed-2").read_record().processes == 2
