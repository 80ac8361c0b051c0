"""A config as text again, and configs compared key by key; what came from secret variables stays a reference."""

from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

from finetune_cli.config.environment import SHORTEST_SECRET, escaped
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.types import short_number
from finetune_cli.config.yaml_core import is_plain_text
from finetune_cli.system.places import in_home


class _Dumper(yaml.SafeDumper):
    """Writes what `yaml_source` reads back: no anchors, and quotes around a text that would be read as a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Reference(str):
    """`${NAME}`, to be written as it is; in any other text these characters are doubled."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if is_plain_text(text) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", escaped(text), style=style)


def _represent_reference(dumper: yaml.SafeDumper, text: _Reference) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text))


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(_Reference, _represent_reference)


def to_yaml(config: RunConfig) -> str:
    """The whole config, defaults and preset included; `load_config` reads it back as an equal object."""
    data = plain_values(config)
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def plain_values(config: RunConfig) -> dict[str, Any]:
    """All values as JSON has them, for people and files: references in place of what secret variables hold."""
    return _with_references(config.model_dump(mode="json"), config)


def _with_references(data: dict[str, Any], config: RunConfig) -> dict[str, Any]:
    """data: a dump of the config. A value that has been replaced since stays as it is."""
    for path, (value, reference) in config.references.items():
        holder: Any = data
        for part in path[:-1]:
            if isinstance(holder[part], tuple):
                holder[part] = list(holder[part])
            holder = holder[part]
        if holder[path[-1]] in (value, [value], (value,)):
            holder[path[-1]] = _Reference(reference)
    return data


def with_references(text: str, config: RunConfig) -> str:
    """A message with references in place of what secret variables hold."""
    for value, reference in config.references.values():
        for shown in (value, str(in_home(value))) if isinstance(value, str) and len(value) >= SHORTEST_SECRET else ():
            text = text.replace(shown, reference)
    return text


def in_flow(value: Any) -> str:
    """A value on one line, as it stands after `key: ` in a config."""
    if isinstance(value, float):
        return short_number(value)
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def config_diff(first: RunConfig, second: RunConfig) -> list[tuple[str, Any, Any]]:
    """The keys whose values differ, each with both values; None stands for a key that one of them lacks."""
    left, right = dict(leaves(first)), dict(leaves(second))
    keys = dict.fromkeys([*left, *right])
    return [(key, left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)]


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a config with its dotted key; a list is one value."""
    if isinstance(value, RunConfig):
        value = _with_references(value.model_dump(), value)
    elif isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, dict) and (value or not key):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else name)
    else:
        yield key, value
