"""Where rows lie, said without what secret variables hold: in messages, in reports, and in what is kept of the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from finetune_cli.config.dump import with_references
from finetune_cli.errors import FinetuneError

if TYPE_CHECKING:
    from finetune_cli.config.fields import RunConfig
    from finetune_cli.data.formats.row import Row
    from finetune_cli.data.source_files import Source


def concealed(find: Callable[[], Mapping[str, Source]], config: RunConfig) -> dict[str, Source]:
    """The sources that `find` finds; what they and their rows say of their place has the config's references in it."""
    with _errors_concealed(config):
        sources = dict(find())
    if not config.references:
        return sources
    return {split: _concealed(source, config) for split, source in sources.items()}


def _concealed(source: Source, config: RunConfig) -> Source:
    from finetune_cli.data.formats.row import BadRow

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
