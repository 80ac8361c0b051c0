"""Sweeps and folds over several processes: workers, groups of processes, two commands at once, kills."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_cli.runs.run_dir import RunDir
from tests.launch.launch_runs import Command, start, updates, wait_for

pytestmark = pytest.mark.slow

TRIALS = 4
SEARCH = {
    "parameters": {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "training.batch_size": [8, 16]},
    "trials": TRIALS,
    "sampler": "random",
}
SECONDS = 900.0


@pytest.fixture
def begin(tmp_path: Path, tiny_bert: Path, make_dataset: Callable[..., Path]) -> Callable[..., Command]:
    """begin(command, *options, **sections) -> the command, started; its run directory is tmp_path/run."""

    def write_and_start(command: str, *options: str, **sections: Any) -> Command:
        config = {
            "task": "sst2",
            "model": {"name_or_path": str(tiny_bert)},
            "training": {"max_steps": 4, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32"},
            "evaluation": {"every": 2, "bootstrap": {"samples": 50}, "baseline": False},
            "checkpointing": {"every": 1},
            "output_dir": str(tmp_path / "run"),
            **sections,
        }
        config["data"] = {"path": str(make_dataset(tmp_path / "data")), **sections.get("data", {})}
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        words = ["-m", "finetune_cli", command, file, "--offline", *options]
        return start(words, cwd=tmp_path, cache=tmp_path / "cache")

    return write_and_start


def done(command: Command) -> str:
    ended = command.finish(SECONDS)
    assert ended.code == 0, ended.output
    assert ended.orphans == []
    return ended.output


def require_each_trial_once(run: Path) -> None:
    trials = json.loads((run / "summary.json").read_text())["trials"]
    assert [(one["number"], one["state"]) for one in trials] == [(n, "complete") for n in range(TRIALS)]
    assert len({json.dumps(one["values"], sort_keys=True) for one in trials}) == TRIALS
    for number in range(TRIALS):
        assert (run / f"trial-{number}" / "run.log").read_text().count("Loop trainer on") == 1
    assert len(RunDir(run).members("trial")) == TRIALS


def test_workers_share_the_trials(tmp_path: Path, begin: Callable[..., Command]) -> None:
    output = done(begin("sweep", "--workers", "2", sweep=SEARCH))
    assert f"{TRIALS} trials by accuracy" in output
    require_each_trial_once(tmp_path / "run")


def test_two_commands_share_the_trials(tmp_path: Path, begin: Callable[..., Command]) -> None:
    both = [begin("sweep", "--quiet", sweep=SEARCH) for _ in range(2)]
    tables = [done(command).partition(f"{TRIALS} trials by")[2] for command in both]
    assert tables[0] == tables[1] != ""
    require_each_trial_once(tmp_path / "run")


def test_each_trial_may_have_several_processes(tmp_path: Path, begin: Callable[..., Command]) -> None:
    done(begin("sweep", "--num-processes", "2", sweep={**SEARCH, "trials": 2}))
    records = [RunDir(tmp_path / "run" / f"trial-{number}").read_record() for number in range(2)]
    assert [(one.processes, one.status) for one in records] == [(2, "finished")] * 2
    assert RunDir(tmp_path / "run").best.is_dir()


def test_each_fold_and_the_final_model_may_have_several_processes(
    tmp_path: Path, begin: Callable[..., Command]
) -> None:
    output = done(begin("train", "--num-processes", "2", "--final", data={"folds": 2}))
    assert "Final model:" in output
    run = RunDir(tmp_path / "run")
    for member in (*run.members("fold"), run.final):
        assert (member.read_record().processes, member.read_record().status) == (2, "finished")
    assert len((run.final.path / "eval" / "validation" / "predictions.jsonl").read_text().splitlines()) == 48
    again = done(begin("train", "--num-processes", "2", "--final", data={"folds": 2}))
    assert "Finished before, and not trained again: fold 1, 2." in again


def test_a_killed_cross_validation_goes_on_to_the_same_scores(tmp_path: Path, begin: Callable[..., Command]) -> None:
    killed = begin("train", data={"folds": 3})
    wait_for(lambda: updates(tmp_path / "run" / "fold-2") >= 2, seconds=SECONDS)
    os.kill(killed.process.pid, signal.SIGKILL)
    assert killed.finish(SECONDS).code == -signal.SIGKILL
    done(begin("train", data={"folds": 3}))
    first = json.loads((tmp_path / "run" / "fold-1" / "run.json").read_text())
    assert first["resumed_from"] == 0
    killed_scores = scores(tmp_path / "run")
    done(begin("train", "--overwrite", data={"folds": 3}))
    assert scores(tmp_path / "run") == killed_scores


def scores(run: Path) -> list[Any]:
    places = [run, *(run / f"fold-{fold}" for fold in (1, 2, 3))]
    return [json.loads((place / "eval" / "validation" / "metrics.json").read_text()) for place in places]
