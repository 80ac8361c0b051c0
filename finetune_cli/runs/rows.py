"""The tokenised rows of a run: found by their content, or made and kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_cli.config.sections.data import ChecksConfig
from finetune_cli.errors import ConfigError, DataError, counted
from finetune_cli.records.preparation import Padding, SplitReport, finding_lines
from finetune_cli.runs.concealing import concealed
from finetune_cli.runs.long_texts import in_windows, reading, target_reading
from finetune_cli.runs.shares import with_share
from finetune_cli.system.logs import FILE_ONLY
from finetune_cli.system.places import cache_dir, in_home
from finetune_cli.tasks import TASKS, Kind

if TYPE_CHECKING:
    from finetune_cli.config.fields import RunConfig
    from finetune_cli.config.sections.data import DataConfig
    from finetune_cli.config.sections.model import FromScratchConfig
    from finetune_cli.data.formats.row import TableForm
    from finetune_cli.data.prepared import PreparedData
    from finetune_cli.data.source_files import Source
    from finetune_cli.data.text_settings import TextSettings
    from finetune_cli.models.facts import TextFacts
    from finetune_cli.runs.target import Target

logger = logging.getLogger(__name__)

PADDING_SAMPLE_ROWS = 2**17  # of train: enough to know the share, quick at any size


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
    from finetune_cli.data.prepared import open_prepared
    from finetune_cli.data.text_settings import content_key

    sources = data_sources(config, offline=offline)
    for split, source in sources.items():
        if split.startswith("validation"):
            require_slices(source, config)
    model_dir, facts = _model_facts(config, offline=offline)
    scratch = config.model.from_scratch
    if facts is not None:
        tokenizer_key, limit = facts.fingerprint, facts.max_length
    else:
        assert scratch is not None, "the config requires a model"
        tokenizer_key, limit = f"ordered wordpiece:{scratch.vocab_size}", scratch.max_position_embeddings
    settings = _text_settings(config, limit)
    directory = cache_dir() / "prepared" / content_key(sources, settings, tokenizer_key)
    prepared = open_prepared(directory)
    reused = prepared is not None
    if prepared is None:
        prepared = _build(sources, settings, directory, model_dir=model_dir, facts=facts, scratch=scratch)
    places = {split: source.where for split, source in sources.items()}
    prepared = replace(prepared, report=prepared.report.at(places))  # the same rows may have lain elsewhere
    if not quiet:
        rows = sum(split.num_rows for split in prepared.splits.values())
        logger.info("%s %d tokenised rows: %s", "Reused" if reused else "Prepared", rows, directory)
        _say_left_out(prepared.report.splits)
    prepared = _judged(prepared, config.data.checks, quiet=quiet, about=about, in_short=once and reused)
    prepared = with_share(prepared, config, sources, quiet=quiet)
    prepared = in_windows(prepared, settings.long_texts)
    _require_fitting_tokens(prepared, config)
    padding = _padding(prepared, batch_size=config.training.batch_size, seed=config.seed)
    return replace(prepared, report=replace(prepared.report, key=prepared.key, reused=reused, padding=padding))


def _say_left_out(splits: Mapping[str, SplitReport]) -> None:
    for split in splits.values():
        if split.unlabelled:
            total = split.rows + split.unlabelled
            have = "has no label and is" if split.unlabelled == 1 else "have no label and are"
            logger.warning("%s: %d of %d rows %s left out", split.where, split.unlabelled, total, have)


def data_sources(config: RunConfig, *, offline: bool = False) -> dict[str, Source]:
    """Where the rows of each split are. Raises DataError or MissingError."""
    from finetune_cli.data.folds import Folds
    from finetune_cli.data.sources import resolve_sources

    find = partial(
        resolve_sources,
        config.data.path,
        name=config.data.name,
        splits=config.data.splits,
        split_names=TASKS[config.task].splits,
        label=config.data.label,
        text=config.data.text,
        kind=config.spec.kind,
        seed=config.seed if config.data.split_seed is None else config.data.split_seed,
        form=table_form(config.data),
        unlabelled=unlabelled_test(config.data, config.spec.kind),
        folds=Folds(**config.data.folds.model_dump()) if config.data.folds else None,
        limit=config.data.limit,
        offline=offline,
    )
    return concealed(find, config)


def table_form(data: DataConfig, other: Path | None = None, *, labelled: bool = True) -> TableForm:
    """How the config says that its tables are to be read; `other`: a file that is none of these, which may have a
    header although they have none, or be no table. labelled: whether its rows have labels."""
    from finetune_cli.data.formats.header import TABLES
    from finetune_cli.data.formats.packing import file_kind
    from finetune_cli.data.formats.row import OF_OTHERS, TableForm

    if other is None:
        return TableForm(data.columns, data.quoting)
    if file_kind(other)[0] not in TABLES:
        return OF_OTHERS
    label = (data.label,) if isinstance(data.label, str) else data.label
    lacking = () if labelled else label
    return TableForm(data.columns, data.quoting, header_with=data.text, may_lack=lacking, any_separator=True)


def unlabelled_test(data: DataConfig, kind: Kind) -> Callable[[Any], bool] | None:
    """Says of a label cell that its row is left out; None where no row is."""
    from finetune_cli.data.label_sets import is_unlabelled

    if data.unlabelled == "error":
        return None
    return partial(is_unlabelled, kind=kind, column=data.label, names=data.labels)


def require_slices(source: Source, config: RunConfig) -> None:
    """Refuse evaluation.slices, before anything is trained, when the data lack a column. Raises DataError."""
    from finetune_cli.data.text_settings import require_columns

    require_columns(source, config.evaluation.slices, key="evaluation.slices")


def labelled_file(path: Path, config: RunConfig | None, kind: Kind) -> Source:
    """The rows of one labelled file, read as the config of the run says."""
    from finetune_cli.data.formats.row import OF_OTHERS
    from finetune_cli.data.parts import labelled_only
    from finetune_cli.data.source_files import file_source

    path = in_home(path)
    if config is None:
        return file_source(path, OF_OTHERS, label="label")
    label = config.data.label
    source = file_source(path, table_form(config.data, path), label=label if isinstance(label, str) else None)
    unlabelled = unlabelled_test(config.data, kind)
    return source if unlabelled is None else labelled_only(source, label=label, unlabelled=unlabelled)


def prepare_file(path: Path, target: Target, label_names: tuple[str, ...] | None, kind: Kind) -> PreparedData:
    """One labelled file, tokenised for a trained model; its only split is named `file-` and the file's name, so that
    its scores never overwrite those of a split.

    label_names, kind: of the model; no names for regression. Raises DataError.
    """
    from finetune_cli.data.prepared import open_prepared
    from finetune_cli.data.text_settings import TextSettings, column_names, content_key
    from finetune_cli.models.facts import text_facts
    from finetune_cli.runs.target import text_columns

    facts = text_facts(target.model_dir, trust_remote_code=target.trust_remote_code)
    data = target.config.data if target.config else None
    label = data.label if data else "label"
    source = labelled_file(path, target.config, kind)
    if target.config:
        require_slices(source, target.config)
    settings = TextSettings(
        text=text_columns(target, column_names(source)),
        label=label,
        labels=label_names,
        kind=kind,
        id=data.id if data else None,
        limit=None,
        **target_reading(target, facts.max_length, kind)._asdict(),
    )
    sources = {f"file-{path.stem}": source}
    directory = cache_dir() / "prepared" / content_key(sources, settings, facts.fingerprint)
    prepared = open_prepared(directory) or _build(
        sources, settings, directory, model_dir=target.model_dir, facts=facts, scratch=None
    )
    prepared = replace(prepared, report=prepared.report.at({split: one.where for split, one in sources.items()}))
    prepared = _judged(prepared, data.checks if data else ChecksConfig(), quiet=False)
    return in_windows(prepared, settings.long_texts)


def _model_facts(config: RunConfig, *, offline: bool) -> tuple[Path | None, TextFacts | None]:
    """The model's directory and what it makes of texts; None for a new model, whose tokenizer comes from the data."""
    from finetune_cli.models.facts import text_facts
    from finetune_cli.models.resolving import require_present, resolve_model

    if config.model.from_scratch is not None:
        return None, None
    if config.model.name_or_path is None:
        raise ConfigError("model: name_or_path or from_scratch is needed.")
    require_present(config.model.name_or_path)
    directory = resolve_model(config.model.name_or_path, revision=config.model.revision, offline=offline, weights=False)
    return directory, text_facts(directory, trust_remote_code=config.model.trust_remote_code)


