"""Packed rows: the same loss and gradients as padded ones, fewer tokens in the layers, and no model that it harms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    Gemma3TextConfig,
    LlamaConfig,
    ModernBertConfig,
    Qwen3Config,
    RobertaConfig,
)

from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError
from finetune_cli.models.on_cpu import use_attention_for_cpu
from finetune_cli.models.packing import pack_rows
from tests.models.small_models import assert_the_same, rows, small


@pytest.mark.parametrize("cpu_attention", [False, True], ids=["torch's attention", "ours"])
@pytest.mark.parametrize("config_class", [BertConfig, RobertaConfig, ElectraConfig, DistilBertConfig])
def test_packed_rows_have_the_logits_and_gradients_of_padded_ones(config_class: type, cpu_attention: bool) -> None:
    model = small(config_class)
    if cpu_attention:
        use_attention_for_cpu(model)
    pack_rows(model)
    assert_the_same(model, small(config_class))


@pytest.mark.parametrize("config_class", [LlamaConfig, Qwen3Config, Gemma3TextConfig, ModernBertConfig])
def test_rotary_positions_go_with_their_tokens(config_class: type) -> None:
    tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 1)
    more = tokens if config_class is ModernBertConfig else {**tokens, "head_dim": 8, "num_key_value_heads": 2}
    model = small(config_class, **more)
    pack_rows(model)
    seen: list[torch.Size] = []
    model.base_model.layers[1].mlp.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    assert_the_same(model, small(config_class, **more))
    assert seen == [(1, 48, 16)]


def test_the_layers_see_one_long_row_and_the_head_sees_rows() -> None:
    model = small(BertConfig)
    pack_rows(model)
    seen: list[torch.Size] = []
    for module in (model.bert.encoder.layer[1].intermediate, model.bert.pooler):
        module.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    model(**rows())
    assert seen == [(1, 48, 16), (3, 20, 16)]


def test_a_model_that_answers_is_padded_as_ever() -> None:
    """So that a score in training is that of the saved model."""
    expected = small(BertConfig).eval()(**rows()).logits
    model = small(BertConfig)
    pack_rows(model)
    model.eval()
    seen: list[torch.Size] = []
    model.bert.encoder.layer[1].register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    assert torch.equal(model(**rows()).logits, expected)
    assert seen == [(3, 20, 16)]


@pytest.mark.parametrize(
    ("config_class", "more"),
    [
        (AlbertConfig, {"embedding_size": 8}),
        (DebertaV2Config, {}),
    ],
    ids=["one layer used again", "attention of its own"],
)
def test_a_model_whose_rows_cannot_be_packed_is_refused(config_class: type, more: dict[str, Any]) -> None:
    model = small(config_class, **more)
    with pytest.raises(ConfigError, match=rf"training\.packing: .* {model.config.model_type!r}"):
        pack_rows(model)


@pytest.mark.parametrize("micro_batch_size", [8, 3])
def test_a_packed_run_is_the_padded_run(
    tmp_path: Path, write_config: Callable[..., Path], micro_batch_size: int
) -> None:
    """Every loss and norm of two epochs, dropout off: 1e-5, as between the loops."""
    file = write_config(
        tmp_path,
        model={"dropout": 0.0, "attention_dropout": 0.0},
        training={"num_epochs": 2, "batching": "random", "micro_batch_size": micro_batch_size},
    )
    curves = []
    for packing in ("false", "true"):
        run = tmp_path / packing
        train(load_config(file, [f"training.packing={packing}", f"output_dir={run}"]))
        lines = [json.loads(line) for line in (run / "history.jsonl").read_text(encoding="utf-8").splitlines()]
        curves.append([[line["loss"], line.get("grad_norm", 0.0)] for line in lines])
    assert len(curves[0]) == 14
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-5)


def test_a_packed_run_saves_a_plain_model(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    report = train(load_config(write_config(tmp_path, training={"packing": True})))
    model = AutoModelForSequenceClassification.from_pretrained(report.run_dir / "model")
    assert model.config._attn_implementation == "sdpa"
    assert "packed" not in (report.run_dir / "model" / "config.json").read_text(encoding="utf-8")
