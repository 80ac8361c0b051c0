"""What a glance at a model's files shows is said by validate and prepare, before a training would stop at it."""

from __future__ import annotations

import json
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


def cut_off(directory: Path) -> None:
    """A download in parts that ended early."""
    index = {
        "metadata": {},
        "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
    }
    (directory / "model.safetensors").rename(directory / "model-00001-of-00002.safetensors")
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_off, "lacks 1 of the 2 files of its weights, first model-00002-of-00002.safetensors"),
        (lambda directory: (directory / "config.json").unlink(), "has no config.json, so it is not a model directory"),
        (lambda directory: [path.unlink() for path in directory.glob("*token*")], "has no tokenizer: expected"),
    ],
    ids=["a part of the weights", "config.json", "the tokenizer"],
)
def test_validate_prepare_and_train_say_the_same_of_a_file_that_is_missing(
    tmp_path: Path,
    tiny_bert: Path,
    write_config: Callable[..., Path],
    command: Callable[..., Answer],
    damage: Callable[[Path], object],
    message: str,
) -> None:
    model = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    for path in model.glob("vocab*"):
        path.unlink()
    damage(model)
    config = write_config(tmp_path, model={"name_or_path": str(model)})
    assert message in command(["validate", config]).stderr
    for verb in ("prepare", "train"):
        answer = command([verb, config])
        assert (answer.code, message in answer.stderr) == (5, True), answer.stderr


def test_a_model_of_the_hub_is_not_looked_for(
    tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer]
) -> None:
    config = write_config(tmp_path, model={"name_or_path": "some-org/some-model"})
    assert command(["validate", config]).stderr.count("warning") == 0
