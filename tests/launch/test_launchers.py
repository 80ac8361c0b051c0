"""The real launchers, and groups that fail: each is one command, with its processes seen from outside."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from finetune_cli.cli.processes import train_on_several
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, NotFinishedError
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.session import locked
from finetune_cli.system.launching import join_group
from tests.launch.conftest import Session
from tests.launch.launch_runs import (
    PROMPT_SECONDS,
    Command,
    Ended,
    free_port,
    record,
    require_same_curve,
    start,
    updates,
    wait_for,
)

PACKAGE = ["-m", "finetune_cli"]
# torchrun and accelerate launch as modules: the same programs, found without a PATH.
LAUNCHERS = {
    "our own": [*PACKAGE],
    "torchrun": ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "PORT", *PACKAGE],
    "accelerate": ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
                   "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "PORT", *PACKAGE],
}  # fmt: skip
DYING = """\
import os
if os.environ.get("RANK") == os.environ["DYING_RANK"]:
    import accelerate.optimizer
    def fail(self, closure=None):
        raise ValueError("planted fault")
    accelerate.optimizer.AcceleratedOptimizer.step = fail
"""


def start_training(session: Session, run: Path, launcher: str, *more: str, **environment: str) -> Command:
    arguments = [free_port() if part == "PORT" else part for part in LAUNCHERS[launcher]]
    own = ["--num-processes", "2"] if launcher == "our own" else []
    command = [*arguments, "train", session.config, "--output-dir", run, *own, *more]
    return start(command, cwd=run.parent, cache=session.cache, **environment)


def require_prompt_failure(ended: Ended, since: float, run: Path) -> None:
    assert time.monotonic() - since < PROMPT_SECONDS
    assert ended.code != 0
    assert ended.orphans == []
    assert record(run)["status"] == "failed"
    assert record(run)["exit_code"] == 1


@pytest.mark.parametrize(
    "launcher",
    ["accelerate", pytest.param("torchrun", marks=pytest.mark.slow), pytest.param("our own", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("loop", ["trainer", pytest.param("accelerate", marks=pytest.mark.slow)])
def test_each_launcher_trains_the_model_of_one_process(
    session: Session, tmp_path: Path, launcher: str, loop: str
) -> None:
    ended = start_training(session, tmp_path / "run", launcher, "-s", f"training.loop={loop}").finish()
    assert ended.code == 0, ended.output
    assert record(tmp_path / "run")["processes"] == 2
    assert ended.output.count("Best: update") == 1  # the main process alone prints
    require_same_curve(tmp_path / "run", session.folder / f"{loop}-1")


def test_a_killed_process_ends_the_run_with_its_name(session: Session, tmp_path: Path) -> None:
    require_end_after_kill(session, tmp_path / "run", rank=1)


@pytest.mark.slow
def test_a_killed_main_process_ends_the_run_with_its_name(session: Session, tmp_path: Path) -> None:
    require_end_after_kill(session, tmp_path / "run", rank=0)


def require_end_after_kill(session: Session, run: Path, *, rank: int) -> None:
    command = start_training(session, run, "our own", "-s", "training.num_epochs=2000", "-q")
    wait_for(lambda: updates(run))
    os.kill(command.rank(rank), signal.SIGKILL)
    killed = time.monotonic()
    ended = command.finish(PROMPT_SECONDS)
    require_prompt_failure(ended, killed, run)
    assert ended.code == 1
    assert f"Process {rank} was killed by SIGKILL (the system may have run out of memory)" in ended.output


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_other_launchers_end_a_group_too_when_one_process_is_killed(
    session: Session, tmp_path: Path, launcher: str
) -> None:
    run = tmp_path / "run"
    command = start_training(session, run, launcher, "-s", "training.num_epochs=2000", "-q")
    wait_for(lambda: updates(run))
    os.kill(command.rank(1), signal.SIGKILL)
    killed = time.monotonic()
    ended = command.finish(PROMPT_SECONDS)
    assert time.monotonic() - killed < PROMPT_SECONDS
    assert ended.code != 0
    assert ended.orphans == []
    assert record(run)["status"] in ("stopped", "failed")  # torchrun ends the others with SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_in_one_process_ends_the_run_with_its_message(session: Session, tmp_path: Path, rank: int) -> None:
    (tmp_path / "sitecustomize.py").write_text(DYING, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).resolve().parents[2])])
    environment = {"PYTHONPATH": path, "DYING_RANK": str(rank)}
    began = time.monotonic()
    run = tmp_path / "run"
    command = start_training(session, run, "our own", "-s", "training.num_epochs=2000", **environment)
    wait_for(lambda: (run / "run.json").exists() and record(run).get("devices"))
    began = time.monotonic()
    ended = command.finish(PROMPT_SECONDS)
    require_prompt_failure(ended, began, run)
    assert "planted fault" in ended.output


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2)])
def test_a_stopped_run_goes_on_with_another_number_of_processes(
    session: Session, tmp_path: Path, first: int, second: int
) -> None:
    run = tmp_path / "run"
    for processes in (first, second):
        own = ["--num-processes", str(processes)]
        arguments = [*PACKAGE, "train", session.config, "--output-dir", run, *own]
        command = start(arguments, cwd=tmp_path, cache=session.cache)
        if processes == first:
            wait_for(lambda: updates(run))
            command.process.send_signal(signal.SIGTERM)
        ended = command.finish()
        assert ended.code == (75 if processes == first else 0), ended.output
        assert ended.orphans == []
    assert 0 < record(run)["resumed_from"] < 6
    require_same_curve(run, session.folder / "trainer-1")


@pytest.mark.slow
def test_accelerate_launch_with_cpu_starts_one_process_and_the_record_says_so(session: Session, tmp_path: Path) -> None:
    """Accelerate itself drops --num_processes there, and no process can see that more were asked for."""
    flags = [
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
    ]
    run = tmp_path / "run"
    arguments = ["-m", "accelerate.commands.launch", *flags, *PACKAGE, "train", session.config, "--output-dir", run]
    ended = start(arguments, cwd=tmp_path, cache=session.cache).finish()
    assert ended.code == 0, ended.output
    assert record(run)["processes"] == 1


def test_a_directory_that_another_run_holds_is_refused_before_processes_start(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune_cli.system.launching.launch", None)  # not called
    config = load_config(session.config, [f"output_dir={tmp_path / 'run'}"])
    with locked(RunDir(config.output_dir)), pytest.raises(NotFinishedError, match="Another run holds"):
        train_on_several(config, 2, offline=True)


def test_a_group_smaller_than_what_was_launched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process would train alone, as process 0 of its own group."""
    from accelerate import PartialState

    assert PartialState().num_processes == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")  # join_group sets it: put back afterwards
    with pytest.raises(ConfigError, match=r"2 processes were launched, but their group has 1\..*--num-processes 2"):
        join_group()
