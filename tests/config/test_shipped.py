"""builtin:NAME wherever a config is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_cli.config.load import load_config
from finetune_cli.config.shipped import shipped_configs
from finetune_cli.errors import ConfigError, MissingError
from finetune_cli.runs.target import open_target
from tests.conftest import ROOT


@pytest.mark.parametrize("name", ["quickstart", "smoke"])
def test_is_the_config_of_the_checkout(name: str) -> None:
    assert load_config(f"builtin:{name}") == load_config(ROOT / "configs" / f"{name}.yaml")
    assert load_config(f"builtin:{name}", ["seed=7"]).seed == 7


def test_an_unknown_one_is_met_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no such config\. Allowed: builtin:quickstart, builtin:smoke"):
        load_config("builtin:mrpc")


def test_is_a_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingError, match="Train it first: finetune train builtin:smoke"):
        open_target("builtin:smoke")


def test_is_a_base(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: builtin:smoke\nseed: 3\n", encoding="utf-8")
    config = load_config(path)
    assert (config.seed, config.task) == (3, "sst2")
    path.write_text("base: builtin:smok\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine.yaml:1:7  base: builtin:smok: no such config"):
        load_config(path)


def test_works_from_the_command_line(run_cli: Callable, tmp_path: Path) -> None:
    done = run_cli(["validate", "builtin:smoke", "-s", "training.batch_size=0"])
    assert done.returncode == 2
    assert "builtin:smoke: 1 mistake" in done.stderr
    assert len(shipped_configs()) == 2
