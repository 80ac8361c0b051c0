"""Frozen weights in bf16 and in 4 bits: what is kept how, and that the checks of a model see through it."""

from __future__ import annotations

import importlib.machinery
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, InterruptedRunError, MissingError
from finetune_cli.models import building, lora, padding_independence
from finetune_cli.models.freezing import belongs_to_body, describe_trained
from finetune_cli.models.self_test import trial_logits
from finetune_cli.records.training import StepRecord
from finetune_cli.runs.requirements import require_tools
from tests.training.test_partial_training import history, saved_weights

LORA = {"r": 4, "target_modules": "all-linear"}
ROUNDED = 2e-2  # of a loss near 0.7: adapters in fp32 are rounded into weights of 8 bits


def build(directory: Path, dtype: str = "fp32") -> Any:
    torch.manual_seed(0)
    return building.build_classifier(directory, kind="classification", label_names=("no", "yes"), dtype=dtype)


@pytest.mark.parametrize("name", ["bert", "qwen3", "t5", "deberta-v2", "gpt2", "gemma"])
def test_the_body_is_narrow_and_the_head_is_drawn_as_ever(family: Callable[[str], Path], name: str) -> None:
    model, plain = build(family(name), "bf16"), build(family(name))
    for key, weight in model.named_parameters():
        own = plain.get_parameter(key)
        assert weight.dtype == (torch.bfloat16 if belongs_to_body(model, key) else torch.float32), key
        assert torch.equal(weight, own.to(weight.dtype)), key
    assert type(model) is type(plain)


@pytest.mark.parametrize("name", ["bert", "qwen3", "t5", "deberta-v2", "gpt2", "gemma"])
def test_a_trial_computes_in_fp32_and_leaves_no_trace(family: Callable[[str], Path], name: str) -> None:
    """The expected logits are those of a plain model in fp32 with the same, rounded weights."""
    model, plain = build(family(name), "bf16"), build(family(name))
    plain.load_state_dict(model.state_dict())
    close = 1e-3 if name == "gemma" else 2e-6  # Gemma rounds a factor to the type of its table, for every row alike
    torch.testing.assert_close(trial_logits(model), trial_logits(plain), rtol=0, atol=close)
    assert {weight.dtype for key, weight in model.named_parameters() if belongs_to_body(model, key)} == {torch.bfloat16}
    ids = torch.tensor([[5, 6, 7, 8, 9, 10, model.config.eos_token_id or 11]])  # T5 looks for its end token
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        found, wide = model.eval()(**inputs).logits, plain.eval()(**inputs).logits
    assert found.dtype == torch.float32
    assert not torch.equal(found, wide)
    torch.testing.assert_close(found, wide, rtol=0, atol=0.1)


def test_a_family_that_does_not_compute_in_bf16_is_refused(family: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=r"type 'fnet' does not compute with weights in bf16.*Set it to fp32"):
        build(family("fnet"), "bf16")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_layers_that_do_not_fit_blocks_of_four_bits_are_refused(family: Callable[[str], Path]) -> None:
    pytest.importorskip("bitsandbytes")
    with pytest.raises(ConfigError, match=r"type 'qwen3' does not compute with weights in nf4.*Set it to fp32"):
        build(family("qwen3"), "nf4")


def test_a_padding_token_is_found_in_bf16_too(family: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """In its own format a model's answers alone and in company differ by more than the check allows."""
    apart: list[Any] = []
    monkeypatch.setattr(padding_independence, "_run_in_groups", lambda *args, **options: apart.append(args))
    assert build(family("qwen3"), "bf16").config.pad_token_id is not None
    assert not apart


OPTIONS = {
    "lora": {"lora": LORA},
    "head": {"freeze": "body"},
}


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory, family: Callable[[str], Path]) -> Path:
    """A tiny Qwen3 whose layers are wide enough for blocks of 64 weights in 4 bits."""
    directory = tmp_path_factory.mktemp("decoder") / "qwen3"
    shutil.copytree(family("qwen3"), directory)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "head_dim": 16}
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.from_pretrained(directory, **sizes))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    model.save_pretrained(directory)
    return directory


def settings_of(directory: Path, dtype: str, option: str) -> dict[str, Any]:
    return {"name_or_path": str(directory), "dtype": dtype, **OPTIONS[option]}


