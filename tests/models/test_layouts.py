"""A model's folder as people have it: predict, evaluate and training make the same of it, numbers included.

Training is given a learning rate of 1e-9, so that the score of its model is that of the one it started from.
"""

from __future__ import annotations

import io
import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.predict import predict
from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from finetune_cli.errors import FinetuneError
from finetune_cli.models.building import build_classifier
from finetune_cli.models.tokenizer import load_tokenizer
from scripts.models.families import build
from scripts.models.tokenizers import TEXTS
from tests.conftest import sentiment_row, write_rows

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # peft, of a name of transformers
NAMES = ("negative", "positive")
Layout = Callable[[Path], object]


def make_classifier(base: Path, directory: Path) -> Path:
    """A classifier with a head that tells texts apart, and the tokenizer of `base`."""
    torch.manual_seed(4)
    model = build_classifier(base, kind="classification", label_names=NAMES)
    for name, parameter in model.named_parameters():
        if name.startswith(("classifier", "score", "pooler")):
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(directory)
    load_tokenizer(base).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def classifiers(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Callable[[str], Path]:
    """classifiers(family) -> the directory of a classifier; "bert" is the one of tests/conftest.py."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            base = tiny_bert if name == "bert" else build(name, tmp_path_factory.mktemp(f"{name}-base"))
            made[name] = make_classifier(base, tmp_path_factory.mktemp(f"{name}-classifier"))
        return made[name]

    return get


def change(file: str, **values: object) -> Layout:
    def do(directory: Path) -> None:
        path = directory / file
        content = {**json.loads(path.read_text(encoding="utf-8")), **values}
        path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))

    return do


def remove(*patterns: str) -> Layout:
    return lambda directory: [path.unlink() for pattern in patterns for path in directory.glob(pattern)]


def vocabulary_alone(directory: Path) -> None:
    words = load_tokenizer(directory).get_vocab()
    remove("*token*")(directory)
    (directory / "vocab.txt").write_text("".join(f"{word}\n" for word in sorted(words, key=words.__getitem__)))


def padding_in_its_own_file(directory: Path) -> None:
    change("tokenizer_config.json", pad_token=None)(directory)
    (directory / "special_tokens_map.json").write_text(json.dumps({"pad_token": "[PAD]"}))


def weights(change_them: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Layout:
    def do(directory: Path) -> None:
        path = directory / "model.safetensors"
        save_file(change_them(load_file(path)), path, metadata={"format": "pt"})

    return do


def in_parts(directory: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(directory)
    (directory / "model.safetensors").unlink()
    model.save_pretrained(directory, max_shard_size="20KB")
    assert len(list(directory.glob("model-*.safetensors"))) > 1


def as_bin(directory: Path) -> None:
    path = directory / "model.safetensors"
    torch.save(load_file(path), directory / "pytorch_model.bin")
    path.unlink()


def as_bin_in_parts(directory: Path) -> None:
    path = directory / "model.safetensors"
    content = sorted(load_file(path).items())
    path.unlink()
    files = {}
    for part, items in enumerate((content[:9], content[9:]), 1):
        name = f"pytorch_model-0000{part}-of-00002.bin"
        torch.save(dict(items), directory / name)
        files |= {key: name for key, _ in items}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


def sentence_transformers(directory: Path) -> None:
    modules = [{"idx": 0, "name": "0", "path": ""}, {"idx": 1, "name": "1", "path": "1_Pooling"}]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 64, "do_lower_case": False}))
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32}))


def old_sentence_transformers(directory: Path) -> None:
    inner = directory / "0_Transformer"
    inner.mkdir()
    for path in list(directory.iterdir()):
        if path.is_file():
            path.rename(inner / path.name)
    (directory / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "0_Transformer"}]))


def other_files_beside(directory: Path) -> None:
    for name in ("training_args.bin", "optimizer.pt", "rng_state.pth", "scheduler.pt", "README.md", "vocab.tmp"):
        (directory / name).write_bytes(b"not to be read")


def spm_alone(directory: Path) -> None:
    """As deberta-v3 is on the Hub."""
    sentencepiece = pytest.importorskip("sentencepiece")
    remove("*token*")(directory)
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3), model_writer=content, vocab_size=60, minloglevel=2,
        pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]",
        unk_piece="[UNK]", hard_vocab_limit=False,
    )  # fmt: skip
    (directory / "spm.model").write_bytes(content.getvalue())


def as_an_adapter(directory: Path) -> None:
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification

    base = directory.parent / "base-of-adapter"
    shutil.copytree(directory, base)
    adapted = get_peft_model(
        AutoModelForSequenceClassification.from_pretrained(base),
        LoraConfig(task_type=TaskType.SEQ_CLS, r=2, target_modules=["query"]),
    )
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    remove("*")(directory)
    adapted.save_pretrained(directory)


def words_without_vectors(directory: Path) -> None:
    table = "bert.embeddings.word_embeddings.weight"
    weights(lambda found: {**found, table: found[table][:40].clone()})(directory)
    change("config.json", vocab_size=40)(directory)


LAYOUTS: dict[str, tuple[str, Layout]] = {
    "as saved": ("bert", lambda directory: None),
    "vocab.txt alone": ("bert", vocabulary_alone),
    "a bare tokenizer_config.json": ("bert", lambda directory: (directory / "tokenizer_config.json").write_text("{}")),
    "tokenizer.json alone": ("bert", remove("tokenizer_config.json")),
    "padding token in special_tokens_map.json": ("bert", padding_in_its_own_file),
    "a tokenizer without a limit": ("bert", change("tokenizer_config.json", model_max_length=int(1e30))),
    "in parts": ("bert", in_parts),
    "fp16": ("bert", weights(lambda found: {name: value.half() for name, value in found.items()})),
    "bf16": ("bert", weights(lambda found: {name: value.bfloat16() for name, value in found.items()})),
    ".bin": ("bert", as_bin),
    ".bin in parts": ("bert", as_bin_in_parts),
    "sentence-transformers": ("bert", sentence_transformers),
    "sentence-transformers of old": ("bert", old_sentence_transformers),
    "files of a training beside": ("bert", other_files_beside),
    "spm.model alone": ("deberta-v2", spm_alone),
    "an adapter": ("bert", as_an_adapter),
    "no padding token": ("gpt2", lambda directory: None),
    "a padding token that config.json does not know": ("qwen2", lambda directory: None),
    "padded on the left": ("xlnet", lambda directory: None),
    "fast tokenizer under a general name": (
        "bert",
        change("tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast"),
    ),
}
ALWAYS = (
    "vocab.txt alone",
    "padding token in special_tokens_map.json",
    ".bin in parts",
    "sentence-transformers of old",
    "spm.model alone",
    "an adapter",
    "a padding token that config.json does not know",
    "padded on the left",
)
REFUSED: dict[str, tuple[Layout, str | None]] = {
    "no weights but training_args.bin": (
        lambda directory: (directory / "model.safetensors").rename(directory / "training_args.bin"),
        "has no weights",
    ),
    "weights under a wrapper's names": (
        weights(lambda found: {f"module.{name}": value for name, value in found.items()}),
        None,
    ),
    "no tokenizer": (remove("*token*", "vocab*"), "has no tokenizer"),
    "a tokenizer.json that is cut short": (
        lambda directory: (directory / "tokenizer.json").write_bytes(b'{"version": "1.0", "mod'),
        "tokenizer",
    ),
    "a config.json of another family": (change("config.json", model_type="gpt2"), None),
    "words without vectors": (words_without_vectors, "and the model's table 40 rows"),
}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """train.jsonl and validation.jsonl, 12 rows each."""
    (tmp_path / "data").mkdir()
    rng = random.Random(3)
    for split in ("train", "validation"):
        texts = [{**sentiment_row(rng), "idx": place} for place in range(12)]
        write_rows(tmp_path / "data" / f"{split}.jsonl", [{**row, "label": NAMES[row["label"]]} for row in texts])
    return tmp_path / "data"


def of_predict(model: Path, rows: Path) -> float:
    """The mean loss that the answers to the validation rows have."""
    content = [json.loads(line) for line in (rows / "validation.jsonl").read_text().splitlines()]
    answers = predict(model, [(row["sentence"],) for row in content], probabilities=True)
    found = [-math.log(answer["probabilities"][row["label"]]) for row, answer in zip(content, answers, strict=True)]
    return sum(found) / len(found)


def of_evaluate(model: Path, rows: Path) -> float:
    return evaluate(model, data=rows / "validation.jsonl").loss


def of_training(model: Path, rows: Path) -> float:
    settings: dict[str, Any] = {
        "task": "sst2",
        "model": {"name_or_path": str(model)},
        "data": {"path": str(rows), "labels": list(NAMES)},
        "training": {"num_epochs": 1, "batch_size": 12, "learning_rate": 1e-9, "precision": "fp32"},
        "evaluation": {"bootstrap": {"samples": 0}},
        "output_dir": str(rows.parent / "run"),
    }
    file = rows.parent / "config.yaml"
    file.write_text(yaml.safe_dump(settings))
    report: Any = train(load_config(file))
    assert (report.run_dir / "model" / "tokenizer.json").is_file()
    return float(report.evaluations[0].loss)


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(layout, id=name, marks=() if name in ALWAYS else pytest.mark.slow)
        for name, layout in LAYOUTS.items()
    ],
)
def test_the_three_commands_agree_on_a_folder(
    classifiers: Callable[[str], Path], tmp_path: Path, rows: Path, layout: tuple[str, Layout]
) -> None:
    family, lay_out = layout
    model = Path(shutil.copytree(classifiers(family), tmp_path / "model"))
    lay_out(model)
    expected = of_predict(model, rows)
    assert of_evaluate(model, rows) == pytest.approx(expected, abs=1e-5)
    assert of_training(model, rows) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("layout", REFUSED.values(), ids=REFUSED)
def test_the_three_commands_refuse_the_same_folders(
    classifiers: Callable[[str], Path], tmp_path: Path, rows: Path, layout: tuple[Layout, str | None]
) -> None:
    lay_out, message = layout
    model = Path(shutil.copytree(classifiers("bert"), tmp_path / "model"))
    lay_out(model)
    for command in (of_predict, of_evaluate, of_training):
        with pytest.raises(FinetuneError, match=message) as refusal:
            command(model, rows)
        assert refusal.value.exit_code == 5, command
