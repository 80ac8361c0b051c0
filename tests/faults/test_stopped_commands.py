"""A signal ends each command shortly, with its exit code, without a traceback and without a half-written file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.cli import app
from scripts.faults.runs import ROOT, is_starting

COMMANDS = {
    "prepare": ["prepare", "config.yaml"],
    "evaluate": ["evaluate", "run"],
    "predict": ["predict", "run", "--text", "a good film", "-o", "out.jsonl"],
    "compare": ["compare", "run", "run"],
}


@pytest.fixture
def signals_as_before() -> Iterator[None]:
    """A stopped command leaves the signals ignored, because its process is about to end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals_as_before")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 75), ("SIGINT", 130)])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_ends_every_command_with_a_message(
    undisturbed: tuple[dict[str, Any], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    name: str,
    code: int,
) -> None:
    def work(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.Signals[name])
        time.sleep(60)

    monkeypatch.chdir(undisturbed[1].parent)
    monkeypatch.setattr(f"finetune_cli.commands.{command}.{command}", work)
    monkeypatch.setattr(sys, "argv", ["finetune", *COMMANDS[command]])
    assert app.main() == code
    what = f"Stopped by {name} before the end; no file is half written."
    assert capsys.readouterr() == ("", f"error: {what} Run the same command again.\n")


def test_a_signal_while_predict_waits_for_rows_leaves_no_output_file(
    undisturbed: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "finetune_cli", "predict", undisturbed[1].parent / "run", "-", "-o", "out.jsonl"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    while is_starting(process.pid):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert (output, list(tmp_path.glob("out*"))) == ("", [])
    assert errors.splitlines()[-1].startswith("error: Stopped by SIGTERM")
    assert "Traceback" not in errors
