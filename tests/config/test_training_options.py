"""model.lora, model.freeze and the options of training that trade: what is taken, what is refused and how."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError

CONFIG = "task: sst2\nmodel: {name_or_path: m}\n"
SCRATCH = ["model.name_or_path=null", "model.from_scratch={}"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def refused(config: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(config, overrides)
    return str(caught.value)


def test_an_empty_section_takes_the_usual_adapters(config: Path) -> None:
    lora = load_config(config, ["model.lora={}"]).model.lora
    assert lora is not None
    assert lora.model_dump() == {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": None}
    assert load_config(config).model.lora is None


@pytest.mark.parametrize("value", ["none", "embeddings", "body", 1, 12])
def test_what_can_be_frozen(config: Path, value: str | int) -> None:
    assert load_config(config, [f"model.freeze={value}"]).model.freeze == value


@pytest.mark.parametrize("value", ["[query, value]", "all-linear"])
def test_target_modules_are_names_or_all_linear(config: Path, value: str) -> None:
    lora = load_config(config, [f"model.lora.target_modules={value}"]).model.lora
    assert lora is not None
    assert lora.target_modules == ("all-linear" if value == "all-linear" else ("query", "value"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.lora={rank: 8}", "model.lora.rank: is called model.lora.r here"),
        ("model.lora={alpha: 8}", "model.lora.alpha: is called model.lora.lora_alpha here"),
        ("model.lora={dropout: 0.1}", "model.lora.dropout: is called model.lora.lora_dropout here"),
        ("model.lora={targets: [query]}", "model.lora.targets: is called model.lora.target_modules here"),
        ("model.peft={}", "model.peft: is called model.lora here"),
        ("model.freeze_layers=6", "model.freeze_layers: is called model.freeze here"),
        ("training.activation_checkpointing=true", "is called training.gradient_checkpointing here"),
        ("training.padding_free=true", "is called training.packing here"),
        ("training.trainer_args={gradient_checkpointing: true}", "Write training.gradient_checkpointing"),
        ("training.trainer_args={activation_checkpointing: true}", "Write training.gradient_checkpointing"),
        ("model.lora={r: 0}", "0 is out of range. Allowed: a whole number from 1"),
        ("model.lora.target_modules=all", "Allowed: a list of names of linear layers, or all-linear, or null"),
        ("model.lora.target_modules=[]", "found a list of 0"),
        ("model.freeze=0", "Allowed: none, embeddings, body, or a number of layers from 1"),
        ("model.freeze=head", "'head' is not known. Allowed: none, embeddings, body, or a number"),
        ("model.freeze=true", "true is a flag"),
        ("model.dtype=fp16", "'fp16' is not known. Allowed: fp32, bf16, nf4"),
        ("model.torch_dtype=bf16", "model.torch_dtype: is called model.dtype here"),
        ("model.load_in_4bit=true", "model.load_in_4bit: is called model.dtype here"),
    ],
)
def test_mistakes_are_named_with_what_is_allowed(config: Path, override: str, message: str) -> None:
    assert message in refused(config, override)


def test_combinations_that_mean_nothing_are_refused(config: Path) -> None:
    both = refused(config, "model.lora={}", "model.freeze=body")
    assert "model.freeze: model.lora freezes every pretrained weight already" in both
    for option in ("model.lora={}", "model.freeze=embeddings"):
        key = option.partition("=")[0]
        assert f"{key}: the weights of model.from_scratch are random" in refused(config, *SCRATCH, option)
    with_compile = refused(config, "training.packing=true", "training.compile=auto")
    assert "training.packing: does not go with training.compile" in with_compile
    full_width = refused(config, "training.packing=true", "data.padding=max_length")
    assert "training.packing: takes out the padding that data.padding: max_length asks for" in full_width


def test_narrow_weights_are_for_what_is_not_trained(config: Path) -> None:
    """All weights in bf16 would lose most updates; what is meant is mixed precision."""
    for dtype in ("bf16", "nf4"):
        message = refused(config, f"model.dtype={dtype}")
        assert f"model.dtype: {dtype} is for weights that are not trained" in message
        assert "Add model.lora or model.freeze: body; to train all" in message
        assert refused(config, f"model.dtype={dtype}", "model.freeze=1") == message
    for part in ("model.lora={}", "model.freeze=body"):
        assert load_config(config, ["model.dtype=bf16", part]).model.dtype == "bf16"
        mixed = refused(config, "model.dtype=bf16", part, "training.precision=fp16")
        assert "model.dtype: weights in bf16 compute in bf16, not in training.precision: fp16" in mixed
