"""What is left of a training when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.commands import train as training
from finetune_cli.config.load import load_config
from finetune_cli.runs import parts


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_the_optimizers_moments_are_gone_before_the_best_model_is_read(
    tmp_path: Path, write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    built: list[Any] = []
    left: list[int] = []
    build, give_back = parts.build_optimizer, training.give_back_freed_memory

    def build_and_note(*arguments: Any, **options: Any) -> Any:
        built.append(build(*arguments, **options))
        return built[-1]

    def count_and_give_back() -> None:
        left.extend(len(optimizer.state) for optimizer in built)
        give_back()

    monkeypatch.setattr(parts, "build_optimizer", build_and_note)
    monkeypatch.setattr(training, "give_back_freed_memory", count_and_give_back)
    file = write_config(tmp_path, training={"loop": loop, "max_steps": 2}, evaluation={"baseline": False})
    training.train(load_config(file))
    assert left == [0]
