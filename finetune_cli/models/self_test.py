"""Does a model still compute what it did, after a change to how it computes? And the same for a row in company?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from transformers import PreTrainedModel

from finetune_cli.models.limits import special_token_ids, word_table
from finetune_cli.models.storage import computing_in_fp32

LENGTHS = (7, 3, 5)
RELATIVE = 1e-3  # of the largest logit: float32 differs by 1e-6, a model that a change does not fit by 0.1 and more
OF_COMPANY = 1e-4  # the same for a row beside others: where it leaks in, a tiny model's differ by 1e-3
FAILURES = (RuntimeError, TypeError, ValueError, IndexError, AttributeError, AssertionError)


def trial_logits(model: PreTrainedModel, *, ready_mask: bool = False) -> Tensor:
    """float32 logits (3, C) of three rows of different lengths, padded on the right, dropout off, the body itself
    marked as training.

    ready_mask: with the mask in the form that attention takes; see models.ready_mask.
    """
    with _answering(model, body_trains=True):
        return _logits(model, _rows(model), pad_token_id=_pad_token_id(model), ready_mask=ready_mask)


def run_a_row(model: PreTrainedModel, *, in_own_format: bool = False, training: bool = False) -> None:
    """Send one row through, dropout off unless `training`, in fp32 or in the format of the weights."""
    with _answering(model, in_own_format=in_own_format):
        model.train(training)
        _logits(model, _rows(model)[:1])


def agrees(model: PreTrainedModel, expected: Tensor, *, ready_mask: bool = False) -> bool:
    """Whether the model runs and its trial gives these logits, to rounding."""
    try:
        logits = trial_logits(model, ready_mask=ready_mask)
    except FAILURES:
        return False
    return torch.allclose(logits, expected, rtol=0, atol=RELATIVE * float(expected.abs().max()))


def answers_alike(model: PreTrainedModel, *, pad_token_id: int, padding_side: str) -> bool:
    """Whether three rows get the logits together, padded as asked, that each of them gets alone.

    A model that cannot run them together says no. One that cannot run them alone raises what it raises.
    """
    rows = _rows(model)
    with _answering(model):
        alone = torch.cat([_logits(model, [row]) for row in rows])
        try:
            together = _logits(model, rows, pad_token_id=pad_token_id, padding_side=padding_side)
        except FAILURES:
            return False
    return torch.allclose(together, alone, rtol=0, atol=OF_COMPANY * float(alone.abs().max()))


def reads_whole_rows(model: PreTrainedModel) -> bool:
    """Whether two rows that differ in one token between their ends get different logits."""
    row = _rows(model)[0]
    other = row.clone()
    other[2] = row[1]
    with _answering(model):
        logits = [_logits(model, [tokens]) for tokens in (row, other)]
    return torch.equal(row, other) or not torch.equal(*logits)


def trains_alike(model: PreTrainedModel) -> bool:
    """Whether training computes the same logits of the same rows when the generator is at two different places."""
    rows, trials = _rows(model), []
    with _answering(model):
        model.train()
        for seed in range(2):
            torch.manual_seed(seed)
            trials.append(torch.cat([_logits(model, [row]) for row in rows]))
    return torch.equal(*trials)


def _pad_token_id(model: PreTrainedModel) -> int:
    """The padding token of the model's configuration; 0 where it has none."""
    number = getattr(model.config.get_text_config(), "pad_token_id", None)
    return 0 if number is None else int(number)


def _rows(model: PreTrainedModel) -> list[Tensor]:
    """Token ids of three rows, none of them special but the end token of models whose head looks for it."""
    config, table = model.config, word_table(model)
    special = special_token_ids(config.get_text_config())
    size = 64 if table is None else min(len(table.weight), 64)
    plain = [number for number in range(1, size) if number not in special] or [0]
    end = [config.eos_token_id] if config.is_encoder_decoder and isinstance(config.eos_token_id, int) else []
    starts = [sum(LENGTHS[:place]) for place in range(len(LENGTHS))]
    return [
        torch.tensor([plain[(start + place) % len(plain)] for place in range(length)] + end, device=model.device)
        for start, length in zip(starts, LENGTHS, strict=True)
    ]


def _logits(
    model: PreTrainedModel,
    rows: list[Tensor],
    *,
    pad_token_id: int = 0,
    padding_side: str = "right",
    ready_mask: bool = False,
) -> Tensor:
    """float32 logits (B, C) of rows together; padding is for rows of several lengths."""
    padded = torch.nn.utils.rnn.pad_sequence(rows, True, pad_token_id, padding_side)
    ones = [torch.ones_like(row) for row in rows]
    mask = torch.nn.utils.rnn.pad_sequence(ones, True, 0, padding_side)
    if ready_mask:
        mask = mask[:, None, None, :].bool()
    logits: Tensor = model(input_ids=padded, attention_mask=mask).logits.float()
    return logits


@contextmanager
def _answering(model: PreTrainedModel, *, body_trains: bool = False, in_own_format: bool = False) -> Iterator[None]:
    """Dropout off, no gradients, the generators afterwards as they were; in fp32 unless `in_own_format` says otherwise.

    body_trains: where a body does something else in training alone, it is to do that here.
    """
    was_training = model.training
    model.eval()
    if body_trains:
        model.base_model.training = True
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        wider = nullcontext() if in_own_format else computing_in_fp32(model)
        with torch.no_grad(), torch.random.fork_rng(devices=devices), wider:
            yield
    finally:
        model.train(was_training)
