"""What an exported directory is made of and which runtime reads it; light, so that mistakes show at once.

The names are those of `optimum`: model.onnx, openvino_model.xml with its .bin, and the files of the tokenizer beside.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_cli.errors import ConfigError, MissingError
from finetune_cli.models.files import LONG_TEXTS_FILE, TOKENIZER_PATTERNS, weight_format
from finetune_cli.records.decision_rule import DECISION_FILE

MANIFEST = "export.json"
RUN_CONFIG = "finetune.yaml"  # not config.yaml, which would make the directory a run
BESIDE_WEIGHTS = ("config.json", *TOKENIZER_PATTERNS, DECISION_FILE, LONG_TEXTS_FILE)


@dataclass(frozen=True)
class Format:
    """weights: the files that hold the model, the one to load first. needs: packages to write and, the last, to run it;
    the extra that installs them has the format's name. no_int8: why there are no weights in 8 bits, and what to do."""

    weights: tuple[str, ...]
    needs: tuple[str, ...] = ()
    no_int8: str = ""


FORMATS = {
    "onnx": Format(("model.onnx",), ("onnx", "onnxruntime")),
    "openvino": Format(
        ("openvino_model.xml", "openvino_model.bin"),
        ("openvino",),
        no_int8="int8 is made by ONNX Runtime here. Take --format onnx --dtype int8.",
    ),
    "safetensors": Format(
        ("model.safetensors",),
        no_int8="transformers has no plain form of int8 weights. Take --format onnx --dtype int8.",
    ),
}
DTYPES = ("fp32", "fp16", "int8")


def check_form(file_format: str, dtype: str) -> None:
    """Raise ConfigError for a form that does not exist, MissingError when what writes it is not installed."""
    if file_format not in FORMATS:
        raise ConfigError(f"--format {file_format!r}: expected one of {', '.join(FORMATS)}.")
    if dtype not in DTYPES:
        raise ConfigError(f"--dtype {dtype!r}: expected one of {', '.join(DTYPES)}.")
    if dtype == "int8" and (reason := FORMATS[file_format].no_int8):
        raise ConfigError(f"--format {file_format} --dtype int8: {reason}")
    require_runtime(file_format, what=f"--format {file_format}")


def require_runtime(file_format: str, *, what: str, running_only: bool = False) -> None:
    """Raise MissingError that says what to install. running_only: to answer, not to write."""
    needed = FORMATS[file_format].needs
    needed = needed[-1:] if running_only else needed
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise MissingError(
            f"{what} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed here. "
            f"Install: pip install 'finetune-cli[{file_format}]', or from a checkout: pip install -c constraints.txt "
            f"'.[{file_format}]'"
        )


def companions(directory: Path) -> list[str]:
    """The files that belong beside the weights, from configuration to decision rule, those that are there."""
    return sorted({path.name for pattern in BESIDE_WEIGHTS for path in directory.glob(pattern) if path.is_file()})


def runtime_of(directory: Path) -> str | None:
    """The runtime format of a directory, "onnx" or "openvino"; None where transformers loads it, or nothing does.

    Weights of torch come first: authors add model.onnx beside them, and only those can be trained.
    """
    if weight_format(directory) is not None:
        return None
    files = files_of_runtimes(directory)
    return next((name for name, of in FORMATS.items() if of.weights[0] in files[:1]), None)


def files_of_runtimes(directory: Path) -> list[str]:
    """The models of runtimes that are there, by the file to load first."""
    return [of.weights[0] for of in FORMATS.values() if of.needs and (directory / of.weights[0]).is_file()]


def write_manifest(directory: Path, content: dict[str, Any], names: Iterable[str]) -> None:
    """What was exported and proven, with the checksum of each file that decides an answer."""
    files = {name: _checksum(directory / name) for name in names if (directory / name).is_file()}
    text = json.dumps({**content, "files": files}, indent=2, ensure_ascii=False) + "\n"
    (directory / MANIFEST).write_text(text, encoding="utf-8")


def require_unchanged(directory: Path) -> None:
    """Raise MissingError when a file of an exported directory is not the one that the proof was about.

    A directory that another tool exported has no manifest, and is taken as it is.
    """
    path = directory / MANIFEST
    if not path.is_file():
        return
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        expected = {str(name): str(checksum) for name, checksum in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise MissingError(f"{path} is damaged. {_AGAIN}") from err
    checksums = {name: _checksum(directory / name) if (directory / name).is_file() else "" for name in expected}
    added = [name for name in companions(directory) if name not in expected]
    if wrong := [name for name in expected if checksums[name] != expected[name]] + added:
        raise MissingError(f"{directory / wrong[0]} is not the file that the export was proven with. {_AGAIN}")


_AGAIN = "Export again: finetune export RUN OUT --format FORMAT"


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
