"""Training, scoring and going on where it stopped on an XLA device: torch_xla, with PJRT's CPU as the device.

Run by scripts/xla.sh in an environment of its own. What needs no torch_xla is in tests/training/test_on_xla.py.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from finetune_cli.errors import ExitCode

pytestmark = [
    pytest.mark.xla,
    pytest.mark.skipif(importlib.util.find_spec("torch_xla") is None, reason="needs torch_xla: scripts/xla.sh"),
]

ROOT = Path(__file__).resolve().parents[2]
LOOPS = ("trainer", "accelerate")
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
RELATIVE = 1e-5  # 2e-6 was seen: XLA adds in another order
ON_XLA, ON_CPU = {"PJRT_DEVICE": "CPU"}, {"USE_TORCH_XLA": "0"}


def write_config(directory: Path, *, dropout: float = 0.0, max_length: int = 64, **training: Any) -> Path:
    """3 epochs of 43 rows of up to two widths: 5 updates of 8 rows, 4 at once, and one of 3. Its run: directory/run."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = {
        "task": "sst2",
        "model": {"from_scratch": SIZES, "dropout": dropout, "attention_dropout": dropout},
        "data": {"path": "builtin:sst2-mini", "max_length": max_length, "limit": 43},
        # Weight decay: without it the first checkpoint, after the first evaluation, has a graph of its own.
        "training": {"learning_rate": 1e-3, "micro_batch_size": 4, "precision": "fp32", "weight_decay": 0.01}
        | training,
        "evaluation": {"metrics": ["accuracy"], "bootstrap": {"samples": 0}},
        "output_dir": str(directory / "run"),
    }
    file = directory / "config.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=1800)
    finally:
        process.kill()
    return process.returncode, out, err


def done(*arguments: str, **environment: str) -> str:
    code, out, err = finish(start(*arguments, **environment))
    assert code == 0, err
    return out


def records(directory: Path) -> list[dict[str, Any]]:
    """The history without the seconds."""
    lines = (directory / "run" / "history.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


def largest_difference(first: Path, second: Path) -> float:
    """Relative, in loss, gradient norm and learning rate of the updates, and in the losses of the evaluations."""
    ours, theirs = records(first), records(second)
    assert len(ours) == len(theirs)
    names = ("loss", "grad_norm", "learning_rate")
    pairs = [(a[name], b[name]) for a, b in zip(ours, theirs, strict=True) for name in names if name in a]
    return max(abs(a - b) / max(abs(a), 1e-3) for a, b in pairs)


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "run" / "model" / "model.safetensors")


def answers(lines: str) -> dict[Any, Any]:
    return {row["id"]: (row["prediction"], row["probabilities"]) for row in map(json.loads, lines.splitlines())}


@pytest.fixture(scope="module")
def on_both(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path, dict[str, Any]]]:
    """on_both(loop): the same training on XLA and on the CPU, and what torch_xla counted."""
    place = tmp_path_factory.mktemp("both")
    os.environ["FINETUNE_CACHE"] = str(place / "cache")
    configs = [write_config(place / loop / where, loop=loop) for where in ("xla", "cpu") for loop in LOOPS]
    done("tests.xla.session", str(place / "counted"), *map(str, configs[:2]), **ON_XLA)
    for config in configs[2:]:
        done("finetune_cli", "train", str(config), "-q", **ON_CPU)
    counted = dict(zip(LOOPS, json.loads((place / "counted").read_text()), strict=True))
    return lambda loop: (place / loop / "xla", place / loop / "cpu", counted[loop])


@pytest.mark.parametrize("loop", LOOPS)
def test_each_update_is_that_of_the_cpu(on_both: Callable[..., Any], loop: str) -> None:
    xla, cpu, _ = on_both(loop)
    assert largest_difference(cpu, xla) < RELATIVE
    record = json.loads((xla / "run" / "run.json").read_text())
    assert record["devices"] == ["xla:0 (CPU)"]
    assert record["precision"] == "fp32"
    trained, expected = weights(xla), weights(cpu)
    assert all(torch.allclose(trained[name], expected[name], rtol=0, atol=1e-4) for name in expected)
    first = load_file(min((xla / "run" / "checkpoints").glob("step-*")) / "model.safetensors")
    last = load_file(max((xla / "run" / "checkpoints").glob("step-*")) / "model.safetensors")
    assert not any(torch.equal(first[name], last[name]) for name in first if name.endswith("query.weight"))


