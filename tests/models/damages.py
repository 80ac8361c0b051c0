"""Twenty and more ways in which an exported directory can be wrong: each takes the directory and damages it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Damage = Callable[[Path], None]
Arrays = dict[str, np.ndarray]


def _onnx(change: Callable[[Any, Arrays], Arrays | None]) -> Damage:
    """A damage to model.onnx. change: gets the model and its float weights by name; returns those that are new."""

    def damage(directory: Path) -> None:
        import onnx
        from onnx import numpy_helper

        file = directory / "model.onnx"
        model = onnx.load(file)
        floats = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT]
        arrays = {one.name: numpy_helper.to_array(one).copy() for one in floats}
        new = change(model, arrays) or {}
        for tensor in floats:
            if tensor.name in new:
                tensor.CopyFrom(numpy_helper.from_array(new[tensor.name], tensor.name))
        onnx.save(model, file)

    return damage


def _weight(factor: float) -> Damage:
    return _onnx(lambda model, arrays: {name: array * np.float32(factor) for name, array in list(_large(arrays))[:1]})


def _large(arrays: Arrays) -> list[tuple[str, np.ndarray]]:
    """The weights of linear layers: no embeddings, which few rows may use."""
    return [(name, array) for name, array in arrays.items() if array.ndim == 2 and array.shape[0] == array.shape[1]]


def _head(arrays: Arrays) -> Arrays:
    return {name: array for name, array in arrays.items() if "classifier" in name}


def _swap_layers(model: Any, arrays: Arrays) -> Arrays:
    (first, a), (second, b) = _large(arrays)[:2]
    return {first: b, second: a}


def _fix_rows(model: Any, arrays: Arrays) -> None:
    for one in model.graph.input:
        one.type.tensor_type.shape.dim[0].dim_value = 2


def _rename_output(model: Any, arrays: Arrays) -> None:
    model.graph.output[0].name = "scores"
    for node in model.graph.node:
        node.output[:] = ["scores" if name == "logits" else name for name in node.output]


def _rename_input(model: Any, arrays: Arrays) -> None:
    old = model.graph.input[0].name
    model.graph.input[0].name = "tokens"
    for node in model.graph.node:
        node.input[:] = ["tokens" if name == old else name for name in node.input]


def _opset(version: int) -> Damage:
    def change(model: Any, arrays: Arrays) -> None:
        for one in model.opset_import:
            if one.domain == "":
                one.version = version

    return _onnx(change)


def json_change(name: str, change: Callable[[dict[str, Any]], Any]) -> Damage:
    def damage(directory: Path) -> None:
        content = json.loads((directory / name).read_text(encoding="utf-8"))
        change(content)
        (directory / name).write_text(json.dumps(content), encoding="utf-8")

    return damage


def truncate(name: str, share: float = 0.5) -> Damage:
    def damage(directory: Path) -> None:
        content = (directory / name).read_bytes()
        (directory / name).write_bytes(content[: int(len(content) * share)])

    return damage


def flip_bytes(name: str) -> Damage:
    """A bit of many numbers in the middle of a file."""

    def damage(directory: Path) -> None:
        content = bytearray((directory / name).read_bytes())
        for place in range(len(content) // 3, len(content) // 3 * 2, 64):
            content[place] ^= 0x40
        (directory / name).write_bytes(content)

    return damage


def remove(name: str) -> Damage:
    return lambda directory: (directory / name).unlink()


def _swap_words(content: dict[str, Any]) -> None:
    words = content["model"]["vocab"]
    words["good"], words["bad"] = words["bad"], words["good"]


def _swap_labels(content: dict[str, Any]) -> None:
    names = content["id2label"]
    names["0"], names["1"] = names["1"], names["0"]


def _add_rule(directory: Path) -> None:
    rule = {"temperature": 2.0, "thresholds": None, "for": None, "fitted_on": "validation", "n": 12}
    (directory / "decision.json").write_text(json.dumps(rule), encoding="utf-8")


COMPANION_DAMAGES: dict[str, Damage] = {
    "label order swapped": json_change("config.json", _swap_labels),
    "another kind of task": json_change(
        "config.json", lambda content: content.update(problem_type="multi_label_classification")
    ),
    "longer texts": json_change("config.json", lambda content: content.update(max_position_embeddings=128)),
    "no config": remove("config.json"),
    "wrong tokenizer": json_change("tokenizer.json", _swap_words),
    "no tokenizer": remove("tokenizer.json"),
    "another length of the tokenizer": json_change(
        "tokenizer_config.json", lambda content: content.update(model_max_length=8)
    ),
    "another decision rule": _add_rule,
}

ONNX_DAMAGES: dict[str, Damage] = {
    "weight scaled by 1.05": _weight(1.05),
    "weight scaled by -1": _weight(-1),
    "weight not a number": _weight(float("nan")),
    "weight infinite": _weight(float("inf")),
    "bias shifted": _onnx(
        lambda model, arrays: {name: array + 1e-3 for name, array in _head(arrays).items() if array.ndim == 1}
    ),
    "head scaled, same answers": _onnx(
        lambda model, arrays: {name: array * np.float32(3) for name, array in _head(arrays).items()}
    ),
    "classes swapped in the head": _onnx(
        lambda model, arrays: {name: array[::-1].copy() for name, array in _head(arrays).items()}
    ),
    "two layers swapped": _onnx(_swap_layers),
    "batch of fixed size": _onnx(_fix_rows),
    "output renamed": _onnx(_rename_output),
    "input renamed": _onnx(_rename_input),
    "older opset": _opset(13),
    "newer opset": _opset(18),
    "truncated": truncate("model.onnx"),
    "last bytes missing": truncate("model.onnx", 0.99),
    "empty": truncate("model.onnx", 0),
    "not there": remove("model.onnx"),
    "bits flipped": flip_bytes("model.onnx"),
}
