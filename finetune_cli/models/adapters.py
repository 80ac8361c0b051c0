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

from finetune_cli.errors import MissingError, first_line
from finetune_cli.models.files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    TOKENIZER_PATTERNS,
    as_written,
    resolve_model,
    tokenizer_files,
    weight_format,
    weights_fingerprint,
)
from finetune_cli.models.lora import require_peft
from finetune_cli.system.files import publish_directory
from finetune_cli.system.places import cache_dir

logger = logging.getLogger(__name__)

SAVED_PREFIX = "base_model.model."  # of peft's names


def merged_adapter(directory: Path, name: str, *, offline: bool, key: str) -> Path:
    """The directory of a whole model: the adapter in `directory` merged into the base model that it names.

    name: the adapter as the user wrote it. Its tokenizer is taken where it has one, else the base model's. Raises
    MissingError when the base model, peft or the adapter's weights are not there.
    """
    base, revision = _base_model(directory, name, key)
    base_dir = _resolve_base(base, revision, name, offline=offline, key=key)
    weights = next((directory / one for one in ADAPTER_WEIGHTS if (directory / one).is_file()), None)
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
        require_peft(f"{name} is an adapter, and merging it")
        logger.info("%s is an adapter on %s: merged into it, in %s", name, base, target)
        _merge(weights, base_dir, target, name=name, key=key)
    return target


def _base_model(directory: Path, name: str, key: str) -> tuple[str, str | None]:
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


def _resolve_base(base: str, revision: str | None, name: str, *, offline: bool, key: str) -> Path:
    try:
        local = Path(base).is_dir()
        return resolve_model(base, revision=None if local else revision, offline=offline, key=key)
    except MissingError as err:
        which = f"{base!r}, revision {revision}" if revision else repr(base)
        raise MissingError(
            f"{key}: {name} is an adapter on {which}, which is not there: {err} Its place can be changed: "
            f"base_model_name_or_path in {ADAPTER_CONFIG}."
        ) from err


def _merge(adapter: Path, base_dir: Path, target: Path, *, name: str, key: str) -> None:
    """adapter: the file with its weights."""
    from peft import PeftModel, get_peft_model_state_dict

    directory = adapter.parent
    try:
        model, untrained = _base_classifier(base_dir, adapter)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of names between the two libraries
            adapted = PeftModel.from_pretrained(model, str(directory))
        places = get_peft_model_state_dict(adapted, save_embedding_layers=False)  # "auto" asks the Hub
        _require_all_in_place(places.keys(), _tensors(adapter).keys())
        merged = adapted.merge_and_unload()
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
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".merging-", dir=target.parent))
    try:
        weights = {part: value for part, value in merged.state_dict().items() if part not in untrained}
        merged.save_pretrained(aside, state_dict=weights)
        source = directory if len(tokenizer_files(directory)) > 0 else base_dir
        for pattern in TOKENIZER_PATTERNS:
            for path in source.glob(pattern):
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
    other = sorted(name for name in set(places).symmetric_difference(saved) if ".lora_" in name)
    if other:
        what = "has no place in it" if other[0] in saved else "is not in the adapter's file"
        raise ValueError(f"{other[0].removeprefix(SAVED_PREFIX)} {what}, so it belongs to another model")


def _base_classifier(base_dir: Path, adapter: Path) -> tuple[Any, set[str]]:
    """The base model with a head of the adapter's classes, and the weights of that head which neither of them has."""
    from transformers import AutoModelForSequenceClassification

    from finetune_cli.models.building import load_plain
    from finetune_cli.models.facts import read_config

    config = read_config(base_dir)
    shapes = {part.removeprefix(SAVED_PREFIX): list(value.shape) for part, value in _tensors(adapter).items()}
    model, info = load_plain(AutoModelForSequenceClassification, base_dir, config=config)
    own = {part: list(value.shape) for part, value in model.state_dict().items()}
    other = [shape[0] for part, shape in shapes.items() if part in own and own[part] != shape and shape]
    if other:
        config.num_labels = other[0]
        model, info = load_plain(AutoModelForSequenceClassification, base_dir, config=config)
    mismatched = {entry[0] if isinstance(entry, tuple) else entry for entry in info["mismatched_keys"]}
    return model, ({*info["missing_keys"]} | mismatched) - shapes.keys()


def _tensors(file: Path) -> dict[str, Any]:
    """Raises UnpicklingError for a .bin file that holds more than tensors."""
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    import torch

    found: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return found
