"""Adapter directories (LoRA, as peft saves them): merged into their base model once, kept in the cache."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import shutil
import tempfile
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from finetune_cli.errors import MissingError, first_line
from finetune_cli.models.facts import read_config
from finetune_cli.models.files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    as_written,
    tokenizer_files,
    weight_format,
    weights_fingerprint,
)
from finetune_cli.models.loading import load_classifier
from finetune_cli.system.files import publish_directory
from finetune_cli.system.machine import require_extra
from finetune_cli.system.places import cache_dir

logger = logging.getLogger(__name__)

SAVED_PREFIX = "base_model.model."  # of peft's names


def base_model(directory: Path, name: str, key: str) -> tuple[str, str | None]:
    """What the adapter in a directory says that its base model is, and the revision of it."""
    if weight_format(directory) is not None:
        raise MissingError(
            f"{key}: {name} holds both a whole model and an adapter ({ADAPTER_CONFIG}). Move one of them into a folder "
            f"of its own and name that."
        )
    try:
        settings = json.loads((directory / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        base, revision = settings["base_model_name_or_path"], settings.get("revision")
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise MissingError(f"{key}: {directory / ADAPTER_CONFIG} is damaged: {err!r}. Copy it again.") from err
    if not isinstance(base, str) or not base:
        raise MissingError(
            f"{key}: the adapter {name} does not say what its base model is. Write it as base_model_name_or_path into "
            f"{directory / ADAPTER_CONFIG}."
        )
    return base, revision


def merged_adapter(directory: Path, base_dir: Path, *, name: str, key: str) -> Path:
    """The directory of a whole model: the adapter in `directory` merged into the model in `base_dir`.

    name: the adapter as the user wrote it. Its tokenizer is taken where it has one, else the base model's. Raises
    MissingError when peft or the adapter's weights are not there.
    """
    weights = next((directory / file for file in ADAPTER_WEIGHTS if (directory / file).is_file()), None)
    if weights is None:
        raise MissingError(
            f"{key}: the adapter {name} has no {ADAPTER_WEIGHTS[0]}. Save it again with save_pretrained, or copy it "
            f"there."
        )
    digest = hashlib.sha256(weights_fingerprint(base_dir).encode())
    for path in (directory / ADAPTER_CONFIG, weights, *tokenizer_files(directory)):
        digest.update(path.read_bytes())
    target = cache_dir() / "merged" / digest.hexdigest()
    if not (target / "config.json").is_file():
        require_extra("peft", "lora", f"{name} is an adapter, and merging it")
        logger.info("%s is an adapter on %s: merged into it, in %s", name, as_written(base_dir), target)
        merged, unknown = _merge(weights, base_dir, name=name, key=key)
        _write(merged, unknown, target, tokenizer_dir=directory if tokenizer_files(directory) else base_dir)
    return target


def _merge(adapter: Path, base_dir: Path, *, name: str, key: str) -> tuple[Any, set[str]]:
    """The merged model, and those of its weights that are in no file. adapter: the file with the adapter's weights."""
    from peft import PeftModel, get_peft_model_state_dict

    try:
        model, unknown = _base_classifier(base_dir, adapter)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of names between the two libraries
            adapted = PeftModel.from_pretrained(model, str(adapter.parent))
        places = get_peft_model_state_dict(adapted, save_embedding_layers=False)  # "auto" asks the Hub
        _require_all_in_place(places.keys(), _tensors(adapter).keys())
        return adapted.merge_and_unload(), unknown
    except pickle.UnpicklingError as err:
        raise MissingError(
            f"{key}: {adapter} is damaged or holds more than tensors. Loading such a file could run code, so it was "
            f"not. Save the adapter again with save_pretrained, as {ADAPTER_WEIGHTS[0]}."
        ) from err
    except (RuntimeError, ValueError, TypeError, KeyError, OSError) as err:
        raise MissingError(
            f"{key}: the adapter {name} cannot be merged into {as_written(base_dir)}: {_reason(err)}. Merge it "
            f"where it was trained (merge_and_unload, save_pretrained), and name the result."
        ) from err


def _write(model: Any, unknown: set[str], target: Path, *, tokenizer_dir: Path) -> None:
    """Write the model with its tokenizer, in one piece, but for the unknown weights."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".merging-", dir=target.parent))
    try:
        weights = {name: value for name, value in model.state_dict().items() if name not in unknown}
        model.save_pretrained(aside, state_dict=weights)
        for path in tokenizer_files(tokenizer_dir):
            shutil.copyfile(path, aside / path.name)
        publish_directory(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _reason(err: Exception) -> str:
    if isinstance(err, KeyError):  # of peft, for a part of the head
        return f"{str(err.args[0]).removeprefix(SAVED_PREFIX)} has no place in it, so it belongs to another model"
    lines = [line.strip() for line in str(err).splitlines()]
    return lines[1] if len(lines) > 1 and lines[0].startswith("Error(s) in loading") else first_line(err)


def _require_all_in_place(places: Collection[str], saved: Collection[str]) -> None:
    """Raise ValueError for an adapter of another model: peft leaves out what has no place, with a warning."""
    misplaced = sorted(name for name in set(places).symmetric_difference(saved) if ".lora_" in name)
    if misplaced:
        what = "has no place in it" if misplaced[0] in saved else "is not in the adapter's file"
        raise ValueError(f"{misplaced[0].removeprefix(SAVED_PREFIX)} {what}, so it belongs to another model")


def _base_classifier(base_dir: Path, adapter: Path) -> tuple[PreTrainedModel, set[str]]:
    """The base model with a head of the adapter's classes, and the weights of that head which neither of them has."""
    config = read_config(base_dir)
    shapes = {name.removeprefix(SAVED_PREFIX): list(value.shape) for name, value in _tensors(adapter).items()}
    model, unfit = load_classifier(base_dir, config=config)
    own = {name: list(value.shape) for name, value in model.state_dict().items()}
    heads = [shape[0] for name, shape in shapes.items() if name in own and own[name] != shape and shape]
    if heads:
        config.num_labels = heads[0]
        model, unfit = load_classifier(base_dir, config=config)
    return model, unfit - shapes.keys()


def _tensors(file: Path) -> dict[str, Any]:
    """Raises UnpicklingError for a .bin file that holds more than tensors."""
    if file.suffix == ".safetensors":
        return load_file(file)
    tensors: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return tensors
