"""Runs trained in this process, and the command line called in this process: no start of torch for each test."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml
from huggingface_hub import constants

from finetune_cli.cli import app
from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from finetune_cli.records.sweep import SweepReport
from finetune_cli.runs.run_dir import RunDir
from tests.commands.hub_server import WRITE_TOKEN, Hub, serving
from tests.commands.run_files import SEARCH, SMALL, Answer, Trained
from tests.conftest import log_put_back


def train_from(file: Path, *overrides: str, **options: Any) -> Trained:
    config = load_config(file, overrides)
    return Trained(file, config, RunDir(config.output_dir), train(config, **options))


@pytest.fixture
def train_run(write_config: Callable[..., Path]) -> Callable[..., Trained]:
    """train_run(directory, *overrides, **sections) -> Trained: write_config and train."""

    def run(directory: Path, *overrides: str, **sections: Any) -> Trained:
        directory.mkdir(parents=True, exist_ok=True)
        return train_from(write_config(directory, **sections), *overrides)

    return run


@pytest.fixture(scope="session")
def learned(
    tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, make_dataset: Callable[..., Path]
) -> Callable[..., Trained]:
    """learned(task, loop="trainer") -> Trained: 48 rows in batches of 8, 20 epochs, 120 updates; once a session."""
    runs: dict[tuple[str, str], Trained] = {}

    def learn(task: str, loop: str = "trainer") -> Trained:
        if (task, loop) not in runs:
            directory = tmp_path_factory.mktemp(f"{task}-{loop}")
            settings = {
                "task": task,
                "model": {"name_or_path": str(tiny_bert), "dropout": 0.0, "attention_dropout": 0.0},
                "data": {"path": str(make_dataset(directory / "data", kind="pair" if task == "mrpc" else "single"))},
                "training": {
                    "loop": loop,
                    "num_epochs": 20,
                    "batch_size": 8,
                    "learning_rate": 5e-3,
                    "precision": "fp32",
                },
                "evaluation": {"every": 60},
                "output_dir": str(directory / "run"),
            }
            file = directory / "config.yaml"
            file.write_text(yaml.safe_dump(settings), encoding="utf-8")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("FINETUNE_CACHE", str(directory / "cache"))
                runs[task, loop] = train_from(file)
        return runs[task, loop]

    return learn


@pytest.fixture(scope="session")
def swept(
    tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, make_dataset: Callable[..., Path]
) -> tuple[Path, SweepReport]:
    """A finished sweep of 3 trials, once for all tests: its config file and its report. Work on a `copy_of` it."""
    folder = tmp_path_factory.mktemp("swept")
    config = {
        "task": "sst2",
        "model": {"name_or_path": str(tiny_bert)},
        "data": {"path": str(make_dataset(folder / "data"))},
        "output_dir": str(folder / "run"),
        "sweep": SEARCH,
        **SMALL,
    }
    config["training"] = {"batch_size": 8, "learning_rate": 1e-3, "precision": "fp32", **SMALL["training"]}
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_CACHE", str(folder / "cache"))
        from finetune_cli.commands.sweep import sweep  # brings optuna, which few tests need

        return file, sweep(load_config(file))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """command(args, stdin=b"") -> Answer: the command line in this process, its logging put back afterwards."""

    def run(args: Sequence[str | Path], *, stdin: bytes = b"") -> Answer:
        capsys.readouterr()
        with log_put_back(), monkeypatch.context() as patch, warnings.catch_warnings():
            patch.setattr(sys, "argv", ["finetune", *map(str, args)])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            for name in ("TRANSFORMERS_VERBOSITY", "DATASETS_VERBOSITY", "HF_HUB_VERBOSITY"):
                patch.setenv(name, "error")
            code = app.main()
        captured = capsys.readouterr()
        return Answer(int(code), captured.out, captured.err)

    return run


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The server, and huggingface_hub in this process told to use it: a token that may write, LFS in place of Xet."""
    with serving() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        huggingface_hub.close_session()  # a client that was made for other settings
        yield server
    huggingface_hub.close_session()
