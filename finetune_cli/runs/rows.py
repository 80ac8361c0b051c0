"""The tokenised rows of a run: found by their content, or made and kept."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_cli.config.fields import ChecksConfig
from finetune_cli.errors import ConfigError, DataError
from finetune_cli.records.preparation import Padding
from finetune_cli.tasks import TASKS, Kind

if TYPE_CHECKING:
    from finetune_cli.config.fields import FromScratchConfig, RunConfig
    from finetune_cli.data.prepared import PreparedData
    from finetune_cli.data.preparing import TextSettings
    from finetune_cli.data.sources import Source
    from finetune_cli.runs.target import Target

logger = logging.getLogger(__name__)

PADDING_SAMPLE_ROWS = 2**17  # of train: enough to know the share, quick at any size


def prepare_rows(config: RunConfig, *, offline: bool = False, quiet: bool = False) -> PreparedData:
    """The tokenised splits of a config: found in the cache by their content, or made now.

    `report.reused` says which.
    quiet: leave out the line that says where the rows are, and one for each finding.
    Raises DataError, also for a finding of level error; ConfigError or MissingError.
    """
    from finetune_cli.data.prepared import open_prepared
    from finetune_cli.data.preparing import content_key

    sources = data_sources(config, offline=offline)
    for split, source in sources.items():
        if split.startswith("validation"):
            require_slices(source, config)
    model_dir, tokenizer_key, limit = _tokenizer_source(config, offline=offline)
    settings = _text_settings(config, limit)
    directory = cache_dir() / "prepared" / content_key(sources, settings, tokenizer_key)
    prepared = open_prepared(directory)
    reused = prepared is not None
    if prepared is None:
        prepared = _build(sources, settings, directory, model_dir=model_dir, scratch=config.model.from_scratch)
    if not quiet:
        rows = sum(split.num_rows for split in prepared.splits.values())
        logger.info("%s %d tokenised rows: %s", "Reused" if reused else "Prepared", rows, directory)
    prepared = _judged(prepared, config.data.checks, quiet=quiet)
    padding = _padding(prepared, batch_size=config.training.batch_size, seed=config.seed)
    return replace(prepared, report=replace(prepared.report, key=prepared.key, reused=reused, padding=padding))


def data_sources(config: RunConfig, *, offline: bool = False) -> dict[str, Source]:
    """Where the rows of each split are. Raises DataError or MissingError."""
    from finetune_cli.data.folds import Folds
    from finetune_cli.data.sources import resolve_sources

    return resolve_sources(
        config.data.path,
        name=config.data.name,
        splits=config.data.splits,
        split_names=TASKS[config.task].splits,
        label=config.data.label,
        kind=config.spec.kind,
        seed=config.seed if config.data.split_seed is None else config.data.split_seed,
        folds=Folds(**config.data.folds.model_dump()) if config.data.folds else None,
        limit=config.data.limit,
        offline=offline,
    )


def require_slices(source: Source, config: RunConfig) -> None:
    """Refuse evaluation.slices, before anything is trained, when the data lack a column. Raises DataError."""
    from finetune_cli.data.preparing import require_columns

    require_columns(source, config.evaluation.slices, key="evaluation.slices")


def prepare_file(path: Path, target: Target, label_names: tuple[str, ...] | None, kind: Kind) -> PreparedData:
    """One labelled file, tokenised for a trained model; its only split is named `file-` and the file's name, so that
    its scores never overwrite those of a split.

    label_names, kind: of the model; no names for regression. Raises DataError.
    """
    from finetune_cli.data.prepared import open_prepared
    from finetune_cli.data.preparing import TextSettings, column_names, content_key
    from finetune_cli.data.sources import file_source
    from finetune_cli.models.files import model_max_length, tokenizer_fingerprint
    from finetune_cli.runs.target import text_columns

    source = file_source(path)
    data = target.config.data if target.config else None
    if target.config:
        require_slices(source, target.config)
    settings = TextSettings(
        text=text_columns(target, column_names(source)),
        label=data.label if data else "label",
        labels=label_names,
        kind=kind,
        id=data.id if data else None,
        max_length=(data.max_length if data else None) or model_max_length(target.model_dir),
        truncation=data.truncation if data else "longest_first",
        limit=None,
    )
    sources = {f"file-{path.stem}": source}
    key = content_key(sources, settings, tokenizer_fingerprint(target.model_dir))
    directory = cache_dir() / "prepared" / key
    prepared = open_prepared(directory) or _build(
        sources, settings, directory, model_dir=target.model_dir, scratch=None
    )
    return _judged(prepared, data.checks if data else ChecksConfig(), quiet=False)


def cache_dir() -> Path:
    """$FINETUNE_CACHE, else finetune/ in $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("FINETUNE_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "finetune"


def _tokenizer_source(config: RunConfig, *, offline: bool) -> tuple[Path | None, str, int]:
    """The directory with the tokenizer (None: it is trained from the data), its fingerprint, and the longest input."""
    from finetune_cli.models.files import model_max_length, resolve_model, tokenizer_fingerprint

    if scratch := config.model.from_scratch:
        return None, f"wordpiece:{scratch.vocab_size}", scratch.max_position_embeddings
    if config.model.name_or_path is None:
        raise ConfigError("model: name_or_path or from_scratch is needed.")
    name, revision = config.model.name_or_path, config.model.revision
    directory = resolve_model(name, revision=revision, offline=offline, weights=False)
    return directory, tokenizer_fingerprint(directory), model_max_length(directory)


def _text_settings(config: RunConfig, limit: int) -> TextSettings:
    from finetune_cli.data.preparing import TextSettings

    data = config.data
    if data.max_length is not None and data.max_length > limit:
        raise ConfigError(
            f"data.max_length: {data.max_length}, but this model takes at most {limit} tokens. "
            f"Set it to {limit} or less, or to null."
        )
    return TextSettings(
        text=data.text,
        label=data.label,
        labels=data.labels,
        kind=config.spec.kind,
        id=data.id,
        max_length=data.max_length or limit,
        truncation=data.truncation,
        limit=data.limit,
    )


def _build(
    sources: dict[str, Source],
    settings: TextSettings,
    directory: Path,
    *,
    model_dir: Path | None,
    scratch: FromScratchConfig | None,
) -> PreparedData:
    from finetune_cli.data.prepared import TOKENIZER, publish
    from finetune_cli.data.preparing import prepare_splits, train_texts
    from finetune_cli.data.tokenization import TextEncoder
    from finetune_cli.models.building import load_tokenizer, train_wordpiece

    def build(folder: Path) -> dict[str, Any]:
        if scratch is not None:
            texts = train_texts(sources["train"], settings)
            limit = scratch.max_position_embeddings
            train_wordpiece(texts, vocab_size=scratch.vocab_size, max_length=limit, directory=folder / TOKENIZER)
        tokenizer = load_tokenizer(model_dir or folder / TOKENIZER)
        tokenizer.save_pretrained(folder / TOKENIZER)
        encoder = TextEncoder(tokenizer, max_length=settings.max_length, truncation=settings.truncation)
        return prepare_splits(sources, settings, encoder, folder)

    return publish(directory, build)


def _judged(prepared: PreparedData, checks: ChecksConfig, *, quiet: bool) -> PreparedData:
    """With the findings that the config does not ignore; new rows and those of the cache are judged alike."""
    levels = checks.model_dump()
    findings = [replace(finding, level=levels[finding.check]) for finding in prepared.report.findings]
    errors = [finding for finding in findings if finding.level == "error"]
    if errors or not quiet:
        for finding in findings:
            if finding.level == "warn":
                logger.warning("%s", finding.line)
    if errors:
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        paragraphs = [line for finding in errors for line in finding.paragraph]
        hint = f"To go on all the same: -s data.checks.{errors[0].check}=warn"
        raise DataError("\n".join([f"the data checks found {count}", *paragraphs, hint]))
    kept = [finding for finding in findings if finding.level != "ignore"]
    return replace(prepared, report=replace(prepared.report, findings=kept))


def _padding(prepared: PreparedData, *, batch_size: int, seed: int) -> Padding:
    import numpy as np

    from finetune_cli.data.order import RowOrder

    lengths = np.diff(prepared.splits["train"].offsets[: PADDING_SAMPLE_ROWS + 1])
    random, length = (
        RowOrder(lengths, batch_size=batch_size, seed=seed, batching=batching).padding_share()
        for batching in ("random", "length")
    )
    return Padding(batch_size, random, length)
