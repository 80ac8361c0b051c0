"""Data sets of the Hugging Face Hub: which version is meant, fetching it, and reading its cached Arrow files.

Finding the version imports nothing heavy, so that prepared data are found again at once; `datasets` is imported only to
download. The layout of its cache is NAMESPACE___NAME/CONFIG/VERSION/COMMIT/NAME-SPLIT*.arrow beside dataset_info.json.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_cli.data.formats.parquet_rows import declared_names
from finetune_cli.data.formats.row import Row
from finetune_cli.data.source_files import arrow_rows
from finetune_cli.errors import MissingError

logger = logging.getLogger(__name__)

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
TIMEOUT_SECONDS = 10
TRUE = {"1", "TRUE", "YES", "ON"}


@dataclass(frozen=True)
class HubDataset:
    """A data set in the local cache: its folder, its exact version, and what it says of itself."""

    folder: Path
    commit: str
    info: dict[str, Any]

    @property
    def splits(self) -> list[str]:
        return list(self.info.get("splits") or {})

    def label_names(self, column: str) -> tuple[str, ...] | None:
        """The class names that the data set declares for a column."""
        return declared_names(self.info.get("features") or {}, column)

    def rows(self, split: str, columns: Sequence[str] | None) -> Iterator[Row]:
        """The rows of a split, in order, from its Arrow files; constant memory."""
        files = sorted(self.folder.glob(f"*-{split}.arrow")) + sorted(self.folder.glob(f"*-{split}-*-of-*.arrow"))
        return arrow_rows(files, columns)


def find_dataset(path: str, name: str | None, *, offline: bool = False) -> HubDataset:
    """The data set `path` (configuration `name`) in the version meant, downloaded when it is not cached.

    Offline, or when the Hub cannot be reached, the newest cached version is used. Raises MissingError otherwise.
    """
    offline = offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in TRUE
    commit, reason = (None, "offline mode is on") if offline else _newest_commit(path)
    cached = _cached(path, name, commit)
    if cached is not None:
        if commit is None:
            logger.warning("data.path: %s; using the cached copy of %s, version %s", reason, path, cached.commit)
        return cached
    if commit is None:
        raise MissingError(_not_here(path, f"is not in the local cache of data sets, and {reason}"))
    return _download(path, name, commit)


def _not_here(path: str, problem: str) -> str:
    return (
        f"data.path: {path!r} is not a file or directory here; read as a data set of the Hub, it {problem}. "
        f"For files of yours, check the path; for the Hub, run `finetune prepare` once with network access."
    )


def _newest_commit(path: str) -> tuple[str | None, str]:
    """The newest commit of a data set; (None, why) when the Hub cannot be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return HfApi().dataset_info(path, timeout=TIMEOUT_SECONDS).sha, ""
    except GatedRepoError as err:
        raise MissingError(
            f"data.path: {path!r} is gated on the Hub. Accept its terms there, then run `hf auth login`."
        ) from err
    except RepositoryNotFoundError as err:
        raise MissingError(_not_here(path, "does not exist (or is private)")) from err
    except Exception as err:  # of the HTTP library, which differs between versions of huggingface_hub
        logger.debug("The Hub cannot be reached", exc_info=err)
        return None, "the Hub cannot be reached"


def _cached(path: str, name: str | None, commit: str | None) -> HubDataset | None:
    *namespace, dataset = path.split("/")
    root = _datasets_cache() / "___".join([*namespace, _snake_case(dataset)])
    folders = sorted(root.glob(f"{name or '*'}/*/{commit or '*'}"), key=lambda folder: folder.stat().st_mtime)
    folders = [folder for folder in folders if (folder / "dataset_info.json").is_file()]
    if not folders:
        return None
    if len(configs := sorted({folder.parts[-3] for folder in folders})) > 1:
        raise MissingError(f"data.name: {path!r} has several configurations: {', '.join(configs)}. Name one.")
    folder = folders[-1]
    return HubDataset(folder, folder.name, json.loads((folder / "dataset_info.json").read_text(encoding="utf-8")))


def _datasets_cache() -> Path:
    """Where the datasets library keeps its files, by its own rules."""
    if cache := os.environ.get("HF_DATASETS_CACHE"):
        return Path(os.path.expanduser(cache))
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.path.expanduser(home)) / "datasets"


def _snake_case(name: str) -> str:
    """As datasets.naming.camelcase_to_snakecase."""
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z\d])([A-Z])", r"\1_\2", name).lower()


def _download(path: str, name: str | None, commit: str) -> HubDataset:
    import datasets

    try:
        builder = datasets.load_dataset_builder(path, name, revision=commit)
        builder.download_and_prepare()
    except Exception as err:  # datasets raises many kinds, and wraps the one that says something
        cause: BaseException = err
        while cause.__cause__ is not None:
            cause = cause.__cause__
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        problem = f"cannot be loaded: {' '.join(lines[:3])}"
        raise MissingError(_not_here(path if name is None else f"{path} ({name})", problem)) from err
    folder = Path(builder.cache_dir)
    return HubDataset(folder, commit, json.loads((folder / "dataset_info.json").read_text(encoding="utf-8")))
