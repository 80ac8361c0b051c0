"""The real command, ended by real signals at moments that its files show. Many more: scripts/faults/faults.py."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from finetune_cli.system.signals import StopRequest
from scripts.faults.files import differences, leftovers, outcome
from scripts.faults.kills import allowed_codes, moment
from scripts.faults.runs import SmallRun, write_data

SECONDS = 5.0  # within which moments that are not aimed at anything are drawn


def hurt(run: SmallRun, how: str, when: str) -> str:
    """Start the command and hurt it; its output. The blow must land, and end it with the exit code that is promised."""
    rng = random.Random(f"{how} {when}")
    condition, delay = moment(run, when, rng, SECONDS)
    ended = run.hurt(how, condition, rng=rng, delay=delay)
    assert ended.landed, ended.output
    assert ended.code in allowed_codes(how, ended, run), ended.output
    assert "Traceback" not in ended.output or "KILL" in how
    return ended.output


def test_a_run_that_is_killed_again_and_again_equals_the_undisturbed_one(
    small_run: Callable[..., SmallRun], undisturbed: tuple[dict[str, Any], Path]
) -> None:
    run = small_run()
    hurt(run, "KILL", "checkpoint")
    assert "complete checkpoint" in hurt(run, "TERM", "evaluation")
    ended = run.complete()
    assert ended.code == 0, ended.output
    assert differences(undisturbed[0], outcome(run.run)) == []
    assert leftovers(run.run) == []
    assert run.complaints == []


def test_a_signal_during_tokenisation_ends_the_command_with_the_same_code_and_without_a_traceback(
    small_run: Callable[..., SmallRun],
) -> None:
    run = small_run(cache=None)
    shutil.rmtree(run.folder / "data")
    write_data(run.folder / "data", train=3000)  # a training that is not over before the signal, on a busy machine too
    assert "Stopped by SIGUSR1" in hurt(run, "USR1", "tokenisation")
    assert run.complaints == []
    # Complete or absent: on a quick machine the signal may come when the rows have just been published.
    assert all((folder / "manifest.json").is_file() for folder in run.folder.glob("cache/prepared/[!.]*"))


def test_a_signal_that_arrives_while_the_processes_agree_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that got it must not act on it alone, either."""
    stop = StopRequest()
    arriving = [signal.SIGTERM]

    def exchange_of_two(flag: torch.Tensor, op: Any) -> None:
        while arriving:
            stop.handle(arriving.pop(), None)

    monkeypatch.setattr(torch.distributed, "all_reduce", exchange_of_two)
    group = SimpleNamespace(num_processes=2, device=torch.device("cpu"))
    assert stop.agreed(group) == 0
    assert stop.agreed(group) == signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_kept_predictions_and_the_baseline_are_the_same_after_kills(
    tmp_path: Path, undisturbed: tuple[dict[str, Any], Path], loop: str
) -> None:
    whole, run = (
        SmallRun(tmp_path / name, loop=loop, epochs=1, baseline="auto", cache=undisturbed[1]) for name in ("a", "b")
    )
    assert whole.complete().code == 0
    scores = json.loads((whole.run / "eval" / "validation" / "metrics.json").read_text(encoding="utf-8"))
    assert scores["text_baseline"]["rows"] == 117
    for moment_of_the_kill in ("evaluation", "checkpoint", "export"):
        hurt(run, "KILL", moment_of_the_kill)
    ended = run.complete()
    assert ended.code == 0, ended.output
    assert differences(outcome(whole.run), outcome(run.run)) == []  # the candidates and the baseline's scores, too
    assert leftovers(run.run) == []


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_a_run_of_two_processes_goes_on_after_one_of_them_was_killed(
    small_run: Callable[..., SmallRun], loop: str
) -> None:
    run = small_run(processes=2, loop=loop)
    assert "was killed by SIGKILL" in hurt(run, "KILL child", "evaluation")
    assert run.record()["status"] == "failed"
    assert run.record()["exit_code"] == 1
    hurt(run, "INT twice", "export")
    ended = run.complete()
    assert ended.code == 0, ended.output
    assert run.complaints == []  # no process lives on, every file is readable
    assert leftovers(run.run) == []
