"""Model directories that are refused: nothing is trained from, or answered by, what is not whole."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bad_inputs.in_process import Said, finetune, refused

Damage = Callable[[Path], object]


def change(file: str, **values: object) -> Damage:
    """A damage: other values in a JSON file of the model."""

    def damage(model: Path) -> None:
        content = json.loads((model / file).read_text(encoding="utf-8"))
        (model / file).write_text(json.dumps({**content, **values}), encoding="utf-8")

    return damage


def write(file: str, content: bytes) -> Damage:
    return lambda model: (model / file).write_bytes(content)


def cut(file: str) -> Damage:
    return lambda model: (model / file).write_bytes((model / file).read_bytes()[:5000])


def remove_tokenizer(model: Path) -> None:
    for pattern in ("*token*", "vocab*"):
        for path in model.glob(pattern):
            path.unlink()


NEEDS_CODE = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}

DAMAGED = {
    "no weights": (
        lambda model: (model / "model.safetensors").unlink(),
        5,
        "has no weights: expected model.safetensors",
    ),
    "weights that are no tensors": (
        lambda model: (model / "model.safetensors").rename(model / "pytorch_model.bin"),
        5,
        "The weights of model are a .bin file that is damaged or holds more than tensors",
    ),
    "weights cut short": (cut("model.safetensors"), 5, "cannot be loaded: ", "Download or copy it again."),
    "empty weights": (write("model.safetensors", b""), 5, "cannot be loaded: ", "Download or copy it again."),
    "weights of another width": (change("config.json", hidden_size=64), 5, "do not fit its config.json: 35 tensors"),
    "weights of another vocabulary": (change("config.json", vocab_size=9), 5, "and the model's table 9 rows"),
    "no tokenizer": (remove_tokenizer, 5, "has no tokenizer: expected tokenizer.json", "tokenizer.save_pretrained("),
    "damaged tokenizer": (write("tokenizer.json", b"{"), 5, "The tokenizer of model ", "Download or copy it again."),
    "no config.json": (lambda model: (model / "config.json").unlink(), 5, "has no config.json, so it is not a model"),
    "config.json cut short": (write("config.json", b'{"a": '), 5, "config.json is damaged: ", "(char 6). Download or"),
    "a list in config.json": (write("config.json", b"[]"), 5, "config.json is damaged: expected a JSON object."),
    "no model type": (write("config.json", b"{}"), 5, "its config.json cannot be used: Unrecognized"),
    "unknown model type": (change("config.json", model_type="nope"), 5, "config.json cannot be used: ", "`nope`"),
    "code of its own": (change("config.json", **NEEDS_CODE), 2, "If you trust it: -s model.trust_remote_code=true"),
    "a length in words": (change("tokenizer_config.json", model_max_length="long"), 5, "is not a whole number"),
}


def train_on(name: str | Path, directory: Path) -> Said:
    return finetune("train", directory / "config.yaml", "-s", f"model.name_or_path={name}", "--output-dir", "new")


@pytest.mark.parametrize("case", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_model_is_not_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bert: Path, finished: Path, case: tuple
) -> None:
    damage, code, *messages = case
    monkeypatch.chdir(tmp_path)
    damage(shutil.copytree(tiny_bert, tmp_path / "model"))
    refused(train_on("model", finished), code, "model", *messages)
    assert not {"model", "checkpoints", "eval"} & {path.name for path in Path("new").iterdir()}


NAMES = {
    "a model of the Hub": ("bert-base-uncased", "offline mode is on", "-s model.name_or_path=PATH"),
    "a missing directory": ("/no/such/model", "there is no directory '/no/such/model'. Check the path."),
    "a missing relative directory": ("./models/bert", "there is no directory './models/bert'"),
    "a file": ("/proc/version", "there is no directory '/proc/version'"),
    "no name at all": ("not a model!", "'not a model!' is neither a directory here nor a valid Hub id"),
    "a package that is not installed": ("package:no_such_package/model", "needs the Python package 'no_such_package'"),
    "a part of a missing package": (
        "package:no_such_package.part/model",
        "'no_such_package.part', which is not installed",
    ),
    "a package without that folder": ("package:numpy/no_model", "the package 'numpy' has no folder 'no_model'"),
}


@pytest.mark.parametrize("case", NAMES.values(), ids=NAMES)
def test_a_model_that_is_not_there_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Path, case: tuple[str, ...]
) -> None:
    name, *messages = case
    monkeypatch.chdir(tmp_path)
    start = time.monotonic()
    refused(train_on(name, finished), 5, "model.name_or_path: ", *messages)
    assert time.monotonic() - start < 5


def test_a_head_that_was_never_trained_gives_no_answers(tiny_bert: Path, finished: Path) -> None:
    message = "has no trained classification head (missing or of another shape: classifier.bias, classifier.weight)"
    refused(finetune("predict", tiny_bert, "--text", "good"), 5, message, "finetune train CONFIG")
    rows = finished / "data" / "validation.jsonl"
    refused(finetune("evaluate", tiny_bert, "--data", rows), 5, message)


def test_a_head_of_another_number_of_classes_gives_no_answers(tmp_path: Path, finished: Path) -> None:
    model = shutil.copytree(finished / "run" / "model", tmp_path / "model")
    change("config.json", id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 0, "b": 1, "c": 2})(model)
    refused(finetune("predict", model, "--text", "good"), 5, "of another shape: classifier.bias, classifier.weight")


@pytest.mark.parametrize(
    "damage",
    [cut("model.safetensors"), write("tokenizer.json", b"{"), remove_tokenizer],
    ids=["weights cut short", "damaged tokenizer", "no tokenizer"],
)
def test_a_damaged_trained_model_gives_no_answers(tmp_path: Path, finished: Path, damage: Damage) -> None:
    damage(shutil.copytree(finished / "run" / "model", tmp_path / "model"))
    refused(finetune("predict", tmp_path / "model", "--text", "good"), 5, str(tmp_path / "model"))


def test_the_trained_model_itself_is_accepted(tmp_path: Path, finished: Path) -> None:
    said = finetune("predict", shutil.copytree(finished / "run" / "model", tmp_path / "model"), "--text", "good")
    assert (said.code, json.loads(said.stdout)["id"]) == (0, 0), said.stderr


@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["train", "dry run"])
def test_adapters_without_their_library_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Path, more: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "peft", None)  # Python's own sign for what cannot be imported
    said = finetune(
        "train",
        finished / "config.yaml",
        *("-s", "model.lora={r: 4}", "--output-dir", "new", *more),
        env={"FINETUNE_CACHE": str(tmp_path / "cache")},
    )
    refused(said, 5, "model.lora needs the library peft. Install it: pip install")
    assert not list(tmp_path.iterdir())