@pytest.mark.parametrize(
    ("dtype", "option"),
    [
        ("bf16", "lora"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("bf16", "head"), ("nf4", "lora"), ("nf4", "head"))),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of bitsandbytes, about kernels that are not there
def test_both_loops_agree_and_a_run_goes_on_exactly(
    tmp_path: Path, write_config: Callable[..., Path], decoder: Path, dtype: str, option: str
) -> None:
    if dtype == "nf4":
        pytest.importorskip("bitsandbytes")
    file = write_config(tmp_path, model=settings_of(decoder, dtype, option))
    settings = ["checkpointing.every=2", "training.num_epochs=1", "training.gradient_checkpointing=true"]
    reports = {
        loop: train(load_config(file, [*settings, f"training.loop={loop}", f"output_dir={tmp_path / loop}"]))
        for loop in ("trainer", "accelerate")
    }
    first, second = (history(tmp_path / loop, "train") for loop in reports)
    assert first == second
    assert f", frozen weights in {dtype} (" in (tmp_path / "trainer" / "run.log").read_text(encoding="utf-8")

    def stop(event: Any) -> None:
        if isinstance(event, StepRecord) and event.step == 3:
            raise InterruptedRunError("stopped by the test")

    config = load_config(file, [*settings, f"output_dir={tmp_path / 'halves'}"])
    with pytest.raises(InterruptedRunError):
        train(config, listen=stop)
    assert train(config).resumed_from == 2
    assert history(tmp_path / "halves", "train") == first
    whole, halves = saved_weights(tmp_path / "trainer"), saved_weights(tmp_path / "halves")
    assert all(torch.equal(whole[name], halves[name]) for name in whole)
    _require_a_plain_model_with_the_scores(tmp_path / "trainer", reports["trainer"])


def _require_a_plain_model_with_the_scores(run: Path, report: Any) -> None:
    assert evaluate(run).loss == report.evaluations[0].loss
    in_training = history(run, "eval")[-1]["loss"]
    assert report.evaluations[0].loss == pytest.approx(in_training, abs=ROUNDED)
    weights = saved_weights(run)
    assert {name for name, weight in weights.items() if weight.dtype == torch.float32} == {"score.weight"}
    model, info = AutoModelForSequenceClassification.from_pretrained(run / "model", output_loading_info=True)
    assert not any(info.values())
    assert model.dtype == torch.bfloat16
    assert "quantization_config" not in json.loads((run / "model" / "config.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_four_bits_are_counted_as_weights_and_their_checkpoints_hold_what_is_trained(
    tmp_path: Path, write_config: Callable[..., Path], decoder: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    directory = Path(shutil.copytree(decoder, tmp_path / "model"))
    model, plain = build(directory, "nf4"), build(directory)
    assert describe_trained(model).split(" of ")[1] == describe_trained(plain).split(" of ")[1]
    lora.add_lora(model, r=4, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear")
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    file = write_config(tmp_path, model=settings_of(directory, "nf4", "lora"))
    config = load_config(file, ["training.max_steps=2"])
    train(config)
    checkpoint = tmp_path / "run" / "checkpoints" / "step-000002"
    with safe_open(checkpoint / "model.safetensors", "pt") as held:
        assert set(held.keys()) == trained
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ConfigError, match="was begun with other files of"):
        train(config, resume=str(checkpoint))


def test_four_bits_need_their_library_before_any_work(
    tmp_path: Path, write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", _without_bitsandbytes)
    config = load_config(write_config(tmp_path, model=settings_of(tmp_path, "nf4", "lora")))
    with pytest.raises(MissingError, match=r"pip install 'finetune-cli\[qlora\]'.*model.dtype=bf16"):
        require_tools(config, push=False)


def _without_bitsandbytes(name: str) -> importlib.machinery.ModuleSpec | None:
    return None if name == "bitsandbytes" else importlib.machinery.PathFinder.find_spec(name, sys.path)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")
def test_four_bits_train_on_a_gpu(tmp_path: Path, write_config: Callable[..., Path], decoder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    losses = {}
    for dtype in ("nf4", "bf16"):
        file = write_config(tmp_path, model=settings_of(decoder, dtype, "lora"))
        report = train(load_config(file, [f"output_dir={tmp_path / dtype}"]))
        losses[dtype] = [line["loss"] for line in history(tmp_path / dtype, "train")]
        assert evaluate(tmp_path / dtype).loss == pytest.approx(report.evaluations[0].loss)
    assert losses["nf4"] == pytest.approx(losses["bf16"], rel=0.2)  # 4 bits round a tiny model's weights coarsely
