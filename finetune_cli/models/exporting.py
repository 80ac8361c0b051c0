"""Writing a classifier for a runtime: ONNX by tracing, OpenVINO from that, smaller types of number.

Letters: B rows, T tokens, C classes.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from finetune_cli.errors import ConfigError, first_line
from finetune_cli.models.on_cpu import ATTENTION
from finetune_cli.models.runtimes import FORMATS, companions

OPSET = 17  # the newest that the tracing exporter has all operators for; ONNX Runtime reads it since 1.12
LARGEST_FILE = 2**31 - 2**24  # bytes: a protocol buffer, which ONNX is, ends at 2 GiB
FEW_VALUES = 1024  # a smaller constant stays in float32: there is nothing to save


def write_model(
    model: PreTrainedModel,
    source: Path,
    directory: Path,
    *,
    file_format: str,
    dtype: str,
    example: Mapping[str, Any],
    exact: bool = False,
) -> None:
    """Write the weights, and what belongs beside them, into `directory`, over what is there.

    model: loaded from `source`, on the CPU; it serves to write alone afterwards. example: inputs (B, T) of a few
    rows, as the model gets them. exact: the form of int8 that keeps more in float32, see narrowing_products.
    Raises ConfigError, with the model's type, for a model that cannot have this form.
    """
    for name in companions(source):
        shutil.copyfile(source / name, directory / name)
    if file_format == "safetensors":
        _write_safetensors(source, directory, half=dtype == "fp16")
        return
    target = directory / FORMATS[file_format].weights[0]
    with tempfile.TemporaryDirectory(dir=directory, prefix=".trace-") as folder:
        traced = Path(folder) / "model.onnx"
        trace(model, example, traced)
        match file_format, dtype:
            case "openvino", _:
                _write_openvino(traced, target, half=dtype == "fp16")
            case "onnx", "fp32":
                shutil.move(traced, target)
            case "onnx", "fp16":
                _write_half_onnx(traced, target)
            case "onnx", "int8":
                _write_int8_onnx(traced, target, exact=exact)


class _Logits(nn.Module):
    """The logits alone, with the inputs by their place: what the tracer takes."""

    def __init__(self, model: PreTrainedModel, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.model(**dict(zip(self.names, inputs, strict=True))).logits
        return logits


def trace(model: PreTrainedModel, example: Mapping[str, Any], target: Path) -> None:
    """Write ONNX for any number of rows and tokens. Raises ConfigError for a model that cannot be traced."""
    kind = model.config.model_type
    size = sum(parameter.numel() * 4 for parameter in model.parameters())
    if size > LARGEST_FILE:
        raise ConfigError(
            f"This {kind} model has {size / 2**30:.1f} GiB of weights, and an ONNX file holds at most 2. Take --format "
            "safetensors --dtype fp16."
        )
    if model.config._attn_implementation == ATTENTION:
        model.set_attn_implementation("sdpa")  # the same in torch's own operators, which the tracer knows
    names = list(example)
    axes = {name: {0: "batch", 1: "tokens"} for name in names} | {"logits": {0: "batch"}}
    try:
        with _errors_only("torch.onnx"), torch.no_grad():
            torch.onnx.export(
                _Logits(model, names).eval(),  # its own mode is the one that the tracer puts back
                tuple(torch.from_numpy(np.asarray(example[name])) for name in names),
                str(target),
                dynamo=False,
                opset_version=OPSET,
                input_names=names,
                output_names=["logits"],
                dynamic_axes=axes,
            )
    except Exception as err:  # the tracer, and any model's own code under it
        raise ConfigError(
            f"Models of type {kind!r} cannot be exported to ONNX or OpenVINO: {first_line(err)}. Take --format "
            "safetensors, which every model has."
        ) from err


@contextmanager
def _errors_only(logger_name: str | None) -> Iterator[None]:
    """Without warnings, and without records of this logger below an error: whether what is written is right is proven
    afterwards, on rows of all lengths."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _write_half_onnx(traced: Path, target: Path) -> None:
    """Weights stored in float16, computed with in float32: half the file at no loss of speed.

    ONNX Runtime turns them back once, when it loads the file. On a CPU it has few operators for float16.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(traced)
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) > FEW_VALUES:
            name, values = tensor.name, numpy_helper.to_array(tensor)
            with np.errstate(over="ignore"):  # an infinity is found by the proof
                tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16"))
            casts.append(helper.make_node("Cast", [f"{name}.fp16"], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    onnx.save(model, target)


def _write_int8_onnx(traced: Path, target: Path, *, exact: bool) -> None:
    """Weights in 8 bits, one scale for each output; activations are scaled batch by batch when it runs.

    The weights take 7 of the 8 bits: with all of them, CPUs without VNNI add up two products in 16 bits, which
    overflows, and the answers would depend on the machine.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    left_out = narrowing_products(traced) if exact else []
    with _errors_only(None):  # the root's: a hint to a step before quantization, which is for images
        quantize_dynamic(
            traced, target, op_types_to_quantize=["MatMul", "Gather"], per_channel=True, reduce_range=True,
            weight_type=QuantType.QInt8, nodes_to_exclude=left_out,
        )  # fmt: skip


def narrowing_products(traced: Path) -> list[str]:
    """The nodes that multiply by a matrix with more inputs than outputs.

    In each layer that is the second product of the feed-forward part. Where a few of the values that come in are far
    from the others, one scale for all of a batch loses the others.
    """
    import onnx

    graph = onnx.load(traced).graph
    narrow = {matrix.name for matrix in graph.initializer if len(matrix.dims) == 2 and matrix.dims[0] > matrix.dims[1]}
    return [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in narrow]


def _write_openvino(traced: Path, target: Path, *, half: bool) -> None:
    """half: weights stored in float16; OpenVINO computes in what the device has."""
    import openvino

    openvino.save_model(openvino.Core().read_model(str(traced)), str(target), compress_to_fp16=half)


def _write_safetensors(source: Path, directory: Path, *, half: bool) -> None:
    from safetensors.torch import load_file, save_file

    for path in (*source.glob("model*.safetensors"), *source.glob("model.safetensors.index.json")):
        if half and path.suffix == ".safetensors":
            tensors = load_file(path)
            halved = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
            save_file(halved, directory / path.name, metadata={"format": "pt"})
        else:
            shutil.copyfile(path, directory / path.name)
    if half:
        path = directory / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("torch_dtype", None)  # its older name
        path.write_text(json.dumps({**config, "dtype": "float16"}, indent=2) + "\n", encoding="utf-8")


def wrong_weights(directory: Path, source: Path) -> list[str]:
    """The weights files in `directory` that are not those of `source`, rounded to their own type of number.

    Raises OSError or SafetensorError for a file that cannot be read.
    """
    from safetensors.torch import load_file

    wrong = []
    for path in sorted(source.glob("model*.safetensors")):
        theirs, ours = load_file(path), load_file(directory / path.name)
        same = theirs.keys() == ours.keys() and all(
            torch.equal(weight.to(ours[name].dtype), ours[name]) for name, weight in theirs.items()
        )
        if not same:
            wrong.append(f"{path.name} does not hold the weights of the model")
    return wrong
