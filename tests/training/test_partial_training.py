"""LoRA, frozen parts and recomputed activations: what is trained, what is saved, and that both loops agree on it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
)

from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, InterruptedRunError
from finetune_cli.models.building import recompute_activations
from finetune_cli.models.freezing import freeze
from finetune_cli.models.lora import add_lora, merge_lora
from finetune_cli.records.training import EvalRecord, StepRecord
from finetune_cli.training.optimization import build_optimizer

LOOPS = ["trainer", "accelerate"]
LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": None}
SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "pad_token_id": 0,
}
OPTIONS = {
    "lora": {"model": {"lora": {**LORA, "target_modules": "all-linear"}}},
    "freeze": {"model": {"freeze": 1}},
    "recompute": {"training": {"gradient_checkpointing": True}},
    "pack": {"training": {"packing": True, "batching": "random"}},
}


def small(config_class: type = BertConfig, **more: Any) -> Any:
    torch.manual_seed(0)
    sizes = {**SIZES, **more}
    if config_class is ModernBertConfig:
        sizes |= dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 1)
    return AutoModelForSequenceClassification.from_config(config_class(**sizes)).train()


def trained_names(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def history(run: Path, record_type: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records if record["type"] == record_type]


def saved_weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(2, SIZES["vocab_size"], (3, 9), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


# --- what is trained


@pytest.mark.parametrize("config_class", [BertConfig, DistilBertConfig, RobertaConfig, ElectraConfig, ModernBertConfig])
@pytest.mark.parametrize(("part", "frozen_layers"), [("embeddings", 0), (2, 2)])
def test_the_lowest_part_of_each_kind_of_encoder_is_frozen(
    config_class: type, part: str | int, frozen_layers: int
) -> None:
    model = small(config_class)
    freeze(model, part)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert all(".embeddings" in name or any(f".{n}." in name for n in range(frozen_layers)) for name in frozen)
    for number in range(3):
        of_layer = {name for name, _ in model.named_parameters() if f".{number}." in name}
        assert of_layer
        assert of_layer <= frozen if number < frozen_layers else not of_layer & frozen
    assert {name for name, _ in model.named_parameters() if "word_embeddings" in name or "tok_emb" in name} <= frozen


def test_a_frozen_body_leaves_head_and_pooler() -> None:
    model = small()
    freeze(model, "body")
    expected = {"classifier.weight", "classifier.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    assert trained_names(model) == expected
    optimizer = build_optimizer(model, learning_rate=1e-3, weight_decay=0.0)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


def test_no_graph_is_built_below_the_lowest_trained_weight() -> None:
    model = small()
    freeze(model, 2)
    graphs: list[bool] = []
    for layer in model.bert.encoder.layer:
        layer.register_forward_hook(lambda module, args, output: graphs.append(output.requires_grad))
    model(**inputs())
    assert graphs == [False, False, True]


def test_parts_that_are_not_there_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"model\.freeze: 4, but this model has 3 layers"):
        freeze(small(), 4)
    with pytest.raises(ConfigError, match=r"the layers of a model of type 'albert' are not known.*body"):
        freeze(small(AlbertConfig, embedding_size=8), 1)


@pytest.mark.parametrize(
    ("config_class", "targets"),
    [
        (BertConfig, {"query", "value"}),
        (DistilBertConfig, {"q_lin", "v_lin"}),
        (ElectraConfig, {"query", "value"}),
        (ModernBertConfig, {"Wqkv"}),
    ],
)
def test_adapters_go_to_queries_and_values_and_the_head_is_trained_in_full(
    config_class: type, targets: set[str]
) -> None:
    model = small(config_class)
    head = {name for name in trained_names(model) if not name.startswith(f"{model.base_model_prefix}.")}
    head |= {name for name in trained_names(model) if ".pooler." in name}
    add_lora(model, **LORA)
    adapters = {name for name in trained_names(model) if ".lora_" in name}
    assert trained_names(model) == head | adapters
    assert {name.partition(".lora_")[0].rpartition(".")[2] for name in adapters} == targets
    assert len(adapters) == 2 * 3 * len(targets)  # down and up in each of 3 layers


def test_all_linear_layers_means_those_of_the_body() -> None:
    model = small()
    add_lora(model, **{**LORA, "target_modules": "all-linear"})
    adapted = {name.partition(".lora_")[0] for name in trained_names(model) if ".lora_" in name}
    assert len(adapted) == 3 * 6
    assert all(name.startswith("bert.encoder.layer.") for name in adapted)


def test_a_target_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"no linear layer 'querry'. Allowed here: dense, key, query, value"):
        add_lora(small(), **{**LORA, "target_modules": ["querry"]})


def test_merged_weights_compute_what_the_adapters_did() -> None:
    """Against peft's own forward pass, with adapters that are no longer zero."""
    plain, adapted = small(), small()
    add_lora(adapted, **{**LORA, "target_modules": "all-linear"})
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_B." in name:
                parameter.normal_()
    merged = merge_lora(adapted.state_dict(), r=LORA["r"], lora_alpha=LORA["lora_alpha"])
    before = plain.eval()(**inputs()).logits
    plain.load_state_dict(merged)
    with torch.no_grad():
        torch.testing.assert_close(plain(**inputs()).logits, adapted.eval()(**inputs()).logits, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(before, plain(**inputs()).logits, atol=1e-2)


def test_recomputed_activations_give_the_same_gradients_with_dropout() -> None:
    gradients = []
    for recompute in (False, True):
        model = small()
        if recompute:
            recompute_activations(model)
        torch.manual_seed(3)
        model(**inputs()).logits.sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


# --- whole runs


@pytest.mark.parametrize("option", OPTIONS)
def test_both_loops_train_the_same_and_the_frozen_weights_stay(
    tmp_path: Path, write_config: Callable[..., Path], tiny_bert: Path, option: str
) -> None:
    runs = {}
    for loop in LOOPS:
        (tmp_path / loop).mkdir()
        file = write_config(tmp_path / loop, **OPTIONS[option])
        train(load_config(file, [f"training.loop={loop}", "training.batch_size=7", "training.micro_batch_size=4"]))
        runs[loop] = tmp_path / loop / "run"
    assert history(runs["trainer"], "train") == history(runs["accelerate"], "train")
    assert history(runs["trainer"], "eval") == history(runs["accelerate"], "eval")
    weights = saved_weights(runs["trainer"])
    again = saved_weights(runs["accelerate"])
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    body = {f"bert.{name}": value for name, value in load_file(tiny_bert / "model.safetensors").items()}
    same = {name for name, value in body.items() if torch.equal(value, weights[name])}
    if option == "lora":
        matrices = {name for name in body if ".layer." in name and name.endswith("weight") and "LayerNorm" not in name}
        assert same == {name for name in body if ".pooler." not in name} - matrices
    elif option == "freeze":
        assert same == {name for name in body if ".embeddings." in name or ".layer.0." in name}


def test_recomputing_runs_the_layers_twice_and_changes_no_number(
    tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    calls = {"count": 0}

    def note(module: torch.nn.Module, args: Any) -> None:
        calls["count"] += type(module).__name__ == "BertIntermediate" and module.training

    file = write_config(tmp_path, model={"dropout": 0.2})
    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        train(load_config(file, [f"output_dir={tmp_path / 'plain'}"]))
        once, calls["count"] = calls["count"], 0
        train(load_config(file, [f"output_dir={tmp_path / 'again'}", "training.gradient_checkpointing=true"]))
    finally:
        hook.remove()
    assert once > 0
    assert calls["count"] == 2 * once
    assert history(tmp_path / "again", "train") == history(tmp_path / "plain", "train")


@pytest.mark.parametrize(("loop", "option"), [("trainer", "lora"), ("accelerate", "freeze"), ("trainer", "pack")])
def test_an_interrupted_run_goes_on_exactly(
    tmp_path: Path, write_config: Callable[..., Path], loop: str, option: str
) -> None:
    file = write_config(tmp_path, **OPTIONS[option])
    settings = [f"training.loop={loop}", "training.num_epochs=2", "checkpointing.every=5"]
    train(load_config(file, [*settings, f"output_dir={tmp_path / 'whole'}"]))

    def stop(event: Any) -> None:
        if isinstance(event, StepRecord) and event.step == 8:
            raise InterruptedRunError("stopped by the test")

    config = load_config(file, [*settings, f"output_dir={tmp_path / 'halves'}"])
    with pytest.raises(InterruptedRunError):
        train(config, listen=stop)
    report = train(config)
    assert report.resumed_from in (5, 6)  # the end of an epoch saves, too, when it is the best so far
    assert history(tmp_path / "halves", "train") == history(tmp_path / "whole", "train")
    whole, halves = saved_weights(tmp_path / "whole"), saved_weights(tmp_path / "halves")
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


def test_the_saved_model_is_a_plain_one_and_scores_as_in_training(
    tmp_path: Path, write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files hold nothing of peft, and are loaded where it cannot be imported."""
    scored: list[EvalRecord] = []
    file = write_config(tmp_path, model={"lora": {"r": 8, "lora_alpha": 32}}, training={"learning_rate": 2e-2})
    report = train(
        load_config(file, ["training.num_epochs=3"]),
        listen=lambda event: scored.append(event) if isinstance(event, EvalRecord) else None,
    )
    best = next(record for record in scored if record.step == report.best_step)
    assert report.evaluations[0].loss == pytest.approx(best.loss, rel=1e-5)
    assert {path.suffix for path in (tmp_path / "run" / "model").iterdir()} <= {".json", ".safetensors", ".md", ".txt"}
    assert not list((tmp_path / "run" / "model").glob("adapter*"))
    monkeypatch.setitem(sys.modules, "peft", None)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "run" / "model", output_loading_info=True
    )
    assert not any(info.values())
    assert type(model).__name__ == "BertForSequenceClassification"
    assert model.config.id2label == {0: "negative", 1: "positive"}


def test_the_share_that_is_trained_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="finetune_cli"):
        freeze(small(), "body")
    total = sum(parameter.numel() for parameter in small().parameters())
    head = 16 * 16 + 16 + 16 * 2 + 2
    assert f"{head:,} of {total:,} parameters are trained" in caplog.text
    assert np.isclose(head, 306)
