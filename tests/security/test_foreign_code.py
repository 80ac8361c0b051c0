"""Code that comes with a model, a config or a checkpoint does not run unless the user asks for it."""

from __future__ import annotations

import json
import pickle
import shutil
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, FinetuneError, MissingError
from finetune_cli.models.building import build_classifier
from finetune_cli.models.tokenizer import load_tokenizer
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.training.manifest import find_damage
from tests.security.conftest import Trap

CUSTOM_CODE = """\
{trap}
from transformers import BertConfig, BertForSequenceClassification
class OwnConfig(BertConfig):
    model_type = "own-bert"
class OwnClassifier(BertForSequenceClassification):
    config_class = OwnConfig
"""


@pytest.fixture
def model_with_code(tiny_bert: Path, trap: Trap, tmp_path: Path) -> Path:
    """A model directory whose config.json names classes in a Python file beside it."""
    directory = tmp_path / "model-with-code"
    shutil.copytree(tiny_bert, directory)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForSequenceClassification": "own.OwnClassifier"}
    config |= {"model_type": "own-bert", "architectures": ["OwnClassifier"], "auto_map": classes}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (directory / "own.py").write_text(CUSTOM_CODE.format(trap=trap.code()), encoding="utf-8")
    return directory


def test_a_models_own_code_does_not_run_by_default(
    tmp_path: Path, model_with_code: Path, trap: Trap, write_config: Callable[..., Path]
) -> None:
    config = load_config(write_config(tmp_path, model={"name_or_path": str(model_with_code)}))
    with pytest.raises(ConfigError, match=r"runs code of its own\. If you trust it: -s model\.trust_remote_code=true"):
        train(config)
    assert not trap.sprung()


def test_a_tokenizers_own_code_does_not_run(tiny_bert: Path, trap: Trap, tmp_path: Path) -> None:
    directory = tmp_path / "tokenizer-with-code"
    shutil.copytree(tiny_bert, directory)
    file = directory / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings |= {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": [None, "own.OwnTokenizer"]}}
    file.write_text(json.dumps(settings), encoding="utf-8")
    (directory / "own.py").write_text(trap.code() + "class OwnTokenizer: ...\n", encoding="utf-8")
    with suppress(MissingError):  # either answer is fine: the plain tokenizer.json beside it, or a refusal
        load_tokenizer(directory)
    assert not trap.sprung()


def test_weights_that_would_run_code_are_refused_unread(tiny_bert: Path, trap: Trap, tmp_path: Path) -> None:
    directory = tmp_path / "pickled"
    shutil.copytree(tiny_bert, directory)
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(trap.pickled())
    with pytest.raises(MissingError, match=r"holds more than tensors\. Loading such a file could run code, so it"):
        build_classifier(directory, kind="classification", label_names=("no", "yes"))
    assert not trap.sprung()


def test_a_yaml_tag_does_not_run(tmp_path: Path, trap: Trap) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"task: !!python/object/apply:os.mkdir [{trap.marker}]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.yaml:1:7"):
        load_config(file)
    assert not trap.sprung()


@pytest.fixture
def plant(tmp_path: Path, trap: Trap, write_config: Callable[..., Path]) -> Callable[..., None]:
    """plant(loop, *names): train, put a pickle under these names into the first checkpoint, go on from there."""

    def run(loop: str, *names: str) -> None:
        overrides = {"loop": loop, "max_steps": 4}
        config = load_config(write_config(tmp_path, training=overrides, checkpointing={"every": 2, "keep": 9}))
        train(config)
        checkpoint = RunDir(config.output_dir).checkpoints / "step-000002"
        for name in names:
            (checkpoint / name).write_bytes(trap.pickled())
        seal(checkpoint)
        assert find_damage(checkpoint) is None
        train(config, resume=str(checkpoint))

    return run


def seal(checkpoint: Path) -> None:
    """Write a manifest that is right for the files as they are now: checksums do not protect from who can write."""
    files = {
        path.name: {"bytes": path.stat().st_size, "crc32": f"{zlib.crc32(path.read_bytes()):08x}"}
        for path in checkpoint.iterdir()
        if path.name != "manifest.json"
    }
    manifest = {"step": int(checkpoint.name.removeprefix("step-")), "files": files}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_a_pickle_in_a_checkpoint_is_refused_unread(plant: Callable[..., None], trap: Trap, loop: str) -> None:
    with pytest.raises(MissingError, match=r"step-000002 cannot be used: .* could run code"):
        plant(loop, "optimizer.bin")
    assert not trap.sprung()


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_files_that_a_library_would_look_for_are_never_unpickled(
    plant: Callable[..., None], trap: Trap, loop: str
) -> None:
    """Ignoring such files is as good as refusing them."""
    names = ("random_states_0.pkl", "scaler.pt", "scheduler.bin", "sampler.bin", "training_args.bin")
    others = ("custom_checkpoint_0.pkl", "optimizer.pt", "scheduler.pt", "rng_state.pth", "pytorch_model.bin")
    with suppress(FinetuneError, RuntimeError, pickle.UnpicklingError):
        plant(loop, *names, *others)
    assert not trap.sprung()


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_generator_states_are_never_unpickled(plant: Callable[..., None], trap: Trap, loop: str) -> None:
    """Alone, so that nothing else ends the run before they are read."""
    with suppress(MissingError):
        plant(loop, "random_states_0.pkl")
    assert not trap.sprung()


def test_the_trap_springs_when_anything_unpickles_it(trap: Trap) -> None:
    pickle.loads(trap.pickled())
    assert trap.sprung()


@pytest.mark.parametrize("name", ["../../config.yaml", "/etc/hostname", "sub/../../x"])
def test_a_manifest_cannot_name_files_outside_its_checkpoint(tmp_path: Path, name: str) -> None:
    checkpoint = tmp_path / "step-000001"
    checkpoint.mkdir()
    (checkpoint / "progress.json").write_text("{}", encoding="utf-8")
    seal(checkpoint)
    manifest = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][name] = {"bytes": 0, "crc32": ""}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert "names a file outside the checkpoint" in str(find_damage(checkpoint))


def test_clearing_a_run_deletes_nothing_behind_links(tmp_path: Path) -> None:
    """A run whose checkpoints are linked to a larger disk, in a directory that has files of others as well."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    run = RunDir(tmp_path / "linked")
    (run.path / "notes.txt").write_text("mine", encoding="utf-8")
    run.checkpoints.symlink_to(elsewhere)
    run.model.symlink_to(elsewhere)
    run.clear()
    assert (elsewhere / "precious.txt").read_text(encoding="utf-8") == "mine"
    assert (tmp_path / "real" / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert (tmp_path / "linked").is_symlink()
