"""A row is answered alike alone and in any company: what a model needs for that, and which models are refused.

Most families mask the padding, and their heads find the end of a row by the padding token. Where that token is another
than the tokenizer's, or where padding leaks in (FNet has no mask, ConvBERT's convolutions and YOSO's hashes pass over
it), the answer to a row depends on the rows beside it, in training as well.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from finetune_cli.errors import ConfigError, first_line
from finetune_cli.models.files import as_written
from finetune_cli.models.self_test import FAILURES, answers_alike, reads_whole_rows, run_a_row
from finetune_cli.models.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

Counted = Callable[[Tensor, Tensor], Tensor]  # of input_ids and attention_mask (M, T): a number for each row (M,)

# Encoders that read the first token and mask the rest of the padding: tried in the tests, not at each load.
TRIED = frozenset({"bert", "camembert", "deberta-v2", "distilbert", "electra", "modernbert", "roberta", "xlm-roberta"})


def answer_rows_alike(model: PreTrainedModel, directory: Path) -> None:
    """Make a freshly loaded classifier answer a row alike alone and in company, in place.

    directory: where its tokenizer is.
    The padding token is the tokenizer's where the model's is another and matters. Where padding leaks in, only rows of
    one length run together. Raises ConfigError for a model whose answers depend on company all the same, and for one
    that does not run on texts alone, or does not read them.
    """
    if model.config.is_encoder_decoder:
        end = model.config.eos_token_id  # heads of BART and T5 want the same number of them in each row
        _run_in_groups(model, lambda input_ids, attention_mask: (input_ids == end).sum(1))
        model.same_number_of = end
    if model.config.model_type in TRIED and _pads_on_the_right(directory):
        return
    tokenizer = load_tokenizer(directory)
    padding: dict[str, Any] = {"pad_token_id": tokenizer.pad_token_id, "padding_side": tokenizer.padding_side}
    text_config = model.config.get_text_config()
    own = getattr(text_config, "pad_token_id", None)
    if own is None:
        text_config.pad_token_id = tokenizer.pad_token_id
    with _refusing(model, directory, "run"):
        _require_reading(model, directory)
        if answers_alike(model, **padding):
            return
    text_config.pad_token_id = tokenizer.pad_token_id
    if answers_alike(model, **padding):
        return
    text_config.pad_token_id = own if own is not None else tokenizer.pad_token_id
    _run_in_groups(model, lambda input_ids, attention_mask: attention_mask.sum(1), alone=True)
    model.same_number_of = "tokens"
    if not answers_alike(model, **padding):
        raise ConfigError(
            f"model.name_or_path: {as_written(directory)} is a model of type {model.config.model_type!r}, which "
            f"answers the same row differently each time, or beside other rows. Its scores would mean nothing; choose "
            f"a model of another type."
        )
    logger.info(
        "Padding changes the answers of this model (%s): only rows of the same length run together, which takes longer",
        model.config.model_type,
    )


def require_training(model: PreTrainedModel, directory: Path) -> None:
    """Raise ConfigError for a model that answers a text and does not train on it, as Reformer."""
    if model.config.model_type not in TRIED:
        with _refusing(model, directory, "trained"):
            run_a_row(model, training=True)


def _require_reading(model: PreTrainedModel, directory: Path) -> None:
    """MRA's attention gives zeros where its CUDA kernel is not built, and says nothing."""
    if not reads_whole_rows(model):
        raise ConfigError(
            f"model.name_or_path: {as_written(directory)} is a model of type {model.config.model_type!r}, which reads "
            f"nothing but the ends of a row here, as where its own kernel is missing. Its scores would mean nothing; "
            f"choose a model of another type."
        )


@contextmanager
def _refusing(model: PreTrainedModel, directory: Path, what: str) -> Iterator[None]:
    try:
        yield
    except FAILURES as err:
        raise ConfigError(
            f"model.name_or_path: {as_written(directory)} is a model of type {model.config.model_type!r}, which cannot "
            f"be {what} on short texts alone ({first_line(err)}). Choose a model of another type."
        ) from err


def require_one_pass(model: PreTrainedModel, splits: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """Raise ConfigError for a model that would take a batch of these rows in several passes.

    A sharded model gathers its weights in each: processes with different numbers of them wait for each other for ever.
    splits: the tokens of all rows of a split (N tokens), and where each row begins and ends (rows + 1).
    """
    alike = getattr(model, "same_number_of", None)
    if alike is None:
        return
    if alike == "tokens":
        why = "only rows of the same length run together"
    else:
        why = f"only rows with equally many {alike} (the end token) run together, and texts here contain it"
        counts = [np.diff(np.append(0, np.cumsum(ids == alike))[offsets]) for ids, offsets in splits]
        if len(np.unique(np.concatenate(counts))) <= 1:
            return
    raise ConfigError(
        f"A model of type {model.config.model_type!r} cannot be sharded here: {why}, so that one process would need "
        f"more passes than another. Train it without FSDP and DeepSpeed."
    )


def _pads_on_the_right(directory: Path) -> bool:
    """Whether no file says anything else; the tokenizers of these families pad on the right."""
    path = directory / "tokenizer_config.json"
    return not path.is_file() or '"left"' not in path.read_text(encoding="utf-8", errors="replace")


def _run_in_groups(model: PreTrainedModel, count: Counted, *, alone: bool = False) -> None:
    """Have the model run those rows of a batch together for which `count` gives the same number, in its place.

    alone: and without padding.
    """
    run = model.forward

    @functools.wraps(run)
    def forward(input_ids: Tensor, attention_mask: Tensor, **more: Any) -> Any:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, **more}
        counts = count(input_ids, attention_mask)
        if int(counts.min()) == int(counts.max()) and not (alone and int(counts.min()) < attention_mask.shape[1]):
            return run(**inputs)
        groups = [(counts == number).nonzero().squeeze(1) for number in counts.unique()]
        outputs = [run(**_rows_of(inputs, rows, without_padding=alone)) for rows in groups]
        logits = torch.cat([output.logits for output in outputs])
        return type(outputs[0])(logits=logits[torch.cat(groups).argsort()])

    model.forward = forward


def _rows_of(inputs: dict[str, Any], rows: Tensor, *, without_padding: bool) -> dict[str, Any]:
    """Some rows of a batch; without_padding: of one length, and without its columns, on whichever side they are."""
    shape = inputs["attention_mask"].shape
    some = {name: value[rows] if getattr(value, "shape", None) == shape else value for name, value in inputs.items()}
    if not without_padding:
        return some
    kept = some["attention_mask"].bool()
    return {
        name: value[kept].view(len(rows), -1) if getattr(value, "shape", None) == kept.shape else value
        for name, value in some.items()
    }
