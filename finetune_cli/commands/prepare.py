"""finetune prepare: check the data, tokenise it once for each content, report on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetune_cli.runs.rows import prepare_rows

if TYPE_CHECKING:
    from finetune_cli.config.fields import RunConfig
    from finetune_cli.data.prepared import PreparedData


def prepare(config: RunConfig, *, offline: bool = False, quiet: bool = False) -> PreparedData:
    """The checked and tokenised splits of a config, with the report on them; see runs.rows.prepare_rows.

    Of several folds, the first one's.
    """
    folds = config.data.folds
    if folds is not None and folds.fold is None:
        first = config.data.model_copy(update={"folds": folds.model_copy(update={"fold": 1})})
        config = config.model_copy(update={"data": first})
    return prepare_rows(config, offline=offline, quiet=quiet)
