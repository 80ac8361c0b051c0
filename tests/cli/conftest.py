"""One trained run, made by the command line itself, and a terminal to run it on."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from tests.cli.cli_runs import Trained, command_environment


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, make_dataset: Callable[..., Path]) -> Trained:
    """A sentiment model, six updates of eight rows, trained in a process of its own with its streams in pipes."""
    directory = tmp_path_factory.mktemp("trained")
    config = directory / "config.yaml"
    settings = {
        "task": "sst2",
        "model": {"name_or_path": str(tiny_bert)},
        "data": {"path": str(make_dataset(directory / "data"))},
        "training": {"num_epochs": 1, "batch_size": 8, "learning_rate": 1e-3},
        "evaluation": {"every": 3, "bootstrap": {"samples": 50}},
        "output_dir": str(directory / "run"),
    }
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    cache = directory / "cache"
    done = subprocess.run(
        [sys.executable, "-m", "finetune_cli", "train", str(config)],
        env=command_environment(cache),
        cwd=directory,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Trained(config, directory / "run", cache, done.stdout, done.stderr)


@pytest.fixture
def run_on_terminal(cache_dir: Path, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """run_on_terminal(args, **env) -> (exit code, all that a terminal of 80 columns received)."""

    def run(args: Sequence[str | Path], **env: str) -> tuple[int, str]:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-m", "finetune_cli", *map(str, args)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=command_environment(cache_dir, **{"TERM": "xterm-256color", **env}),
            cwd=tmp_path,
        )
        os.close(slave)
        received = b""
        try:
            while data := os.read(master, 65536):
                received += data
        except OSError:  # Linux says so when the last process has closed the terminal
            pass
        os.close(master)
        return process.wait(timeout=60), received.decode()

    return run
