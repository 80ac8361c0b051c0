"""A mask that is ready for attention: the same logits, and nothing that the host has to ask the device for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AlbertConfig,
    BertConfig,
    CamembertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from finetune_cli.data.batching import pad_rows
from finetune_cli.models import building
from finetune_cli.models.last_layer import use_first_token_only
from finetune_cli.models.packing import known_tokens, pack_rows
from finetune_cli.models.ready_mask import form_of_mask, takes_ready_mask
from finetune_cli.runs.parts import Parts
from scripts.models.families import build
from tests.models.small_models import rows, small
from tests.training.small_runs import Run, make_rows

FAMILIES = [BertConfig, RobertaConfig, XLMRobertaConfig, CamembertConfig, ElectraConfig, DistilBertConfig, AlbertConfig]
MODERN = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 1)


@pytest.mark.parametrize("changed", [False, True], ids=["as it is", "the last layer for the first token alone"])
@pytest.mark.parametrize("config_class", FAMILIES)
def test_a_family_that_takes_it_has_the_same_logits(config_class: type, changed: bool) -> None:
    model = small(config_class).eval()
    if changed:
        use_first_token_only(model)
    assert takes_ready_mask(model)
    inputs = rows()
    expected = model(**inputs).logits
    ready = model(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"][:, None, None, :].bool()
    ).logits
    torch.testing.assert_close(ready, expected, rtol=1e-5, atol=1e-6)
    unpadded = inputs["input_ids"][:1]
    alone = model(input_ids=unpadded).logits
    torch.testing.assert_close(alone, model(input_ids=unpadded, attention_mask=torch.ones_like(unpadded)).logits)


@pytest.mark.parametrize(("name", "form"), [("bert", True), ("t5", False), ("bart", False), ("fnet", False)])
def test_a_model_that_takes_the_rows_of_a_batch_apart_is_given_the_usual_mask(
    name: str, form: bool, tmp_path: Path
) -> None:
    """It looks into the mask for that, and could not be called without one."""
    model = building.build_classifier(build(name, tmp_path), kind="classification", label_names=("a", "b"))
    assert form_of_mask(model, ready=True, always=False) == form
    assert form_of_mask(model, ready=True, always=True) == ("always" if form else False)
    assert form_of_mask(model, ready=False, always=True) is False


@pytest.mark.parametrize(
    ("config_class", "more"),
    [(DebertaV2Config, {}), (ModernBertConfig, MODERN), (BertConfig, {"attn_implementation": "eager"})],
    ids=["attention of its own", "windows", "another kind of attention"],
)
def test_other_models_keep_the_mask_of_two_dimensions(config_class: type, more: dict[str, Any]) -> None:
    model = small(config_class, **more).eval()
    before = model(**rows()).logits
    takes = takes_ready_mask(model)
    inputs = rows()
    if takes:
        ready = inputs | {"attention_mask": inputs["attention_mask"][:, None, None, :].bool()}
        torch.testing.assert_close(model(**ready).logits, before, rtol=1e-5, atol=1e-6)
    else:
        torch.testing.assert_close(model(**inputs).logits, before)


def test_rows_without_padding_have_no_mask() -> None:
    rows = make_rows(6)
    even = np.flatnonzero(rows.lengths == rows.lengths[0])
    assert "attention_mask" not in pad_rows(rows, even, pad_token_id=0, ready_mask=True)
    padded = pad_rows(rows, [0, 1, 2], pad_token_id=0, ready_mask=True)["attention_mask"]
    assert (padded.dtype, padded.shape[:3]) == (np.bool_, (3, 1, 1))
    assert padded.sum(axis=(1, 2, 3)).tolist() == rows.lengths[:3].tolist()


class Questions(TorchDispatchMode):
    """Counts what a device would have to be asked for: the value of a tensor as a number or a truth."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default)
        return func(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[Questions]:
    with Questions() as questions:
        yield questions


def batch_of(run: Run, *, ready_mask: bool) -> tuple[Parts, dict[str, Any]]:
    parts = run.build()
    parts = replace(parts, device_settings=replace(parts.device_settings, ready_mask=ready_mask))
    return parts, next(iter(parts.batches))[0]


@pytest.mark.parametrize(("ready_mask", "expected"), [(False, 1), (True, 0)])
def test_a_padded_forward_pass_asks_the_device_nothing(tmp_path: Path, ready_mask: bool, expected: int) -> None:
    parts, batch = batch_of(Run("accelerate", tmp_path, make_rows(16)), ready_mask=ready_mask)
    parts.model.train()
    with counted() as questions:
        parts.objective(parts.model, batch)
    assert questions.count == expected


def test_packing_counts_its_tokens_on_the_host() -> None:
    model = small(BertConfig)
    pack_rows(model)
    assert takes_ready_mask(model)
    inputs = rows()
    tokens = int(inputs["attention_mask"].sum())
    ready = inputs | {"attention_mask": inputs["attention_mask"][:, None, None, :].bool()}
    with counted() as questions:
        asked = model(**ready).logits
    assert questions.count == 1
    with counted() as questions, known_tokens(tokens):
        known = model(**ready).logits
    assert questions.count == 0
    assert torch.equal(known, asked)


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_ready_masks_train_the_same_model(tmp_path: Path, loop: str) -> None:
    rows = make_rows(32)
    plain = Run(loop, tmp_path / "plain", rows).train()

    def set_ready(parts: Parts) -> None:
        object.__setattr__(parts, "device_settings", replace(parts.device_settings, ready_mask=True))

    ready = Run(loop, tmp_path / "ready", rows, tamper=set_ready).train()
    np.testing.assert_allclose(ready.updates(), plain.updates(), rtol=1e-5)
