"""Adapter directories: merged into the base model that they name, or refused with what to type; layers of any kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from finetune_cli.commands.predict import predict
from finetune_cli.errors import ConfigError, MissingError
from finetune_cli.models.building import build_classifier
from finetune_cli.models.lora import add_lora, merge_lora, transposed_layers
from finetune_cli.models.resolving import resolve_model
from finetune_cli.models.tokenizer import load_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # peft, of a name of transformers

SIZES: dict[str, Any] = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": None}
TEXTS = [("good",), ("the film was awful",)]


def save_adapter(base: Path, directory: Path, *, num_labels: int = 3) -> list[list[float]]:
    """What peft saves of a trained adapter and head; gives back the probabilities of TEXTS."""
    from peft import LoraConfig, TaskType, get_peft_model

    torch.manual_seed(3)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=num_labels)
    adapted = get_peft_model(model, LoraConfig(task_type=TaskType.SEQ_CLS, r=4, target_modules=["query", "value"]))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name or "classifier" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(directory)
    tokenizer = load_tokenizer(base)
    with torch.no_grad():
        return [
            adapted.eval()(**tokenizer(*text, return_tensors="pt")).logits.softmax(-1)[0].tolist() for text in TEXTS
        ]


def test_an_adapter_answers_as_with_peft(
    family: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = save_adapter(family("bert"), tmp_path / "adapter")
    with caplog.at_level("INFO", "finetune_cli"):
        answers = list(predict(tmp_path / "adapter", TEXTS, probabilities=True))
    found = [list(answer["probabilities"].values()) for answer in answers]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=0, atol=1e-6)
    assert f"adapter is an adapter on {family('bert')}: merged into it" in caplog.text


def test_an_adapter_is_trained_from_with_its_changes(family: Callable[[str], Path], tmp_path: Path) -> None:
    save_adapter(family("bert"), tmp_path / "adapter", num_labels=2)
    merged = resolve_model(str(tmp_path / "adapter"))
    assert merged == resolve_model(str(tmp_path / "adapter"))  # merged once
    layer = "bert.encoder.layer.0.attention.self.query.weight"
    models = [
        build_classifier(path, kind="classification", label_names=("no", "yes")) for path in (family("bert"), merged)
    ]
    assert not torch.equal(*(model.state_dict()[layer] for model in models))


def test_an_adapter_without_a_trained_head_is_no_classifier(family: Callable[[str], Path], tmp_path: Path) -> None:
    save_adapter(family("bert"), tmp_path / "adapter", num_labels=2)
    from safetensors.torch import load_file, save_file

    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: value for name, value in load_file(path).items() if "classifier" not in name}, path)
    settings = tmp_path / "adapter" / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "modules_to_save": None, "task_type": None}))
    with pytest.raises(MissingError, match="has no trained classification head"):
        list(predict(tmp_path / "adapter", TEXTS))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_model_name_or_path": "/no/such/place"}, r"is an adapter on '/no/such/place', which is not there"),
        ({"base_model_name_or_path": None}, r"does not say what its base model is\. Write it as base_model_name"),
        ({"base_model_name_or_path": "some-org/some-model"}, r"is an adapter on 'some-org/some-model', which is not"),
    ],
)
def test_a_base_model_that_is_not_there_is_named(
    family: Callable[[str], Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    save_adapter(family("bert"), tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(MissingError, match=message):
        resolve_model(str(tmp_path / "adapter"), offline=True)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("roberta", r"classifier\.dense\.weight has no place in it, so it belongs to another model"),
        ("shorter", r"bert\.encoder\.layer\.1.* has no place in it, so it belongs to another model"),
        ("wider", "size mismatch for"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of peft, which leaves out what has no place
def test_an_adapter_of_another_base_model_is_refused(
    family: Callable[[str], Path], family_copy: Callable[[str], Path], tmp_path: Path, other: str, message: str
) -> None:
    """Of another family, or another revision with other sizes."""
    sizes = {"shorter": {"num_hidden_layers": 1}, "wider": {"hidden_size": 48, "num_attention_heads": 2}}
    save_adapter(family("bert"), tmp_path / "adapter")
    base = family(other) if other == "roberta" else _of_other_size(family_copy("bert"), **sizes[other])
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": str(base)}))
    with pytest.raises(MissingError, match=rf"cannot be merged into .*{message}"):
        resolve_model(str(tmp_path / "adapter"))


def _of_other_size(directory: Path, **sizes: int) -> Path:
    config = AutoConfig.from_pretrained(directory, **sizes)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(directory)
    return directory


def test_a_folder_with_a_model_and_an_adapter_is_not_guessed_at(
    family_copy: Callable[[str], Path], tmp_path: Path
) -> None:
    directory = family_copy("bert")
    (directory / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "x"}))
    with pytest.raises(MissingError, match="holds both a whole model and an adapter"):
        resolve_model(str(directory))


def classifier(directory: Path) -> Any:
    torch.manual_seed(0)
    return build_classifier(directory, kind="classification", label_names=("no", "yes")).eval()


@pytest.mark.parametrize("name", ["gpt2", "openai-gpt", "bloom", "falcon", "phi3", "t5", "nomic_bert", "xlm", "fnet"])
@pytest.mark.parametrize("target", [None, "all-linear"], ids=["queries and values", "all linear layers"])
def test_merged_weights_compute_what_the_adapters_did(
    family: Callable[[str], Path], name: str, target: str | None
) -> None:
    """GPT-2's layers keep their weights the other way round; FNet has no queries: there it is all linear layers."""
    model = classifier(family(name))
    add_lora(model, **{**SIZES, "target_modules": target})
    for part, parameter in model.named_parameters():
        if "lora_" in part:
            torch.nn.init.normal_(parameter, std=0.2)
    plain = classifier(family(name))
    row = {"input_ids": torch.tensor([[9, 10, 11, 12]]), "attention_mask": torch.ones(1, 4, dtype=torch.int64)}
    if model.config.is_encoder_decoder:
        row["input_ids"][0, -1] = model.config.eos_token_id
    with torch.no_grad():
        before, adapted = plain(**row).logits, model(**row).logits
        plain.load_state_dict(merge_lora(model.state_dict(), r=4, lora_alpha=8, transposed=transposed_layers(model)))
        torch.testing.assert_close(plain(**row).logits, adapted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before, adapted, atol=1e-4)


@pytest.mark.parametrize("name", ["squeezebert", "ibert"])
def test_a_body_without_linear_layers_is_refused_in_a_whole_sentence(family: Callable[[str], Path], name: str) -> None:
    with pytest.raises(ConfigError, match=rf"the body of a model of type {name!r} has no linear layers that adapters"):
        add_lora(classifier(family(name)), **SIZES)
