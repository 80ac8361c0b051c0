"""Each reason to import torch as it is, asked for in a fresh process that imports nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetune_cli.system.plain_imports import REACH_INTO_TORCH, SET_BY_LAUNCHERS, TESTED_VERSIONS

ROOT = Path(__file__).resolve().parents[2]
ASK = """
import sys
from finetune_cli.system.plain_imports import reason_for_plain_imports
reason = reason_for_plain_imports()
assert "torch" not in sys.modules
print(reason)
"""


def reason(packages: Path | None = None, **variables: str) -> str:
    """The answer in a process of its own. packages: a folder of packages that are found before the installed ones."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "FINETUNE_"))
    }
    environment |= {"PYTHONPATH": str(packages)} if packages else {}
    command = [sys.executable, "-c", ASK]
    done = subprocess.run(command, env=environment | variables, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def install(directory: Path, name: str, version: str) -> Path:
    """An empty package of that name and version."""
    (directory / name).mkdir()
    (directory / name / "__init__.py").write_text("")
    (directory / f"{name}-{version}.dist-info").mkdir()
    (directory / f"{name}-{version}.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    )
    return directory


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"FINETUNE_PLAIN_IMPORTS": "0"},
        {"ACCELERATE_DYNAMO_BACKEND": "NO"},  # what `accelerate launch` sets when nobody asks for a compiler
        {"ACCELERATE_USE_CPU": "true", "ACCELERATE_USE_FSDP": "false"},
    ],
)
def test_a_process_of_its_own_with_the_tested_versions_has_no_reason(variables: dict[str, str]) -> None:
    assert reason(**variables) == "None"


@pytest.mark.parametrize("name", SET_BY_LAUNCHERS)
def test_a_launcher_is_a_reason_for_one_process_too(name: str) -> None:
    """`torchrun --nproc_per_node 1` sets LOCAL_RANK to 0 and WORLD_SIZE to 1, and a group is formed."""
    assert reason(**{name: "0"}) == f"{name} is set"


def test_sharding_is_a_reason() -> None:
    assert reason(ACCELERATE_USE_FSDP="true") == "ACCELERATE_USE_FSDP is set"


@pytest.mark.parametrize("backend", ["INDUCTOR", "eager"])
def test_a_compiler_that_accelerate_is_told_to_use_is_a_reason(backend: str) -> None:
    assert reason(ACCELERATE_DYNAMO_BACKEND=backend) == f"ACCELERATE_DYNAMO_BACKEND is {backend}"


@pytest.mark.parametrize("value", ["1", "true", "anything"])
def test_the_switch_is_a_reason(value: str) -> None:
    assert reason(FINETUNE_PLAIN_IMPORTS=value) == "FINETUNE_PLAIN_IMPORTS is set"


@pytest.mark.parametrize("name", REACH_INTO_TORCH)
def test_a_library_that_reaches_into_torch_is_a_reason(tmp_path: Path, name: str) -> None:
    assert reason(install(tmp_path, name, "1.0")) == f"{name} is installed"


@pytest.mark.parametrize(
    ("package", "version"),
    [("torch", "2.12.1+cu130"), ("torch", "2.14.0"), ("torch", "3.13.0"), ("transformers", "5.24.0.dev0")],
)
def test_another_minor_version_is_a_reason(tmp_path: Path, package: str, version: str) -> None:
    assert reason(install(tmp_path, package, version)) == f"{package} {version} was not tested with stand-ins"


def test_another_patch_or_build_of_a_tested_version_is_none(tmp_path: Path) -> None:
    assert reason(install(tmp_path, "torch", "2.13.7+cu130")) == "None"


def test_the_tested_versions_are_those_that_are_installed_for_the_tests() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    for package, minors in TESTED_VERSIONS.items():
        assert ".".join(pins[package].split(".")[:2]) in minors
