"""Metrics of the `evaluate` library, from the Hub or a local folder: `evaluate:NAME_OR_PATH`."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune_cli.errors import ConfigError, MissingError
from finetune_cli.system.places import in_home
from finetune_cli.tasks import EVALUATE_PREFIX


@functools.cache
def load_library_metric(name: str) -> Callable[..., float]:
    """The metric as a function of `predictions` and `references` (both (N,)) to its one number.

    `evaluate` is imported here alone: that takes seconds. MissingError if the metric can neither be found nor fetched,
    or needs a library that is not installed; ConfigError if it does not give one number or refuses the predictions.
    """
    path = name.removeprefix(EVALUATE_PREFIX)
    try:
        import evaluate

        path = str(in_home(path)) if path.startswith("~") else path  # a Path would lose the ./ of a folder here
        module = evaluate.load(path, keep_in_memory=True)  # else every call writes its rows to a cache file
    except ImportError as err:  # many metrics need scikit-learn, for one
        raise MissingError(f"metric {name!r}: {err}") from err
    except (OSError, ValueError) as err:  # connection errors and "not found" are OSErrors
        raise MissingError(
            f"metric {name!r} was not found as a local folder and could not be fetched from the Hub: {err}\n"
            f"Offline, give the folder that holds it: {EVALUATE_PREFIX}./my_metric"
        ) from err

    def compute(*, predictions: Any, references: Any) -> float:
        try:
            result = module.compute(predictions=predictions, references=references)
        except (TypeError, ValueError) as err:
            raise ConfigError(f"metric {name!r} refuses these predictions and labels: {err}") from err
        return _one_number(result, name, key=Path(path).stem)

    return compute


def _one_number(result: dict[str, Any] | None, name: str, *, key: str) -> float:
    """The only value, or the one under the metric's own name."""
    values = result or {}
    value = values.get(key, next(iter(values.values())) if len(values) == 1 else None)
    if not isinstance(value, numbers.Real):
        raise ConfigError(
            f"metric {name!r} must give one number, alone or under the key {key!r}; it gave {sorted(values)}."
        )
    return float(value)
