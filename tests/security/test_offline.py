"""`--offline` makes no connection: shown by a process in which every attempt fails and is written down."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_NETWORK = """\
import os, socket
def forbid(name):
    def refuse(*args, **kwargs):
        with open(os.environ["CONNECTIONS"], "a") as file:
            print(name, args[-1:], file=file)
        raise OSError(f"this test forbids socket.{name}")
    return refuse
for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, forbid(name))
for name in ("getaddrinfo", "gethostbyname", "create_connection"):
    setattr(socket, name, forbid(name))
"""


@pytest.fixture
def isolated(tmp_path: Path, run_cli: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., tuple]:
    """isolated(args, **env) -> (exit code, stderr, attempts to connect)"""
    folder = tmp_path / "no-network"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    attempts = tmp_path / "connections.txt"

    def run(args: list[str | Path], **environment: str) -> tuple[int, str, str]:
        path = {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "CONNECTIONS": str(attempts)}
        done = run_cli(args, env={**path, **environment})
        return done.returncode, done.stderr, attempts.read_text() if attempts.exists() else ""

    return run


def test_the_guard_sees_an_attempt(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    attempts = tmp_path / "connections.txt"
    code = "import urllib.request; urllib.request.urlopen('http://example.org')"
    environment = {"PYTHONPATH": str(tmp_path), "CONNECTIONS": str(attempts), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert attempts.read_text()


def test_training_offline_connects_to_nothing_and_keeps_the_hub_token_to_itself(
    tmp_path: Path, isolated: Callable[..., tuple], write_config: Callable[..., Path]
) -> None:
    token = "hf_" + "PlantedTokenThatNobodyMaySee"
    config = write_config(tmp_path, training={"max_steps": 2})
    code, stderr, attempts = isolated(["train", config, "--offline", "--verbose"], HF_HUB_OFFLINE="0", HF_TOKEN=token)
    assert code == 0, stderr
    assert attempts == ""
    assert token not in stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file() and token.encode() in path.read_bytes()] == []


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        (["--offline", "-s", "model.name_or_path=nobody/has-this-model"], {"HF_HUB_OFFLINE": "0"}),
        (["--offline", "-s", "data.path=nobody/has-these-rows"], {"HF_HUB_OFFLINE": "0"}),
        pytest.param(
            ["-s", "model.name_or_path=nobody/has-this-model"], {"HF_HUB_OFFLINE": "1"}, marks=pytest.mark.slow
        ),
        pytest.param(["-s", "data.path=nobody/has-these-rows"], {"HF_HUB_OFFLINE": "1"}, marks=pytest.mark.slow),
    ],
)
def test_what_is_not_here_is_missed_without_asking_the_hub(
    tmp_path: Path,
    isolated: Callable[..., tuple],
    write_config: Callable[..., Path],
    options: list[str],
    environment: dict[str, str],
) -> None:
    code, stderr, attempts = isolated(["prepare", write_config(tmp_path), *options], **environment)
    assert code == 5, stderr
    assert "nobody/has-th" in stderr
    assert attempts == ""
