"""finetune prepare: check the data, tokenise it once for each content, report on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetune_cli.runs.rows import prepare_rows

if TYPE_CHECKING:
    from finetune_cli.config.fields import RunConfig
    from finetune_cli.data.prepared import PreparedData


def prepare(config: RunConfig, *, offline: bool = False, quiet: bool = False) -> PreparedData:
    """The checked and tokenised splits of a config, with the report on them; see runs.rows.prepare_rows."""
    return prepare_rows(config, offline=offline, quiet=quiet)
