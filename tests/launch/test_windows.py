"""Long rows in windows on two processes: the curve and the scores of one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.launch_runs import SETTINGS, require_same_curve, start


@pytest.mark.parametrize(
    ("loop", "setting"),
    [
        ("trainer", "training.micro_batch_size=3"),
        pytest.param("accelerate", "training.micro_batch_tokens=64", marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_and_score_windows_as_one(
    tmp_path: Path, write_config: Callable[..., Path], loop: str, setting: str
) -> None:
    """23 rows in updates of 8, most of them longer than 12 tokens: windows that two processes cannot share evenly."""
    training = {**SETTINGS["training"], "micro_batch_size": "auto", "loop": loop}
    data = {"max_length": 12, "long_texts": {"windows": {"stride": 3}}, "limit": 23}
    config = write_config(tmp_path, **{**SETTINGS, "training": training, "data": data})
    for processes in ("1", "2"):
        run = tmp_path / processes
        command = [
            "-m",
            "finetune_cli",
            "train",
            config,
            "--output-dir",
            run,
            "--num-processes",
            processes,
            "-s",
            setting,
        ]
        ended = start(command, cwd=tmp_path, cache=tmp_path / "cache").finish()
        assert ended.code == 0, ended.output
    require_same_curve(tmp_path / "2", tmp_path / "1")
    scores = [json.loads((tmp_path / n / "eval" / "validation" / "metrics.json").read_text()) for n in ("1", "2")]
    assert scores[0]["n"] == scores[1]["n"] == 12
    assert scores[1]["loss"] == pytest.approx(scores[0]["loss"], rel=1e-5)