def _text_settings(config: RunConfig, limit: int) -> TextSettings:
    from finetune_cli.data.text_settings import TextSettings

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
        limit=data.limit,
        **reading(data, limit, config.spec.kind)._asdict(),
    )


def _build(
    sources: dict[str, Source],
    settings: TextSettings,
    directory: Path,
    *,
    model_dir: Path | None,
    facts: TextFacts | None,
    scratch: FromScratchConfig | None,
) -> PreparedData:
    from finetune_cli.data.prepared import TOKENIZER
    from finetune_cli.data.preparing import prepare_splits
    from finetune_cli.data.text_settings import train_texts
    from finetune_cli.data.tokenization import TextEncoder
    from finetune_cli.data.writing import publish
    from finetune_cli.models.tokenizer import load_tokenizer, save_tokenizer
    from finetune_cli.models.vocabulary import train_wordpiece

    def build(folder: Path) -> dict[str, Any]:
        if scratch is not None:
            train_wordpiece(
                lambda: train_texts(sources["train"], settings),
                vocab_size=scratch.vocab_size,
                max_length=scratch.max_position_embeddings,
                directory=folder / TOKENIZER,
            )
        tokenizer = load_tokenizer(model_dir or folder / TOKENIZER)
        save_tokenizer(tokenizer, folder / TOKENIZER)
        encoder = TextEncoder(
            tokenizer,
            max_length=settings.max_length,
            truncation=settings.truncation,
            long_texts=settings.long_texts,
            token_types=facts.token_types if facts else None,
            vocabulary=facts.vocabulary if facts else None,
        )
        return prepare_splits(sources, settings, encoder, folder)

    return publish(directory, build)


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
        told = [one for one in findings if one.level == "warn" and (about is None or one.split in about)]
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


def _padding(prepared: PreparedData, *, batch_size: int, seed: int) -> Padding | None:
    """None for rows that are read in windows, of which the long ones have no padding."""
    import numpy as np

    from finetune_cli.data.order import RowOrder

    if prepared.report.windows is not None:
        return None
    lengths = np.diff(prepared.splits["train"].offsets[: PADDING_SAMPLE_ROWS + 1])
    random, length = (
        RowOrder(lengths, batch_size=batch_size, seed=seed, batching=batching).padding_share()
        for batching in ("random", "length")
    )
    return Padding(batch_size, random, length)
