"""Where the rows of a run are, and how its config says that they are to be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from finetune_cli.config.dump import with_references
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.sections.data import DataConfig
from finetune_cli.data.folds import Folds
from finetune_cli.data.formats.file_kinds import file_kind
from finetune_cli.data.formats.header import TABLES
from finetune_cli.data.formats.row import OF_OTHERS, BadRow, Row, TableForm
from finetune_cli.data.label_sets import is_unlabelled
from finetune_cli.data.shares import Numbers
from finetune_cli.data.source_files import Source, file_source
from finetune_cli.data.sources import resolve_sources
from finetune_cli.data.strata import read_strata
from finetune_cli.data.subsets import labelled_only
from finetune_cli.data.text_settings import require_columns
from finetune_cli.errors import FinetuneError
from finetune_cli.system.places import in_home
from finetune_cli.tasks import TASKS, Kind


def data_sources(config: RunConfig, *, offline: bool = False) -> dict[str, Source]:
    """Where the rows of each split are. Raises DataError or MissingError.

    What the sources and errors say of their place has the config's references in it, not what secret variables hold.
    """
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
        unlabelled=_unlabelled_test(config.data, config.spec.kind),
        folds=Folds(**config.data.folds.model_dump()) if config.data.folds else None,
        limit=config.data.limit,
        offline=offline,
    )
    with _errors_concealed(config):
        sources = dict(find())
    return {split: _concealed(source, config) for split, source in sources.items()} if config.references else sources


def _concealed(source: Source, config: RunConfig) -> Source:
    def open_concealed(columns: Sequence[str] | None) -> Iterator[Row]:
        with _errors_concealed(config):
            for row in source.open(columns):
                yield replace(row, file=with_references(row.file, config)) if isinstance(row, BadRow) else row

    return replace(source, where=with_references(source.where, config), open=open_concealed)


@contextmanager
def _errors_concealed(config: RunConfig) -> Iterator[None]:
    try:
        yield
    except FinetuneError as err:
        said = with_references(str(err), config)
        if said == str(err):
            raise
        raise type(err)(said) from None


def table_form(data: DataConfig, other: Path | None = None, *, labelled: bool = True) -> TableForm:
    """How the config says that its tables are to be read; `other`: a file that is none of these, which may have a
    header although they have none, or be no table. labelled: whether its rows have labels."""
    if other is None:
        return TableForm(data.columns, data.quoting)
    if file_kind(other)[0] not in TABLES:
        return OF_OTHERS
    label = (data.label,) if isinstance(data.label, str) else data.label
    lacking = () if labelled else label
    return TableForm(data.columns, data.quoting, header_with=data.text, may_lack=lacking, any_separator=True)


def _unlabelled_test(data: DataConfig, kind: Kind) -> Callable[[Any], bool] | None:
    """Says of a label cell that its row is left out; None where no row is."""
    if data.unlabelled == "error":
        return None
    return partial(is_unlabelled, kind=kind, column=data.label, names=data.labels)


def require_slices(source: Source, config: RunConfig) -> None:
    """Refuse evaluation.slices, before anything is trained, when the data lack a column. Raises DataError."""
    require_columns(source, config.evaluation.slices, key="evaluation.slices")


def labelled_file(path: Path, config: RunConfig | None, kind: Kind) -> Source:
    """The rows of one labelled file, read as the config of the run says."""
    path = in_home(path)
    if config is None:
        return file_source(path, OF_OTHERS, label="label")
    label = config.data.label
    source = file_source(path, table_form(config.data, path), label=label if isinstance(label, str) else None)
    unlabelled = _unlabelled_test(config.data, kind)
    return source if unlabelled is None else labelled_only(source, label=label, unlabelled=unlabelled)


def read_groups(train: Source, config: RunConfig) -> Numbers | None:
    """The group of each row, as data.folds has them; None where it has none."""
    folds = config.data.folds
    if folds is None or folds.group is None:
        return None
    return read_strata(train, label=config.data.label, kind=config.spec.kind, least=0, group=folds.group).groups
