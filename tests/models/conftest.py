"""Tiny models of any family, built once a session."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.models.families import build


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """family(name) -> the directory of its tiny model, not to be changed."""
    built: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in built:
            built[name] = build(name, tmp_path_factory.mktemp(name))
        return built[name]

    return get


@pytest.fixture
def family_copy(family: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """family_copy(name) -> a copy to change."""
    return lambda name: Path(shutil.copytree(family(name), tmp_path / name))


@pytest.fixture
def model_copy(tmp_path: Path, tiny_bert: Path) -> Path:
    """A copy of tiny_bert to damage."""
    return Path(shutil.copytree(tiny_bert, tmp_path / "model"))
