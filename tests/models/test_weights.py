"""The weights of a model: .bin files read as tensors alone, views of one tensor told apart, nothing lost on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import load_file

from finetune_cli.errors import MissingError, RunFailedError
from finetune_cli.models import building, files, resolving
from finetune_cli.training.state import WEIGHTS, require_every_weight


def classifier(directory: Path) -> Any:
    return building.build_classifier(directory, kind="classification", label_names=("no", "yes"))


def as_bin(directory: Path) -> Path:
    """The same weights as torch.save writes them."""
    path = directory / "model.safetensors"
    torch.save(load_file(path), directory / "pytorch_model.bin")
    path.unlink()
    return directory


def test_bin_weights_are_the_same_weights(family_copy: Callable[[str], Path], caplog: pytest.LogCaptureFixture) -> None:
    directory = family_copy("bert")
    torch.manual_seed(0)
    expected = classifier(directory).state_dict()
    fingerprint = files.weights_fingerprint(directory)
    torch.manual_seed(0)
    with caplog.at_level("INFO", "finetune_cli"):
        found = classifier(as_bin(directory)).state_dict()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert "the weights are a .bin file; nothing but tensors is read from it" in caplog.text
    assert resolving.resolve_model(str(directory)) == directory
    assert files.weights_fingerprint(directory) != fingerprint


def test_safetensors_come_first(family_copy: Callable[[str], Path]) -> None:
    directory = family_copy("bert")
    (directory / "pytorch_model.bin").write_bytes(b"never opened")
    assert files.weight_format(directory) == "safetensors"
    classifier(directory)


def test_a_bin_that_holds_no_weights_is_not_called_such(family_copy: Callable[[str], Path]) -> None:
    """A folder of a run of Trainer whose weights were deleted."""
    directory = family_copy("bert")
    (directory / "model.safetensors").unlink()
    (directory / "training_args.bin").write_bytes(b"a pickle")
    with pytest.raises(MissingError, match=r"has no weights: expected model\.safetensors .*pytorch_model\.bin"):
        resolving.resolve_model(str(directory))


def test_weights_of_another_library_are_named(family_copy: Callable[[str], Path]) -> None:
    directory = family_copy("bert")
    (directory / "model.safetensors").rename(directory / "tf_model.h5")
    with pytest.raises(MissingError, match=r"found tf_model\.h5, which is for another library"):
        resolving.resolve_model(str(directory))


@pytest.mark.parametrize("name", ["nomic_bert", "gte", "jina_embeddings_v3"])
def test_parameters_that_were_views_of_one_tensor_are_all_saved(
    family: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    model = classifier(family(name))
    starts = [parameter.untyped_storage().data_ptr() for parameter in model.parameters()]
    assert len(set(starts)) == len(starts)
    accelerator = Accelerator(cpu=True)
    accelerator.prepare_model(model)
    accelerator.save_state(str(tmp_path))
    accelerator._models.clear()
    with safe_open(tmp_path / WEIGHTS, "pt") as file:
        assert set(file.keys()) == set(model.state_dict())


def test_a_checkpoint_that_lacks_a_weight_fails_when_it_is_written(tmp_path: Path) -> None:
    """Two parameters in one tensor, of which Accelerate saves one."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False))
    whole = torch.randn(8, 4)
    model[0].weight.data, model[1].weight.data = whole[:4], whole[4:]
    accelerator = Accelerator(cpu=True)
    accelerator.prepare_model(model)
    accelerator.save_state(str(tmp_path))
    try:
        with pytest.raises(
            RunFailedError, match=r"a checkpoint would lack 1 weights of the model, first '[01]\.weight'"
        ):
            require_every_weight(tmp_path, accelerator)
    finally:
        accelerator._models.clear()


def test_tied_weights_are_not_missing(family: Callable[[str], Path], tmp_path: Path) -> None:
    model = classifier(family("t5"))  # its table of tokens is that of encoder and decoder
    accelerator = Accelerator(cpu=True)
    accelerator.prepare_model(model)
    accelerator.save_state(str(tmp_path))
    require_every_weight(tmp_path, accelerator)
    accelerator._models.clear()


def test_an_old_folder_of_sentence_transformers_has_its_model_inside(
    family: Callable[[str], Path], tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(family("bert"), tmp_path / "0_Transformer")
    (tmp_path / "modules.json").write_text(json.dumps([{"idx": 0, "path": "0_Transformer"}, {"path": "1_Pooling"}]))
    assert resolving.resolve_model(str(tmp_path)) == tmp_path / "0_Transformer"


def test_a_run_is_not_a_model_and_says_where_its_model_is(family: Callable[[str], Path], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(family("bert"), tmp_path / "run" / "model")
    (tmp_path / "run" / "config.yaml").write_text("task: sst2\n")
    with pytest.raises(
        MissingError, match=r"run is a run; its model is one folder further in\. Name that: .*run/model"
    ):
        resolving.resolve_model(str(tmp_path / "run"))
