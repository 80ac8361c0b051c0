"""The share of train that data.share names."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune_cli.config.fields import RunConfig
    from finetune_cli.data.prepared import PreparedData
    from finetune_cli.data.shares import Numbers
    from finetune_cli.data.source_files import Source

logger = logging.getLogger(__name__)


def with_share(
    prepared: PreparedData, config: RunConfig, sources: Mapping[str, Source], *, quiet: bool = False
) -> PreparedData:
    """The rows with those of train that are in data.share alone; as they are where the config has none.

    Names of classes and the vocabulary of a new model are those of all rows. Raises DataError for a share that is too
    small.
    """
    share = config.data.share
    if share is None:
        return prepared
    from finetune_cli.data.shares import share_of

    train = prepared.splits["train"]
    groups = _groups(sources["train"], config) if share < 1 else None
    chosen = share_of(train, share, seed=config.seed, groups=groups)
    if not quiet:
        logger.info("data.share %g: %d of %d rows of train", share, chosen.num_rows, train.num_rows)
    return replace(prepared, splits=prepared.splits | {"train": chosen})


def _groups(train: Source, config: RunConfig) -> Numbers | None:
    """The group of each row, as data.folds has them; None where it has none."""
    folds = config.data.folds
    if folds is None or folds.group is None:
        return None
    from finetune_cli.data.strata import read_strata

    return read_strata(train, label=config.data.label, kind=config.spec.kind, least=0, group=folds.group).groups