@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_is_compiled_after_the_first_epoch_and_nothing_left_to_the_cpu(
    on_both: Callable[..., Any], loop: str
) -> None:
    *_, counted = on_both(loop)
    assert len(counted["graphs"]) == 3
    assert len(set(counted["graphs"])) == 1, counted
    # Trainer reads its own sum of the losses once, at the end.
    assert counted["left_to_cpu"] == ({"aten::_local_scalar_dense": 1} if loop == "trainer" else {})


def test_predict_gives_what_evaluate_wrote(on_both: Callable[..., Any]) -> None:
    xla, *_ = on_both("trainer")
    done("finetune_cli", "evaluate", str(xla / "run"), "-q", **ON_XLA)
    expected = answers((xla / "run" / "eval" / "validation" / "predictions.jsonl").read_text())
    file = ROOT / "finetune_cli" / "samples" / "sst2-mini" / "validation.jsonl"
    found = answers(done("finetune_cli", "predict", str(xla / "run"), str(file), "--probabilities", "-q", **ON_XLA))
    assert {number: found[number] for number in expected} == expected


@pytest.mark.parametrize("loop", LOOPS)
def test_killed_then_stopped_and_continued_it_is_the_undisturbed_run_bit_for_bit(tmp_path: Path, loop: str) -> None:
    whole, hurt = tmp_path / "whole", tmp_path / "hurt"
    options: dict[str, Any] = {"dropout": 0.1, "max_length": 32, "loop": loop}
    done("finetune_cli", "train", str(write_config(whole, **options)), "-q", **ON_XLA)
    command = ["finetune_cli", "train", str(write_config(hurt, **options)), "-q", "-s", "checkpointing.every=4"]
    for number, blow, code in ((4, signal.SIGKILL, -signal.SIGKILL), (12, signal.SIGTERM, ExitCode.NOT_FINISHED)):
        process = start(*command, **ON_XLA)
        checkpoint = hurt / "run" / "checkpoints" / f"step-{number:06d}"
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(blow)
        ended, _, err = finish(process)
        assert ended == code, err
    done(*command, **ON_XLA)
    assert records(hurt) == records(whole)
    ours, theirs = weights(hurt), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("loop", LOOPS)
def test_four_chips_are_one_device_with_the_same_curve(on_both: Callable[..., Any], tmp_path: Path, loop: str) -> None:
    _, cpu, _ = on_both(loop)
    config = write_config(tmp_path, loop=loop, micro_batch_size=3)  # filled up to 4 rows, one for each chip
    done("finetune_cli", "train", str(config), "-q", CPU_NUM_DEVICES="4", **ON_XLA)
    assert largest_difference(cpu, tmp_path) < RELATIVE
    assert json.loads((tmp_path / "run" / "run.json").read_text())["devices"] == ["xla:0 (4 x CPU)"]


def test_bf16_computes_in_bf16(on_both: Callable[..., Any], tmp_path: Path) -> None:
    xla, *_ = on_both("accelerate")
    config = write_config(tmp_path, loop="accelerate", precision="bf16", max_steps=2)
    done("finetune_cli", "train", str(config), "-q", **ON_XLA)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["precision"] == "bf16"
    bf16, fp32 = (records(place)[0]["loss"] for place in (tmp_path, xla))
    assert 1e-6 < abs(bf16 - fp32) / fp32 < 2e-2


def test_doctor_shows_the_device(tmp_path: Path) -> None:
    report = json.loads(done("finetune_cli", "doctor", "--offline", "--json", **ON_XLA))
    assert report["torch"]["chosen"] == "xla:0"
    assert report["torch"]["devices"][0]["name"] == "xla:0 (CPU)"
    assert report["torch"]["devices"][0]["precision"] == "fp32"
