"""scripts/gpu_check.sh on the CPU, and what it makes of steps that fail or are skipped."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from inspect import isfunction, signature
from pathlib import Path

import pytest
import torch

from scripts.compare_runs import relative_difference as relative
from scripts.gpu import check, graph_steps, steps

ROOT = Path(__file__).resolve().parents[2]


def test_a_dry_run_writes_a_table_and_json(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", ROOT / "scripts/gpu_check.sh", "--dry-run", "--out", tmp_path, "--only", "devices", "sharded"],
        env={**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "gpu_check.json").read_text())
    assert facts["dry_run"] is True
    assert facts["steps"]["devices"]["facts"]["version"] == torch.__version__
    assert facts["steps"]["sharded"]["state"] == "skipped"
    assert (tmp_path / "gpu_check.txt").read_text() == done.stdout
    assert "Accelerate does not shard on CPUs" in done.stdout


def test_without_a_gpu_it_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["check"])
    assert check.main() == 5
    assert "--dry-run" in capsys.readouterr().err


def test_a_step_that_fails_is_named_with_its_reason_and_ends_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(directory: Path) -> dict[str, object]:
        raise AssertionError("the loops differ by 0.5")

    monkeypatch.setitem(steps.STEPS, "packing", wrong)
    result = steps.run("packing", tmp_path)
    assert (result["state"], result["reason"]) == ("failed", "AssertionError: the loops differ by 0.5")


def test_a_step_that_crashes_or_takes_too_long_is_a_failed_one() -> None:
    crashed = check.run_step("no-such-step", 60, {**os.environ, "PYTHONPATH": str(ROOT)})
    assert (crashed["state"], crashed["reason"]) == ("failed", "KeyError: 'no-such-step'")
    late = check.run_step("devices", 0.01, {**os.environ, "PYTHONPATH": str(ROOT)})
    assert (late["state"], late["reason"]) == ("failed", "not over after 0 s")


def test_every_step_is_in_the_order() -> None:
    functions = [
        value
        for module in (steps, graph_steps)
        for value in vars(module).values()
        if isfunction(value) and value.__module__ == module.__name__
    ]
    defined = {step.__name__ for step in functions if list(signature(step).parameters) == ["directory"]}
    assert set(check.ORDER) == set(steps.STEPS) == defined


def test_differences_are_relative_and_a_missing_number_is_one() -> None:
    assert relative(None, None) == relative(0.0, 0.0) == 0
    assert relative(1.0, 0.5) == 0.5
    assert relative(None, 1.0) == math.inf
