"""Dropout set for the whole model, under whatever names its family keeps it.

`model.dropout` is that of hidden layers and head, `model.attention_dropout` that of the attention's weights. Families
without a setting of its own for attention (T5) have one for both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from finetune_cli.errors import ConfigError

HIDDEN_MARK, ATTENTION_MARK = 0.28125, 0.59375  # no model's own, and exact in any type


@dataclass(frozen=True)
class Dropouts:
    """Probabilities as the config sets them; None: the model's own."""

    hidden: float | None = None
    attention: float | None = None

    @property
    def is_set(self) -> bool:
        return self.hidden is not None or self.attention is not None


def set_dropout(config: Any, dropouts: Dropouts) -> None:
    """Put the probabilities into a configuration, before its model is built."""
    for part, name in _fields(config):
        value = dropouts.attention if _is_of_attention(name) else dropouts.hidden
        if "layerdrop" in name or "drop_path" in name:
            value = 0.0 if dropouts.hidden == 0 else None  # leaves out whole layers: chance, too, of another kind
        if value is not None:
            _set(part, name, value, model_type=config.model_type)


def _set(part: Any, name: str, value: float, *, model_type: str) -> None:
    is_integer_field = type(getattr(part, name)) is int  # some families check the type: a 0 has to stay one
    if is_integer_field and not float(value).is_integer():
        key = "model.attention_dropout" if _is_of_attention(name) else "model.dropout"
        raise ConfigError(
            f"{key}: {value} is not possible for a model of type {model_type!r}, whose configuration takes 0 or 1 "
            f"as {name}. Set it to 0, or remove the setting."
        )
    setattr(part, name, int(value) if is_integer_field else value)


def require_dropout(model: Any, dropouts: Dropouts) -> None:
    """Set what the model has by itself, and refuse a probability that it has no place for (ConfigError)."""
    if not dropouts.is_set:
        return
    places = _places(model.config)
    for value, mark, key in (
        (dropouts.hidden, HIDDEN_MARK, "model.dropout"),
        (dropouts.attention, ATTENTION_MARK, "model.attention_dropout"),
    ):
        if value and mark not in places.values():
            raise ConfigError(
                f"{key}: models of type {model.config.model_type!r} have no such dropout"
                f"{', only the one that model.dropout sets' if HIDDEN_MARK in places.values() else ''}. "
                f"Remove the setting."
            )
    for module, path, attribute, current in _settings_of(model):
        mark = places.get((path, attribute), 0.0)
        value = dropouts.attention if mark == ATTENTION_MARK else dropouts.hidden
        if value is not None and mark and current != value:
            setattr(module, attribute, value)
    if dropouts.hidden == 0 and dropouts.attention in (0, None):
        _require_no_chance(model, attention=dropouts.attention)


def _require_no_chance(model: Any, *, attention: float | None) -> None:
    """Refuse a model whose training stays a matter of chance although all dropout is off."""
    from finetune_cli.models.padding_independence import TRIED
    from finetune_cli.models.self_test import trains_alike

    places = _places(model.config).values()
    if model.config.model_type in TRIED or (attention is None and ATTENTION_MARK in places):
        return
    if not trains_alike(model):
        raise ConfigError(
            f"model.dropout: 0 does not take chance out of the training of a model of type "
            f"{model.config.model_type!r}: it draws random numbers elsewhere, too. Remove the setting."
        )


def _places(config: Any) -> dict[tuple[str, str], float]:
    """Where the family keeps dropout, as (module, attribute): HIDDEN_MARK, ATTENTION_MARK, or a number of its own.

    Found by building it without weights from a configuration that has these marks as its probabilities.
    """
    import copy

    from finetune_cli.models.limits import without_weights

    marked = copy.deepcopy(config)
    for part, name in _fields(marked):
        vars(part)[name] = ATTENTION_MARK if _is_of_attention(name) else HIDDEN_MARK  # unchecked
    try:
        model = without_weights(marked)
    except Exception:  # a family that checks its numbers against each other: its fields have been set all the same
        return {}
    return {(path, attribute): value for _, path, attribute, value in _settings_of(model) if value}


def _fields(config: Any) -> Iterator[tuple[Any, str]]:
    """Each setting of dropout in a configuration and those inside it."""
    for name, value in list(vars(config).items()):
        if hasattr(value, "model_type"):
            yield from _fields(value)
        elif "drop" in name and (value is None or type(value) in (int, float)):
            yield config, name


def _is_of_attention(name: str) -> bool:
    return "att" in name


def _settings_of(model: Any) -> Iterator[tuple[Any, str, str, float]]:
    """Each probability that a module holds: (module, its path, attribute, value)."""
    for path, module in model.named_modules():
        of_its_class = ("p", "drop_prob") if "Dropout" in type(module).__name__ else ()
        for name, value in list(vars(module).items()):
            if type(value) in (int, float) and (name in of_its_class or "drop" in name):
                yield module, path, name, float(value)
