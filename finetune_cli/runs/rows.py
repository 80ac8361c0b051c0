"""The tokenised rows of a run: found by their content, or made and kept."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from finetune_cli.config.fields import RunConfig
from finetune_cli.config.sections.data import ChecksConfig
from finetune_cli.config.sections.model import FromScratchConfig
from finetune_cli.data.order import RowOrder
from finetune_cli.data.prepared import TOKENIZER, PreparedData, open_prepared
from finetune_cli.data.preparing import prepare_splits
from finetune_cli.data.shares import share_of
from finetune_cli.data.source_files import Source
from finetune_cli.data.text_settings import TextSettings, column_names, content_key, train_texts
from finetune_cli.data.writing import publish
from finetune_cli.errors import ConfigError, DataError, counted
from finetune_cli.models.facts import TextFacts, text_facts
from finetune_cli.models.resolving import require_present, resolve_model
from finetune_cli.models.tokenizer import load_tokenizer, save_tokenizer
from finetune_cli.models.vocabulary import train_wordpiece
from finetune_cli.records.preparation import Padding, SplitReport, finding_lines
from finetune_cli.runs.long_texts import Reading, encoder_of, in_windows, reading, target_reading
from finetune_cli.runs.sources import data_sources, labelled_file, read_groups, require_slices
from finetune_cli.runs.target import ModelTask, Target, text_columns
from finetune_cli.system.logs import FILE_ONLY
from finetune_cli.system.places import cache_dir

logger = logging.getLogger(__name__)

PADDING_SAMPLE_ROWS = 2**17  # of train: enough to know the share, quick at any size


@dataclass(frozen=True)
class _Pretrained:
    """The model whose tokenizer is used; a new model's is made of the rows of train, as `model.from_scratch` says."""

    directory: Path
    facts: TextFacts


def prepare_rows(
    config: RunConfig,
    *,
    offline: bool = False,
    quiet: bool = False,
    about: Collection[str] | None = None,
    once: bool = False,
) -> PreparedData:
    """The tokenised splits of a config: found in the cache by their content, or made now.

    `report.reused` says which.
    quiet: leave out the line that says where the rows are, and one for each finding. about: the splits whose findings
    are worth a line; None: all. once: of rows that were prepared before, one line says how many findings there are.
    Raises DataError, also for a finding of level error; ConfigError or MissingError.
    """
    sources = data_sources(config, offline=offline)
    for split, source in sources.items():
        if split.startswith("validation"):
            require_slices(source, config)
    model = config.model.from_scratch or _pretrained(config, offline=offline)
    how = _reading(config, model)
    data = config.data
    settings = TextSettings(
        data.text, data.label, data.labels, config.spec.kind, data.id, limit=data.limit, **how._asdict()
    )
    prepared = _tokenised(sources, settings, model)
    reused = bool(prepared.report.reused)
    if not quiet:
        rows = sum(split.num_rows for split in prepared.splits.values())
        logger.info("%s %d tokenised rows: %s", "Reused" if reused else "Prepared", rows, prepared.directory)
        _say_left_out(prepared.report.splits)
    prepared = _judged(prepared, data.checks, quiet=quiet, about=about, in_short=once and reused)
    prepared = _with_share(prepared, config, sources, quiet=quiet)
    prepared = in_windows(prepared, how.long_texts)
    _require_fitting_tokens(prepared, config)
    padding = _padding(prepared, batch_size=config.training.batch_size, seed=config.seed)
    return replace(prepared, report=replace(prepared.report, padding=padding))


def prepare_file(path: Path, target: Target, task: ModelTask) -> PreparedData:
    """One labelled file, tokenised for a trained model; its only split is named `file-` and the file's name, so that
    its scores never overwrite those of a split. Raises DataError.
    """
    facts = text_facts(target.model_dir, trust_remote_code=target.trust_remote_code)
    data = target.config.data if target.config else None
    source = labelled_file(path, target.config, task.kind)
    if target.config:
        require_slices(source, target.config)
    how = target_reading(target, facts.max_length, task.kind)
    settings = TextSettings(
        text=text_columns(target, column_names(source)),
        label=data.label if data else "label",
        labels=task.classes,
        kind=task.kind,
        id=target.id_column,
        limit=None,
        **how._asdict(),
    )
    prepared = _tokenised({f"file-{path.stem}": source}, settings, _Pretrained(target.model_dir, facts))
    prepared = _judged(prepared, data.checks if data else ChecksConfig(), quiet=False)
    return in_windows(prepared, how.long_texts)


def _pretrained(config: RunConfig, *, offline: bool) -> _Pretrained:
    name, revision = config.model.name_or_path, config.model.revision
    if name is None:
        raise ConfigError("model: name_or_path or from_scratch is needed.")
    require_present(name)
    directory = resolve_model(name, revision=revision, offline=offline, weights=False)
    return _Pretrained(directory, text_facts(directory, trust_remote_code=config.model.trust_remote_code))


def _reading(config: RunConfig, model: _Pretrained | FromScratchConfig) -> Reading:
    """How the config's rows become tokens. Raises ConfigError for rows that may be longer than the model takes."""
    limit = model.facts.max_length if isinstance(model, _Pretrained) else model.max_position_embeddings
    if config.data.max_length is not None and config.data.max_length > limit:
        raise ConfigError(
            f"data.max_length: {config.data.max_length}, but this model takes at most {limit} tokens. "
            f"Set it to {limit} or less, or to null."
        )
    return reading(config.data, limit, config.spec.kind)


