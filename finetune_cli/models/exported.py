"""A model in any form that answers: of transformers, or of a runtime behind the same face."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig
from transformers.modeling_outputs import SequenceClassifierOutput

from finetune_cli.errors import MissingError, first_line
from finetune_cli.models.building import load_trained
from finetune_cli.models.runtimes import FORMATS, files_of_runtimes, require_runtime, require_unchanged, runtime_of

logger = logging.getLogger(__name__)

Inputs = dict[str, np.ndarray]
CPU = torch.device("cpu")


class ExportedModel(nn.Module):
    """A classifier that a runtime computes, on the CPU and in float32, called as one of transformers is.

    input_names: what the runtime takes. compute: from int64 arrays (B, T) by those names to logits (B, C).
    """

    def __init__(self, config: Any, input_names: list[str], compute: Callable[[Inputs], np.ndarray]) -> None:
        super().__init__()
        self.config = config
        self.device = CPU
        self.input_names = input_names
        self.compute = compute

    def forward(self, **inputs: torch.Tensor) -> SequenceClassifierOutput:
        arrays = {name: inputs[name].numpy() for name in self.input_names}
        return SequenceClassifierOutput(logits=torch.from_numpy(self.compute(arrays)))


def load_answering(
    directory: Path, device: torch.device, *, trust_remote_code: bool = False, dtype: str = "fp32"
) -> Any:
    """The classifier in a directory, whatever its form; one of a runtime stays on the CPU. dtype: see load_trained.

    Raises MissingError when it cannot be loaded, when its runtime is not installed, or when it is an export of ours
    whose files have changed since it was proven.
    """
    require_unchanged(directory)
    runtime = runtime_of(directory)
    if runtime is None:
        if beside := files_of_runtimes(directory):
            logger.info("%s: the weights of torch are taken; %s beside them is left alone.", directory, beside[0])
        return load_trained(directory, device, trust_remote_code=trust_remote_code, dtype=dtype)
    return load_exported(directory, runtime)


def load_exported(directory: Path, runtime: str) -> ExportedModel:
    """The model of a runtime's file, with as many threads as torch has."""
    require_runtime(runtime, what=str(directory), running_only=True)
    file = directory / FORMATS[runtime].weights[0]
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
        names, compute = _RUNTIMES[runtime](file)
    except Exception as err:  # the runtimes raise classes of their own, and plain RuntimeError
        raise MissingError(f"{file} cannot be loaded: {first_line(err)}. Export or copy it again.") from err
    unknown = set(names) - {"input_ids", "attention_mask", "token_type_ids"}
    if unknown or "input_ids" not in names:
        raise MissingError(
            f"{file} takes the inputs {', '.join(names)}: expected input_ids, attention_mask and perhaps "
            "token_type_ids. It is no text classifier, or was exported for another task."
        )
    return ExportedModel(config, names, compute).eval()


def _onnx(file: Path) -> tuple[list[str], Callable[[Inputs], np.ndarray]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; what is wrong with a file comes as an exception, too
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return [taken.name for taken in session.get_inputs()], lambda inputs: session.run(["logits"], inputs)[0]


def _openvino(file: Path) -> tuple[list[str], Callable[[Inputs], np.ndarray]]:
    import openvino

    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",  # otherwise bf16 where the CPU has it: other answers on other machines
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = openvino.Core().compile_model(str(file), "CPU", settings)
    request = model.create_infer_request()

    def compute(inputs: Inputs) -> np.ndarray:
        return np.array(request.infer(inputs, share_inputs=True)["logits"])

    return [taken.get_any_name() for taken in model.inputs], compute


_RUNTIMES = {"onnx": _onnx, "openvino": _openvino}
