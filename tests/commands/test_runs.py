"""finetune runs: what is below a directory, from run.json alone, at once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.commands.runs import runs
from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from finetune_cli.display.tables.runs import size
from finetune_cli.errors import ConfigError
from finetune_cli.runs.run_dir import WORKING
from finetune_cli.system import locking
from tests.commands.run_files import Answer, saved_scores


def write_record(folder: Path, **entries: Any) -> None:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"status": "finished", "exit_code": 0, **entries}), encoding="utf-8")


def scored(value: float | None, name: str = "f1") -> dict[str, Any]:
    return {"metric_for_best": name, "scores": {name: {"value": value, "low": None, "high": None}}, "scored_rows": 9}


def names(directory: Path, **options: Any) -> list[str]:
    return [run.path for run in runs(directory, **options).runs]


def test_a_trained_run_and_its_seeds_are_listed_with_their_scores(
    tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer]
) -> None:
    file = write_config(tmp_path, training={"max_steps": 2})
    train(load_config(file, ["training.seeds=[3, 1]"]))
    found = {run.path: run.record for run in runs(tmp_path).runs}
    assert set(found) == {"run", "run/seed-1", "run/seed-3"}
    one = found["run/seed-3"]
    assert (one.task, one.seed, one.metric_for_best, one.scored_rows) == ("sst2", 3, "accuracy", 12)
    saved = saved_scores(tmp_path / "run" / "seed-3")["metrics"]
    assert one.scores is not None
    assert vars(one.scores["accuracy"]) == {name: saved["accuracy"][name] for name in ("value", "low", "high")}
    collapsed = {name: saved_scores(tmp_path / "run" / name)["collapsed"] for name in ("seed-3", "seed-1")}
    assert one.collapsed == collapsed["seed-3"]
    assert (found["run"].collapsed or []) == [name for name, answer in collapsed.items() if answer]
    files = [path for path in (tmp_path / "run" / "seed-3").rglob("*") if path.is_file()]
    assert one.size_bytes == pytest.approx(sum(path.stat().st_size for path in files), rel=0.01)
    whole = found["run"]
    assert (whole.kind, whole.seeds, whole.model) == ("seeds", [3, 1], one.model)
    assert whole.scores is not None
    assert whole.scores["loss"].value is not None
    answer = command(["runs", tmp_path])
    assert answer.code == 0
    assert "seeds  finished  sst2" in answer.stdout
    assert "n=12" in answer.stdout
    document = json.loads(command(["runs", tmp_path, "--json", "--sort", "path"]).stdout)
    assert [(run["path"], run["kind"]) for run in document["runs"]] == [
        ("run", "seeds"),
        ("run/seed-1", "run"),
        ("run/seed-3", "run"),
    ]


def test_runs_are_sorted_as_asked_and_runs_without_the_score_come_last(tmp_path: Path) -> None:
    write_record(tmp_path / "old", started="2026-01-01T00:00:00+00:00", **scored(0.9), size_bytes=10)
    write_record(tmp_path / "new", started="2026-02-01T00:00:00+00:00", **scored(0.7), training_seconds=5.0)
    write_record(tmp_path / "loss", **scored(0.2, "loss"), size_bytes=99)
    write_record(tmp_path / "none", **scored(None), status="failed", exit_code=1)
    write_record(tmp_path / "worse", **scored(0.8, "loss"))
    assert names(tmp_path) == ["new", "old", "loss", "none", "worse"]
    assert names(tmp_path, sort="f1") == ["old", "new", "loss", "none", "worse"]
    assert names(tmp_path, sort="loss")[:2] == ["loss", "worse"]
    assert names(tmp_path, sort="size")[0] == "loss"
    assert names(tmp_path, sort="time")[0] == "new"
    assert names(tmp_path, sort="path") == ["loss", "new", "none", "old", "worse"]
    assert names(tmp_path, failed=True) == ["none"]


@pytest.mark.parametrize(
    ("collapsed", "said"),
    [
        (None, "n=9  "),
        ("positive", "n=9, collapsed  "),
        (["seed-1", "seed-3"], "n=9, seed-1, seed-3 collapsed  "),
        (["seed-1", "seed-2", "seed-3"], "n=9, 3 runs collapsed  "),
    ],
)
def test_a_model_with_one_answer_for_all_rows_is_called_collapsed(
    tmp_path: Path, command: Callable[..., Answer], collapsed: Any, said: str
) -> None:
    write_record(tmp_path / "a", **scored(0.812), collapsed=collapsed)
    write_record(tmp_path / "b", collapsed="positive")
    lines = command(["runs", tmp_path, "--sort", "path"]).stdout.splitlines()
    assert f"f1 0.812 {said}" in lines[1]
    assert "  -, collapsed  " in lines[2]


def test_a_score_that_no_run_has_is_said(tmp_path: Path, command: Callable[..., Answer]) -> None:
    write_record(tmp_path / "b", **scored(0.9, "accuracy"))
    write_record(tmp_path / "a")
    answer = command(["runs", tmp_path, "--sort", "f1"])
    assert answer.code == 0
    assert "--sort f1: none of these runs has that score, so they come by their paths. They have: accuracy." in (
        answer.stderr
    )
    assert answer.stdout.splitlines()[1].split()[0] == "a"
    assert "none of these runs" not in command(["runs", tmp_path, "--sort", "accuracy"]).stderr


def test_a_pruned_trial_is_not_said_to_have_been_stopped(tmp_path: Path, command: Callable[..., Answer]) -> None:
    old = "Pruned after update 60: other trials did better by then."  # of a version that had no entry for it
    write_record(tmp_path / "trial-0", status="stopped", exit_code=75, error=old)
    write_record(tmp_path / "trial-1", status="stopped", exit_code=75, error="Stopped by SIGTERM")
    write_record(tmp_path / "trial-2", status="stopped", exit_code=75, pruned=True, error="Ended early")
    said = [line.split()[2:4] for line in command(["runs", tmp_path, "--sort", "path"]).stdout.splitlines()[1:]]
    assert said == [["pruned", "-"], ["stopped", "(75)"], ["pruned", "-"]]


def test_a_killed_run_is_not_said_to_run(tmp_path: Path, command: Callable[..., Answer]) -> None:
    """A run that says it runs has a process that holds it, or, as far as another machine's locks go, a young log."""
    for name in ("alive", "killed", "without-lock", "far-young", "far-old", "sweep"):
        write_record(tmp_path / name, status="running", exit_code=None)
    for name in ("far-young", "far-old"):
        (tmp_path / name / "run.lock").write_text("1 another-machine 7\n", encoding="utf-8")
        (tmp_path / name / "run.log").write_text("x", encoding="utf-8")
    os.utime(tmp_path / "far-old" / "run.log", (0, 0))
    (tmp_path / "killed" / "run.lock").write_text(f"{os.getpid()} {socket.gethostname()} 7\n", encoding="utf-8")
    (tmp_path / "sweep" / "sweep").mkdir()
    with (
        (tmp_path / "alive" / "run.lock").open("a+") as lock,
        locking.shared(tmp_path / "sweep" / "sweep" / WORKING),
        locking.shared(tmp_path / "sweep" / "sweep" / WORKING),
    ):
        locking.take(lock)
        found = {run.path: run.status for run in runs(tmp_path).runs}
    assert found == {
        "alive": "running",
        "killed": "killed",
        "without-lock": "killed",
        "far-young": "running",
        "far-old": "killed",
        "sweep": "running",
    }
    document = json.loads(command(["runs", tmp_path, "--json", "--failed"]).stdout)
    assert {run["path"]: run["status"] for run in document["runs"]}["killed"] == "killed"