def _tokenised(
    sources: dict[str, Source], settings: TextSettings, model: _Pretrained | FromScratchConfig
) -> PreparedData:
    """The rows as tokens, found in the cache or made now; the report says where the sources lie this time."""
    tokenizer = model.facts.fingerprint if isinstance(model, _Pretrained) else f"ordered wordpiece:{model.vocab_size}"
    directory = cache_dir() / "prepared" / content_key(sources, settings, tokenizer)
    kept = open_prepared(directory)
    prepared = kept or publish(directory, partial(_build, sources, settings, model))
    report = prepared.report.at({split: source.where for split, source in sources.items()})
    return replace(prepared, report=replace(report, key=prepared.key, reused=kept is not None))


def _build(
    sources: dict[str, Source], settings: TextSettings, model: _Pretrained | FromScratchConfig, folder: Path
) -> dict[str, Any]:
    """Write the tokenizer and the tokens into a new folder; what `publish` puts into its manifest."""
    if isinstance(model, FromScratchConfig):
        train_wordpiece(
            partial(train_texts, sources["train"], settings),
            vocab_size=model.vocab_size,
            max_length=model.max_position_embeddings,
            directory=folder / TOKENIZER,
        )
        tokenizer, facts = load_tokenizer(folder / TOKENIZER), None
    else:
        tokenizer, facts = load_tokenizer(model.directory), model.facts
    save_tokenizer(tokenizer, folder / TOKENIZER)
    how = Reading(settings.max_length, settings.truncation, settings.long_texts)
    return prepare_splits(sources, settings, encoder_of(tokenizer, facts, how), folder)


def _say_left_out(splits: Mapping[str, SplitReport]) -> None:
    for split in splits.values():
        if split.unlabelled:
            total = split.rows + split.unlabelled
            have = "has no label and is" if split.unlabelled == 1 else "have no label and are"
            logger.warning("%s: %d of %d rows %s left out", split.where, split.unlabelled, total, have)


def _judged(
    prepared: PreparedData,
    checks: ChecksConfig,
    *,
    quiet: bool,
    about: Collection[str] | None = None,
    in_short: bool = False,
) -> PreparedData:
    """With the findings that the config does not ignore; new rows and those of the cache are judged alike.

    in_short: the warnings go to run.log, and one line to the terminal.
    """
    levels = checks.model_dump()
    findings = [replace(finding, level=levels[finding.check]) for finding in prepared.report.findings]
    errors = [finding for finding in findings if finding.level == "error"]
    if errors or not quiet:
        told = [item for item in findings if item.level == "warn" and (about is None or item.split in about)]
        short = in_short and not errors and len(told) > 1
        for finding in told:
            logger.warning("%s", finding.line, extra={FILE_ONLY: short})
        if short:
            logger.warning("%d findings of the data checks, as before; `finetune prepare` shows them", len(told))
    if errors:
        count = counted(len(errors), "error")
        hint = f"To go on all the same: -s data.checks.{errors[0].check}=warn"
        raise DataError("\n".join([f"the data checks found {count}", *finding_lines(errors), hint]))
    kept = [finding for finding in findings if finding.level != "ignore"]
    return replace(prepared, report=replace(prepared.report, findings=kept))


def _require_fitting_tokens(prepared: PreparedData, config: RunConfig) -> None:
    """Refuse, before anything is trained, a bound of tokens that one row exceeds. Raises ConfigError."""
    tokens, report = config.training.micro_batch_tokens, prepared.report
    longest = min(report.max_length, max(split.lengths["max"] for split in report.splits.values()))
    if tokens is not None and tokens < longest:
        raise ConfigError(
            f"training.micro_batch_tokens: {tokens} is less than one row has: the longest has {longest} tokens. Set it "
            f"to {longest} or more, or set data.max_length."
        )


def _with_share(
    prepared: PreparedData, config: RunConfig, sources: Mapping[str, Source], *, quiet: bool
) -> PreparedData:
    """Of train those rows alone that are in data.share; as they are where the config has none.

    Names of classes and the vocabulary of a new model are those of all rows. Raises DataError for a share that is too
    small.
    """
    share = config.data.share
    if share is None:
        return prepared
    train = prepared.splits["train"]
    groups = read_groups(sources["train"], config) if share < 1 else None
    chosen = share_of(train, share, seed=config.seed, groups=groups)
    if not quiet:
        logger.info("data.share %g: %d of %d rows of train", share, chosen.num_rows, train.num_rows)
    return replace(prepared, splits=prepared.splits | {"train": chosen})


def _padding(prepared: PreparedData, *, batch_size: int, seed: int) -> Padding | None:
    """None for rows that are read in windows, of which the long ones have no padding."""
    if prepared.report.windows is not None:
        return None
    lengths = np.diff(prepared.splits["train"].offsets[: PADDING_SAMPLE_ROWS + 1])
    random, length = (
        RowOrder(lengths, batch_size=batch_size, seed=seed, batching=batching).padding_share()
        for batching in ("random", "length")
    )
    return Padding(batch_size, random, length)
