"""How texts longer than the model are read: as the config says, or as is stored beside a model that was so trained.

A model alone cannot read in windows or from both ends. model/long_texts.json, written where rows were not just cut:
{"max_length": 128, "windows": {"stride": 64, "pool": "mean"}} or {"max_length": 128, "head_tail": 0.25}
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from finetune_cli.config.sections.data import DataConfig, LongTextsConfig
from finetune_cli.data.long_texts import HeadTail, LongTexts
from finetune_cli.data.prepared import PreparedData
from finetune_cli.data.tokenization import TextEncoder
from finetune_cli.data.windows import WindowSettings
from finetune_cli.errors import MissingError
from finetune_cli.models.facts import TextFacts
from finetune_cli.models.files import LONG_TEXTS_FILE
from finetune_cli.runs.target import Target
from finetune_cli.tasks import Kind


class Reading(NamedTuple):
    """How rows become tokens, beside the tokenizer: fields of TextSettings and of TextEncoder."""

    max_length: int
    truncation: str
    long_texts: LongTexts


def encoder_of(tokenizer: Any, facts: TextFacts | None, how: Reading) -> TextEncoder:
    """What makes tokens of texts. facts: what the model makes of them; None for a new model, which takes all."""
    token_types, vocabulary = (None, None) if facts is None else (facts.token_types, facts.vocabulary)
    return TextEncoder(tokenizer, token_types=token_types, vocabulary=vocabulary, **how._asdict())


def reading(data: DataConfig, limit: int, kind: Kind) -> Reading:
    """As a config says. limit: tokens that the model takes."""
    return _reading(data.max_length or limit, data.truncation, data.long_texts, kind)


def target_reading(target: Target, limit: int, kind: Kind) -> Reading:
    """As the target's config says, or the file beside its weights. Raises MissingError for a file that is damaged."""
    if target.config is not None:
        return reading(target.config.data, limit, kind)
    max_length, chosen = _stored(target.model_dir / LONG_TEXTS_FILE) or (limit, "truncate")
    return _reading(max_length, "longest_first", chosen, kind)


def _reading(max_length: int, truncation: str, chosen: str | LongTextsConfig, kind: Kind) -> Reading:
    long_texts: LongTexts = None
    if isinstance(chosen, LongTextsConfig) and chosen.head_tail is not None:
        long_texts = HeadTail(chosen.head_tail)
    elif isinstance(chosen, LongTextsConfig) and chosen.windows is not None:
        long_texts = WindowSettings(chosen.windows.stride, chosen.windows.pool, kind, max_length)
    return Reading(max_length, truncation, long_texts)


def keep_reading(model_dir: Path, data: DataConfig, max_length: int) -> None:
    """Write beside a model how its long texts were read, unless they were just cut."""
    if isinstance(data.long_texts, str):
        return
    content = {"max_length": max_length, **data.long_texts.model_dump(exclude_none=True)}
    (model_dir / LONG_TEXTS_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _stored(path: Path) -> tuple[int, LongTextsConfig] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        max_length = content.pop("max_length")
        chosen = LongTextsConfig.model_validate(content)
        if type(max_length) is not int or (chosen.head_tail is None) == (chosen.windows is None):
            raise ValueError
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise MissingError(
            f"{path} cannot be used. Expected max_length, and head_tail or windows as in data.long_texts. Copy the "
            f"model again, or name its run."
        ) from err
    return max_length, chosen


def in_windows(prepared: PreparedData, how: LongTexts) -> PreparedData:
    """The rows with their windows, where they are read so. Raises ConfigError; see Windows."""
    if not isinstance(how, WindowSettings):
        return prepared
    splits = {name: replace(split, windows=how) for name, split in prepared.splits.items()}
    windows = {name: len(split.pieces) for name, split in splits.items()}
    return replace(prepared, splits=splits, report=replace(prepared.report, windows=windows))