def test_only_the_folders_of_a_run_are_left_out(tmp_path: Path) -> None:
    """A folder that is called `model` may have runs; that of a run has none. Links and hidden folders are no runs."""
    write_record(tmp_path / "model" / "a")
    for inner in ("checkpoints", "model", "eval", "tracking", "trial-001", ".hidden"):
        write_record(tmp_path / "model" / "a" / inner)
    (tmp_path / "best").symlink_to(tmp_path / "model" / "a", target_is_directory=True)
    assert sorted(names(tmp_path)) == ["model/a", "model/a/trial-001"]
    assert names(tmp_path / "model" / "a" / "trial-001") == ["."]


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\xff"])
def test_a_damaged_record_is_named_and_the_others_are_listed(
    tmp_path: Path, command: Callable[..., Answer], text: str
) -> None:
    write_record(tmp_path / "good")
    write_record(tmp_path / "bad")
    (tmp_path / "bad" / "run.json").write_bytes(text.encode("latin-1"))
    answer = command(["runs", tmp_path])
    assert answer.code == 0
    assert "good" in answer.stdout
    assert f"{tmp_path / 'bad' / 'run.json'} cannot be read: damaged" in answer.stderr
    assert list(json.loads(command(["runs", tmp_path, "--json"]).stdout)["unreadable"]) == [
        str(tmp_path / "bad" / "run.json")
    ]


def test_entries_of_a_wrong_type_do_not_hide_the_run(tmp_path: Path) -> None:
    write_record(tmp_path / "odd", seed="three", scores=[1], task=5, started=None)
    (found,) = runs(tmp_path).runs
    assert (found.record.seed, found.record.scores, found.record.task) == (None, None, None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_directory_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    write_record(tmp_path / "closed" / "run")
    (tmp_path / "closed").chmod(0)
    try:
        assert runs(tmp_path).unreadable == {str(tmp_path / "closed"): "Permission denied"}
    finally:
        (tmp_path / "closed").chmod(0o755)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere does not exist. Name a directory"),
        (["file"], "file is a file. Name a directory"),
        ([".", "--sort", "f2"], "--sort f2: expected newest, path, time, size, loss, or a metric such as f1"),
        ([".", "--sort", "Accuracy"], "Did you mean accuracy?"),
        ([".", "--sort", ""], "--sort : expected"),
    ],
)
def test_bad_questions_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[..., Answer],
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    answer = command(["runs", *arguments])
    assert answer.code == 2
    assert message in answer.stderr


def test_no_runs_is_an_answer(tmp_path: Path, command: Callable[..., Answer]) -> None:
    answer = command(["runs", tmp_path])
    assert (answer.code, answer.stdout) == (0, f"No runs below {tmp_path}.\n")
    with pytest.raises(ConfigError, match="finetune runs DIR"):
        runs(tmp_path / "not-there")


def test_a_thousand_runs_are_listed_at_once_without_anything_heavy(tmp_path: Path) -> None:
    for number in range(1000):
        write_record(tmp_path / f"run-{number:04}", seed=number, task="mrpc", model="bert-base-uncased", **scored(0.5))
        (tmp_path / f"run-{number:04}" / "checkpoints" / "step-000001").mkdir(parents=True)
    began = time.process_time()  # of this process: the machine may be busy
    assert len(runs(tmp_path).runs) == 1000
    assert time.process_time() - began < 0.5
    program = (
        "import sys\nfrom finetune_cli.cli.app import main\n"
        "code = main()\nprint(code, sorted({'torch', 'numpy', 'transformers', 'optuna'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "runs", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"
    assert len(done.stdout.splitlines()) == 1002


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_500, "100 kB"), (1.5e9, "1.5 GB"), (2e15, "2000.0 TB")],
)
def test_sizes_are_short(count: float, text: str) -> None:
    assert size(count) == text
