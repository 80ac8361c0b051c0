"""What a model takes in: positions, tokens and token types, read off the tables that a row is looked up in.

The model is built without its weights, which takes no memory, and a few rows are sent in as far as its first layer. The
tables that they reach tell their own sizes, and the largest position of a row says how many of them its tokens may use:
some families start counting after the number of the padding token, others at 2.
"""

from __future__ import annotations

import inspect
import threading
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForSequenceClassification, PreTrainedConfig
from transformers.initialization import no_init_weights

SHORT, LONGER = 4, 9  # tokens of the rows that are sent in
MOST_TOKENS = 600  # of a row that looks whether positions go on as they began: enough for every table of distances
WITHOUT_VALUES = (torch.empty, torch.randn, torch.rand, torch.normal)  # what weights are made with


@dataclass(frozen=True)
class Limits:
    """positions: the most tokens of a row, None where no table says. vocabulary: rows of the table of tokens, None
    where it was not found. token_types: how many kinds of tokens are told apart, 0 for a model that takes no types,
    None for one that takes them without a table."""

    positions: int | None
    vocabulary: int | None
    token_types: int | None


def find_limits(config: PreTrainedConfig) -> Limits:
    """The limits of the classifier of this configuration.

    All are unknown for a model that brings code of its own, and for one that cannot be built: loading it says why.
    """
    try:
        model = without_weights(config)
    except Exception:
        return Limits(None, None, None)
    takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
    short, longer = _look_up(model, SHORT, takes_types), _look_up(model, LONGER, takes_types)
    growing = [
        table
        for table, ids in longer.items()
        if table in short and _largest(ids) - _largest(short[table]) == LONGER - SHORT
    ]
    limits = [_positions(model, table, _largest(short[table]), takes_types) for table in growing]
    ids, token_types = _row(SHORT, config)
    words = word_table(model)
    return Limits(
        min((limit for limit in limits if limit is not None), default=None),
        _rows_of_table(short, ids) or (None if words is None else len(words.weight)),
        _rows_of_table(short, token_types) if takes_types else 0,
    )


def word_table(model: Any) -> nn.Embedding | None:
    """The table of the tokens' vectors; None for a model that has none (CANINE hashes characters), or a module of
    another kind."""
    try:
        table = model.get_input_embeddings()
    except NotImplementedError:
        return None
    return table if isinstance(table, nn.Embedding) else None


def special_token_ids(config: PreTrainedConfig) -> set[int | None]:
    """The numbers of the tokens that a configuration gives a meaning of their own, as to the padding token."""
    numbers = [value for name, value in config.to_dict().items() if name.endswith("_token_id")]
    return {number for value in numbers for number in (value if isinstance(value, list) else [value])}


def _largest(looked_up: list[Tensor]) -> int:
    return max(int(ids.max()) for ids in looked_up)


def _rows_of_table(tables: dict[Tensor, list[Tensor]], row: Tensor) -> int | None:
    """The size of the smallest table in which this row was looked up as it is."""
    sizes = [len(table) for table, seen in tables.items() if any(torch.equal(ids.flatten(), row) for ids in seen)]
    return min(sizes, default=None)


def _positions(model: nn.Module, table: Tensor, largest: int, takes_types: bool) -> int | None:
    """How many tokens a table of positions is for; None for one of distances, which stop growing or start in the
    middle."""
    first = largest - (SHORT - 1)
    limit = len(table) - first
    tokens = min(limit, MOST_TOKENS)
    if tokens <= LONGER:
        return limit
    seen = _look_up(model, tokens, takes_types).get(table)
    return limit if seen is not None and _largest(seen) == first + tokens - 1 else None


def _row(tokens: int, config: PreTrainedConfig) -> tuple[Tensor, Tensor]:
    """A row of one token that means nothing special, and token types that are found again: 0 0 ... 1."""
    special = special_token_ids(config)
    word = next(number for number in range(5, 1000) if number not in special)
    return torch.full((tokens,), word), torch.arange(tokens) // (tokens - 1)


def _look_up(model: Any, tokens: int, takes_types: bool) -> dict[Tensor, list[Tensor]]:
    """The tables that a row of so many tokens reaches before the first layer, and the places that it looks at there."""
    ids, types = _row(tokens, model.config)
    inputs = {"input_ids": ids[None], "attention_mask": torch.ones_like(ids)[None]}
    if takes_types:
        inputs["token_type_ids"] = types[None]
    seen = _LookUps()
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module)]
    hooks = [layers[0].register_forward_pre_hook(_stop) for layers in lists]
    try:
        with torch.no_grad(), seen:
            model(**inputs)
    except Exception:  # the row got as far as it got: a library's model may fail in any way without its weights
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return seen.tables


def _stop(*_: Any) -> None:
    raise RuntimeError("what follows is not needed")


class _LookUps(TorchFunctionMode):
    """Keeps what is looked up in which table."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[Tensor, list[Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not nn.functional.embedding:
            return func(*args, **(kwargs or {}))
        ids, table = args[:2]
        self.tables.setdefault(table, []).append(ids.detach().clone())
        return table.new_zeros(()).expand(*ids.shape, table.shape[1])


# no_init_weights takes torch's initialisers away from the whole process, and then puts back what it found. Of two
# threads at once, the second would put back nothing.
_BUILDING = threading.Lock()


class _WeightsOnMeta(TorchFunctionMode):
    """Makes what weights are made of without values, and everything else, as tables of position numbers, as ever."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in WITHOUT_VALUES and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


def without_weights(config: PreTrainedConfig) -> Any:
    """The classifier with zeros in place of its weights, all of a weight's in the memory of one."""
    with _BUILDING, torch.random.fork_rng(devices=[]), no_init_weights(), _WeightsOnMeta():
        model = AutoModelForSequenceClassification.from_config(config)
    for module in model.modules():
        for store in (module._parameters, module._buffers):
            for name, value in store.items():
                if value is not None and value.is_meta:
                    zeros = torch.zeros((), dtype=value.dtype).expand(value.shape)
                    store[name] = nn.Parameter(zeros, requires_grad=False) if store is module._parameters else zeros
    return model.eval()
