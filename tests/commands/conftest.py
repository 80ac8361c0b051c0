"""Runs that have learned their data, trained once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from run_files import Trained

from finetune_cli.commands.train import train
from finetune_cli.config import load_config
from finetune_cli.run_dir import RunDir


@pytest.fixture(scope="session")
def learned(
    tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, make_dataset: Callable[..., Path]
) -> Callable[..., Trained]:
    """learned(task, loop="trainer") -> Trained: 48 rows in batches of 8, ten epochs, 60 updates in all."""
    runs: dict[tuple[str, str], Trained] = {}

    def learn(task: str, loop: str = "trainer") -> Trained:
        if (task, loop) not in runs:
            directory = tmp_path_factory.mktemp(f"{task}-{loop}")
            kind = "pair" if task == "mrpc" else "single"
            settings = {
                "task": task,
                "model": {"name_or_path": str(tiny_bert), "dropout": 0.0},
                "data": {"path": str(make_dataset(directory / "data", kind=kind))},
                "training": {"loop": loop, "num_epochs": 10, "batch_size": 8, "learning_rate": 1e-2},
                "output_dir": str(directory / "run"),
            }
            file = directory / "config.yaml"
            file.write_text(yaml.safe_dump(settings), encoding="utf-8")
            config = load_config(file)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("FINETUNE_CACHE", str(directory / "cache"))
                runs[task, loop] = Trained(file, config, RunDir(config.output_dir), train(config))
        return runs[task, loop]

    return learn
