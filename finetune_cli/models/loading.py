"""Loading a classifier from its files: plain weights alone, none of them shared by accident, and no code run."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_cli.errors import MissingError, first_line
from finetune_cli.models.files import as_written, weight_format

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


def load_classifier(
    directory: Path,
    *,
    config: Any,
    dtype: str = "fp32",
    device: torch.device | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, set[str]]:
    """A sequence classifier of this configuration, and the names of those weights that its files do not have, or have
    in another shape.

    dtype: of the body, see models.storage; device: for nf4, which is loaded there. Raises MissingError when the files
    cannot be used.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    from finetune_cli.models import storage

    model_class, options = storage.loading_options(config, dtype, device or torch.device("cpu"))
    _fix_attention(config)
    pickled = weight_format(directory) == "bin"
    if pickled:
        logger.info("%s: the weights are a .bin file; nothing but tensors is read from it", as_written(directory))
    with _failures_explained(directory), _no_draws_without_storage():
        model, info = model_class.from_pretrained(
            directory,
            config=config,
            use_safetensors=not pickled,
            weights_only=True,  # the loader for .bin files that builds tensors and runs no code
            local_files_only=True,
            ignore_mismatched_sizes=True,  # reported in the loading info, and judged by the caller
            output_loading_info=True,
            trust_remote_code=trust_remote_code,
            **options,
        )
    if model_class is not AutoModelForSequenceClassification:
        storage.restore_class(model)
    _give_own_storage(model)
    return model, {*info["missing_keys"], *(name for name, *_shapes in info["mismatched_keys"])}


@contextmanager
def _failures_explained(directory: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except pickle.UnpicklingError as err:
        raise MissingError(
            f"The weights of {as_written(directory)} are a .bin file that is damaged or holds more than tensors. "
            f"Loading such a file could run code, so it was not. Take a copy with model.safetensors, or convert it "
            f"where you trust it, with save_pretrained."
        ) from err
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError, SafetensorError) as err:
        raise MissingError(
            f"The model {as_written(directory)} cannot be loaded: {first_line(err)}. Download or copy it again."
        ) from err


def _fix_attention(config: Any) -> None:
    """BigBird attends sparsely until a short batch comes, and fully from then on: fully from the start, then."""
    if getattr(config, "attention_type", None) == "block_sparse":
        config.attention_type = "original_full"
        logger.info("A %s model attends fully here, whatever the length of a row", config.model_type)


def _give_own_storage(model: PreTrainedModel) -> None:
    """Copy parameters that are views of one larger tensor.

    transformers loads query, key and value of nomic_bert, gte and jina_embeddings_v3 so, and Accelerate takes all but
    one of them for shared and leaves them out of a checkpoint.
    """
    for parameter in model.parameters():
        if parameter.untyped_storage().nbytes() != parameter.numel() * parameter.element_size():
            parameter.data = parameter.data.clone()


@contextmanager
def _no_draws_without_storage() -> Iterator[None]:
    """Leave out the first draw of embeddings on the device "meta", where weights have no values yet.

    Nothing comes of it but time: torch works in Python there, for which it imports sympy (a quarter of a second).
    """
    from torch.nn import init

    def normal(tensor: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        return tensor if tensor.is_meta else draw(tensor, *args, **options)

    draw, init.normal_ = init.normal_, normal
    try:
        yield
    finally:
        init.normal_ = draw
