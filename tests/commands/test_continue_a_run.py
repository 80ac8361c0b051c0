"""A run stopped and continued by the command line; a directory that is held, finished, or to be started anew."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from finetune_cli.errors import MissingError, NotFinishedError
from finetune_cli.records.training import StepRecord
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.session import locked
from tests.commands.run_files import LOOPS, Answer, Trained, history, weights

ROOT = Path(__file__).resolve().parents[2]


def wait_for_updates(process: subprocess.Popen[str], file: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while not file.is_file() or file.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no updates after two minutes"
        time.sleep(0.02)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_command_stopped_by_sigterm_exits_75_and_goes_on_when_repeated(
    tmp_path: Path,
    write_config: Callable[..., Path],
    run_cli: Callable[..., subprocess.CompletedProcess[str]],
    loop: str,
) -> None:
    """Killed after some updates, repeated, and compared with the run that nobody disturbed."""
    config = write_config(
        tmp_path, training={"loop": loop, "max_steps": 150}, evaluation={"every": 75}, checkpointing={"every": 75}
    )
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "finetune_cli", "train", str(config)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    wait_for_updates(process, run / "history.jsonl", 3)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors
    assert "Run the same command again" in errors
    record = json.loads((run / "run.json").read_text())
    assert (record["status"], record["exit_code"]) == ("stopped", 75)
    stopped_at = history(run, "train")[-1]["step"]
    assert stopped_at < 150
    assert (run / "checkpoints" / f"step-{stopped_at:06d}" / "manifest.json").is_file()

    repeated = run_cli(["train", config, "--json"])
    assert repeated.returncode == 0, repeated.stderr
    assert json.loads(repeated.stdout)["resumed_from"] == stopped_at
    assert json.loads((run / "run.json").read_text())["status"] == "finished"

    undisturbed = tmp_path / "undisturbed"
    train(load_config(config, [f"output_dir={undisturbed}"]))
    for record_type in ("train", "eval"):
        first, second = history(run, record_type), history(undisturbed, record_type)
        assert [line["step"] for line in first] == [line["step"] for line in second]
        for line, other in zip(first, second, strict=True):
            # Not to the bit: this process may use another number of threads. tests/training compares bits.
            assert [line["loss"], line["epoch"]] == pytest.approx([other["loss"], other["epoch"]], rel=1e-4, abs=1e-5)
    other_weights = weights(undisturbed)
    for name, value in weights(run).items():
        torch.testing.assert_close(value, other_weights[name], rtol=1e-3, atol=1e-4)


def test_a_finished_run_exits_0_and_says_so(learned: Callable[..., Trained], command: Callable[..., Answer]) -> None:
    trained = learned("sst2")
    before = trained.run.history.read_bytes()
    answer = command(["train", trained.file])
    assert answer.code == 0
    assert "finished" in answer.stdout + answer.stderr
    assert json.loads(command(["train", trained.file, "--json"]).stdout)["already_finished"] is True
    assert trained.run.history.read_bytes() == before


def test_a_directory_that_a_live_run_holds_is_refused_with_75(
    tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer]
) -> None:
    config = write_config(tmp_path)
    with locked(RunDir(tmp_path / "run")):
        answer = command(["train", config])
    assert answer.code == 75
    assert f"process {os.getpid()}" in answer.stderr
    assert not (tmp_path / "run" / "run.json").exists()
    assert command(["train", config]).code == 0


def test_a_command_that_is_refused_leaves_no_directory_behind(tmp_path: Path) -> None:
    run, used = RunDir(tmp_path / "refused"), RunDir(tmp_path / "used")
    with pytest.raises(MissingError, match="no token"), locked(run):
        raise MissingError("no token")
    assert not run.path.exists()
    with locked(used):
        used.config.write_text("task: sst2\n")
    assert sorted(path.name for path in used.path.iterdir()) == ["config.yaml", "run.lock"]
    (tmp_path / "mine").mkdir()
    with locked(RunDir(tmp_path / "mine")):
        pass
    assert (tmp_path / "mine").is_dir()


def test_overwrite_starts_anew_also_with_another_config(
    tmp_path: Path, train_run: Callable[..., Trained], command: Callable[..., Answer]
) -> None:
    first = train_run(tmp_path)
    keep = first.run.path / "notes.txt"
    keep.write_text("mine")
    refused = command(["train", first.file, "-s", "seed=7"])
    assert refused.code == 2
    assert "seed: 42 there, 7 now" in refused.stderr
    anew = command(["train", first.file, "-s", "seed=7", "--overwrite", "--json"])
    assert anew.code == 0, anew.stderr
    assert json.loads(anew.stdout)["resumed_from"] == 0
    assert first.run.read_record().seed == 7
    assert len(history(first.run.path, "train")) == 6
    assert keep.read_text() == "mine"


def test_resume_never_trains_an_unfinished_run_from_the_start_and_refuses_a_finished_one(
    tmp_path: Path, train_run: Callable[..., Trained], command: Callable[..., Answer]
) -> None:
    first = train_run(tmp_path)
    before = history(first.run.path, "train")
    refused = command(["train", first.file, "--resume", "never"])
    assert refused.code == 2
    assert "finished run" in refused.stderr
    assert "--overwrite" in refused.stderr
    shutil.rmtree(first.run.model)
    first.run.record.unlink()  # what a run looks like that was killed before its end
    again = json.loads(command(["train", first.file, "--resume", "never", "--json"]).stdout)
    assert (again["already_finished"], again["resumed_from"]) == (False, 0)
    assert history(first.run.path, "train") == before


def test_resume_from_a_path_goes_on_from_that_checkpoint(
    tmp_path: Path, train_run: Callable[..., Trained], command: Callable[..., Answer]
) -> None:
    first = train_run(tmp_path, checkpointing={"every": 2, "keep": 10})
    before, trained_weights = history(first.run.path, "train"), weights(first.run.path)
    checkpoint = first.run.checkpoints / "step-000002"
    again = command(["train", first.file, "--resume", checkpoint, "--json"])
    assert again.code == 0, again.stderr
    assert json.loads(again.stdout)["resumed_from"] == 2
    assert history(first.run.path, "train") == before
    assert all(torch.equal(value, trained_weights[name]) for name, value in weights(first.run.path).items())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_run_killed_after_it_went_back_to_an_older_checkpoint_goes_on_from_there(
    tmp_path: Path, train_run: Callable[..., Trained], loop: str
) -> None:
    """The checkpoints after that one are given up with the lines of history.jsonl that they need."""
    first = train_run(tmp_path, training={"loop": loop}, checkpointing={"every": 2, "keep": 10})
    before, trained_weights = history(first.run.path, "train"), weights(first.run.path)

    def die(event: object) -> None:
        if isinstance(event, StepRecord):
            raise RuntimeError("as a SIGKILL: nothing more is saved")

    with pytest.raises(RuntimeError, match="SIGKILL"):
        train(first.config, resume=str(first.run.checkpoints / "step-000002"), listen=die)
    assert [path.name for path in first.run.checkpoints.iterdir()] == ["step-000002"]
    assert train(first.config).resumed_from == 2
    assert history(first.run.path, "train") == before
    assert all(torch.equal(value, trained_weights[name]) for name, value in weights(first.run.path).items())


def test_a_checkpoint_that_cannot_be_gone_back_to_costs_no_other(
    tmp_path: Path, train_run: Callable[..., Trained]
) -> None:
    first = train_run(tmp_path, checkpointing={"every": 2, "keep": 10})
    kept = first.run.history.read_bytes()
    first.run.history.write_bytes(b"")
    with pytest.raises(MissingError, match=r"has 0 bytes"):
        train(first.config, resume=str(first.run.checkpoints / "step-000002"))
    assert len(list(first.run.checkpoints.iterdir())) == 3
    first.run.history.write_bytes(kept)
    assert train(first.config).resumed_from == 6


def test_resume_from_what_is_no_checkpoint_is_refused(tmp_path: Path, train_run: Callable[..., Trained]) -> None:
    first = train_run(tmp_path)
    with pytest.raises(MissingError, match=r"nowhere cannot be used"):
        train(first.config, resume=str(tmp_path / "nowhere"))
    shutil.copytree(first.run.checkpoints / "step-000006", first.run.checkpoints / "backup")
    with pytest.raises(MissingError, match=r"backup cannot be used: its name"):
        train(first.config, resume=str(first.run.checkpoints / "backup"))


def test_a_run_that_died_before_its_end_is_scored_when_repeated(
    tmp_path: Path, train_run: Callable[..., Trained]
) -> None:
    """As after a power cut between the last update and the end: training is done, model and scores are missing."""
    first = train_run(tmp_path)
    shutil.rmtree(first.run.model)
    shutil.rmtree(first.run.path / "eval")
    first.run.write_record(replace(first.run.read_record(), status="running", exit_code=None))
    again = train(first.config)
    assert (again.resumed_from, again.already_finished) == (6, False)
    assert again.evaluations == first.report.evaluations


def test_a_listener_that_fails_leaves_a_run_that_goes_on(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    config = load_config(write_config(tmp_path), ["checkpointing.every=2", "training.num_epochs=2"])
    seen: list[int] = []

    def fail(event: object) -> None:
        seen.append(1)
        if len(seen) == 6:
            raise NotFinishedError("stopped by the listener")

    with pytest.raises(NotFinishedError):
        train(config, listen=fail)
    assert train(config).resumed_from == 4
