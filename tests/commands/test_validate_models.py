"""What a glance at a model's files shows is said by validate and prepare, before a training would stop at it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_cli.commands.prepare import prepare
from finetune_cli.config.load import load_config
from finetune_cli.errors import MissingError
from tests.commands.run_files import Answer


def test_weights_that_are_missing_show_before_anything_is_prepared(
    tmp_path: Path, tiny_bert: Path, write_config: Callable[..., Path], command: Callable[..., Answer]
) -> None:
    model = shutil.copytree(tiny_bert, tmp_path / "model")
    (model / "model.safetensors").unlink()
    config = write_config(tmp_path, model={"name_or_path": str(model)})
    answer = command(["validate", config])
    assert (answer.code, "is valid" in answer.stdout) == (0, True)
    assert "warning: " in answer.stderr
    assert "has no weights: expected model.safetensors" in answer.stderr
    with pytest.raises(MissingError, match="has no weights"):
        prepare(load_config(config))
    assert not (tmp_path / "finetune-cache" / "prepared").exists()


def test_a_model_of_the_hub_is_not_looked_for(
    tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer]
) -> None:
    config = write_config(tmp_path, model={"name_or_path": "some-org/some-model"})
    assert command(["validate", config]).stderr.count("warning") == 0
