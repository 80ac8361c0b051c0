"""What `finetune export` is asked for, checked before anything heavy is imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from finetune_cli.config.gate_syntax import MAX_DROP
from finetune_cli.errors import ConfigError
from finetune_cli.models.runtimes import MANIFEST, check_form, runtime_of
from finetune_cli.runs.target import Target, open_target

DEFAULT_DROP = 0.01


def parse_allowed(max_drops: Sequence[str]) -> dict[str, float]:
    """How much worse each metric may be, by its name; "" for those without a bound of their own.

    Raises ConfigError that shows the form.
    """
    allowed = {"": DEFAULT_DROP}
    for text in max_drops:
        match = MAX_DROP.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"--max-drop {text!r}: expected a number from 0, such as 0.01, or METRIC=NUMBER, such as f1=0.02."
            )
        allowed[match["metric"] or ""] = float(match["bound"])
    return allowed


def check_export(
    target: str | Path,
    output: str | Path,
    file_format: str,
    dtype: str,
    *,
    overrides: Sequence[str] = (),
    data: Path | str | None = None,
    offline: bool = False,
) -> tuple[Target, Path]:
    """The trained model, and the directory to write. Raises ConfigError or MissingError for what cannot be done."""
    check_form(file_format, dtype)
    trained = open_target(target, overrides, offline=offline)
    if trained.trust_remote_code or _brings_code(trained.model_dir):
        raise ConfigError(f"{target} runs code of its own (auto_map in its config.json), which an export cannot hold.")
    if (trained.model_dir / MANIFEST).is_file() or runtime_of(trained.model_dir):
        raise ConfigError(f"{target} is an export itself. Name the run that it was made of.")
    if data is None and trained.config is None:
        raise ConfigError(
            f"{target} is a model without a run: name a labelled file to prove the export on with --data FILE."
        )
    return trained, _new_directory(Path(output), trained)


def _new_directory(place: Path, trained: Target) -> Path:
    """Raises ConfigError when something is there, when it is a part of the run, or when it cannot be written."""
    if place.exists() or place.is_symlink():
        raise ConfigError(f"{place} exists, and an export never replaces anything. Name a new directory.")
    inside = trained.run.path if trained.run is not None else trained.model_dir
    if place.resolve().is_relative_to(inside.resolve()):
        raise ConfigError(
            f"{place} lies inside {inside}, which the next training may clear. Name a directory outside it."
        )
    parent = place.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        what = "not writable" if parent.is_dir() else "a file"
        raise ConfigError(f"{place} cannot be made: {parent} is {what}. Name another directory.")
    return place


def _brings_code(model_dir: Path) -> bool:
    return '"auto_map"' in (model_dir / "config.json").read_text(encoding="utf-8", errors="replace")
