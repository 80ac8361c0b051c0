"""Frozen weights in 4 bits (nf4, of QLoRA: https://arxiv.org/abs/2305.14314), by the library bitsandbytes.

It keeps the linear layers of the body in 4 bits, with their scales in 8 (double quantization), and computes in bf16;
embeddings and norms stay in bf16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel

from finetune_cli.errors import ConfigError
from finetune_cli.models.limits import without_weights

DEVICES = ("cuda", "xpu", "cpu")  # for which bitsandbytes has kernels


def loading_options(config: PreTrainedConfig, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` takes to quantize the body while it is loaded onto `device`; the head is left alone."""
    from transformers import BitsAndBytesConfig

    if device.type not in DEVICES:
        raise ConfigError(
            f"model.dtype: nf4 is for {', '.join(DEVICES)}, and this device is {device.type}. Set it to bf16."
        )
    model = without_weights(config)
    head = [name for name, _ in model.named_children() if name != model.base_model_prefix]
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=[*head, "pooler"],  # counts for 4 bits, too
    )
    return {"quantization_config": quantization, "device_map": {"": device}}


def is_quantized(module: nn.Module) -> bool:
    return type(getattr(module, "weight", None)).__name__ == "Params4bit"


def forget_the_loader(model: PreTrainedModel) -> None:
    """Leave nothing on a quantized model by which Trainer refuses a frozen one and `save_pretrained` writes 4 bits."""
    if getattr(model, "hf_quantizer", None) is None:
        return
    model.hf_quantizer, model.is_quantized = None, False
    del model.config.quantization_config


def exact_output(layer: Any, args: tuple[Any, ...], output: Any) -> Tensor:
    """What a quantized layer gives when its products are computed in fp32; a forward hook."""
    return functional.linear(args[0].float(), widened(layer.weight).float(), layer.bias)


def widened(weight: Any) -> Tensor:
    """A matrix in 4 bits as the bf16 that it stands for."""
    from bitsandbytes.functional import dequantize_4bit

    whole: Tensor = dequantize_4bit(weight.data, weight.quant_state)
    return whole.to(torch.bfloat16)


def whole_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """The frozen weights of a model as a plain model of its kind has them, in bf16; what is trained is left out."""
    return {
        name: widened(weight) if type(weight).__name__ == "Params4bit" else weight.detach()
        for name, weight in model.named_parameters()
        if not weight.requires_grad
    }
