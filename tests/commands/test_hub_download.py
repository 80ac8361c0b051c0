"""Models that come from the Hub: which of a repository's files are fetched, and that offline they are there.

huggingface_hub's own client against a small server on loopback.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune_cli.commands.predict import predict
from finetune_cli.errors import MissingError
from finetune_cli.models.resolving import resolve_model
from scripts.models.tokenizers import TEXTS
from tests.commands.hub_server import Hub

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # peft, of a name of transformers

REPO = "some-org/some-model"
NEEDLESS = (
    "README.md",
    ".gitattributes",
    "tf_model.h5",
    "flax_model.msgpack",
    "rust_model.ot",
    "onnx/model.onnx",
    "onnx/config.json",
    "openvino/openvino_model.xml",
    "coreml/model.mlmodel",
    "model.fp16.safetensors",
    "training_args.bin",
    "optimizer.pt",
    "modeling_own.py",
    "1_Dense/model.safetensors",
)
ROWS = [("good",), ("the film was awful",)]


@pytest.fixture
def classifier(tiny_bert: Path, tmp_path: Path) -> Path:
    """A classifier as save_pretrained writes it."""
    from transformers import AutoModelForSequenceClassification

    directory = Path(shutil.copytree(tiny_bert, tmp_path / "classifier"))
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=2).save_pretrained(directory)
    return directory


def offer(hub: Hub, directory: Path, repo_id: str = REPO) -> None:
    """The files of a directory as a repository, with all those beside them that nobody needs."""
    files = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    hub.add(repo_id, {**dict.fromkeys(NEEDLESS, b"not to be fetched"), **files})


def fetched(hub: Hub, repo_id: str = REPO) -> set[str]:
    """The files whose content was asked for."""
    before = f"GET /{repo_id}/resolve/"
    return {line.removeprefix(before).partition("/")[2] for line in hub.asked if line.startswith(before)}


def answers(**options: Any) -> list[Any]:
    return list(predict(REPO, ROWS, probabilities=True, **options))


def in_parts(directory: Path) -> set[str]:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(directory)
    (directory / "model.safetensors").unlink()
    model.save_pretrained(directory, max_shard_size="20KB")
    parts = {path.name for path in directory.glob("model-*-of-*.safetensors")}
    assert len(parts) > 1
    (directory / "pytorch_model.bin").write_bytes(b"the same once more")
    return {*parts, "model.safetensors.index.json"}


def safe_beside_bin(directory: Path) -> set[str]:
    (directory / "pytorch_model.bin").write_bytes(b"the same once more")
    return {"model.safetensors"}


def bin_alone(directory: Path) -> set[str]:
    path = directory / "model.safetensors"
    torch.save(load_file(path), directory / "pytorch_model.bin")
    path.unlink()
    return {"pytorch_model.bin"}


def bin_in_parts(directory: Path) -> set[str]:
    path = directory / "model.safetensors"
    content = sorted(load_file(path).items())
    path.unlink()
    names = {f"pytorch_model-0000{part}-of-00002.bin": items for part, items in ((1, content[:9]), (2, content[9:]))}
    for name, items in names.items():
        torch.save(dict(items), directory / name)
    index = {"metadata": {}, "weight_map": {key: name for name, items in names.items() for key, _ in items}}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return {*names, "pytorch_model.bin.index.json"}


@pytest.mark.parametrize("lay_out", [safe_beside_bin, in_parts, bin_alone, bin_in_parts])
def test_the_weights_are_fetched_in_one_form_and_nothing_needless(
    hub: Hub, classifier: Path, lay_out: Callable[[Path], set[str]]
) -> None:
    expected = list(predict(classifier, ROWS, probabilities=True))
    weights = lay_out(classifier)
    offer(hub, classifier)
    assert answers() == expected
    assert fetched(hub) == {*weights, "config.json", "tokenizer.json", "tokenizer_config.json"}
    hub.asked.clear()
    assert answers(offline=True) == expected
    assert hub.asked == []


@pytest.mark.parametrize("name", ["spm.model", "tokenizer.model", "sentencepiece.bpe.model"])
def test_a_sentencepiece_model_is_fetched_as_the_tokenizer_that_it_is(hub: Hub, tmp_path: Path, name: str) -> None:
    """As deberta-v3, Gemma and XLM-RoBERTa are on the Hub; a tiny model of each kind."""
    from scripts.models.families import build

    family = {"spm.model": "deberta-v2", "tokenizer.model": "llama", "sentencepiece.bpe.model": "xlm-roberta"}[name]
    directory = tmp_path / "model"
    directory.mkdir()
    build(family, directory)
    for path in directory.glob("*token*"):
        path.unlink()
    (directory / name).write_bytes(_sentencepiece())
    offer(hub, directory)
    resolved = resolve_model(REPO, weights=False)
    assert fetched(hub) == {name, "config.json"}
    from finetune_cli.models.tokenizer import load_tokenizer

    tokens = load_tokenizer(resolved)("good film").input_ids
    assert len(tokens) > 2
    hub.asked.clear()
    assert load_tokenizer(resolve_model(REPO, weights=False, offline=True))("good film").input_ids == tokens
    assert hub.asked == []
    resolve_model(REPO)
    assert fetched(hub) == {"model.safetensors"}


def _sentencepiece() -> bytes:
    import sentencepiece

    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3), model_writer=content, vocab_size=60, minloglevel=2,
        pad_id=0, bos_id=1, eos_id=2, unk_id=3, hard_vocab_limit=False,
    )  # fmt: skip
    return content.getvalue()


@pytest.mark.parametrize("as_bin", [False, True], ids=["safetensors", "bin"])
def test_an_adapter_is_fetched_with_its_base_model(hub: Hub, classifier: Path, tmp_path: Path, as_bin: bool) -> None:
    expected = _adapter_on(classifier, tmp_path / "adapter", as_bin=as_bin)
    offer(hub, classifier, "some-org/base")
    offer(hub, tmp_path / "adapter")
    found = [list(answer["probabilities"].values()) for answer in answers()]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=0, atol=1e-6)
    weights = f"adapter_model.{'bin' if as_bin else 'safetensors'}"
    assert fetched(hub) == {"adapter_config.json", weights}
    assert fetched(hub, "some-org/base") == {
        "model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
    hub.asked.clear()
    assert [list(answer["probabilities"].values()) for answer in answers(offline=True)] == found
    assert hub.asked == []


def _adapter_on(base: Path, directory: Path, *, as_bin: bool) -> list[list[float]]:
    """A trained adapter on "some-org/base", as peft saves it; gives back the probabilities of ROWS."""
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(3)
    model = AutoModelForSequenceClassification.from_pretrained(base)
    adapted = get_peft_model(model, LoraConfig(task_type=TaskType.SEQ_CLS, r=4, target_modules=["query", "value"]))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(directory, safe_serialization=not as_bin)
    for path in directory.glob("README.md"):
        path.unlink()
    settings = json.loads((directory / "adapter_config.json").read_text())
    (directory / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": "some-org/base"}))
    if as_bin and not (directory / "adapter_model.bin").is_file():
        path = directory / "adapter_model.safetensors"
        torch.save(load_file(path), directory / "adapter_model.bin")
        path.unlink()
    tokenizer = AutoTokenizer.from_pretrained(base)
    with torch.no_grad():
        return [adapted.eval()(**tokenizer(*row, return_tensors="pt")).logits.softmax(-1)[0].tolist() for row in ROWS]


def test_an_adapter_whose_base_is_not_on_the_hub_is_named_with_its_revision(
    hub: Hub, classifier: Path, tmp_path: Path
) -> None:
    _adapter_on(classifier, tmp_path / "adapter", as_bin=False)
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "revision": "v2"}))
    offer(hub, tmp_path / "adapter")
    with pytest.raises(MissingError, match=r"is an adapter on 'some-org/base', revision v2, which is not there"):
        answers()
