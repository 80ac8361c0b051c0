"""The files of a model, by name: which there may be, which must be there, and what they say before they are loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from finetune_cli.errors import MissingError

# Every name under which transformers looks for a tokenizer: vocabularies, merges, SentencePiece and tiktoken models.
TOKENIZER_PATTERNS = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "bpe.codes",
    "*.model",
    "source.spm",
    "target.spm",
)
# Tokenizers that need no file, with the type of their models where it is theirs alone.
WITHOUT_VOCABULARY = {"CanineTokenizer": "canine", "PerceiverTokenizer": "perceiver", "ByT5Tokenizer": None}
LONG_TEXTS_FILE = "long_texts.json"  # how rows longer than the model are read, where they are not just cut
SAFE_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLED_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# Their parts. Not model*.safetensors: a repository may have model.fp16.safetensors and the like, too.
SAFE_PARTS, PICKLED_PARTS = "model-*-of-*.safetensors", "pytorch_model-*-of-*.bin"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")  # the first that is there counts

_written: dict[Path, str] = {}  # what the user called a directory that is somewhere in a cache or a package


def note_as_written(directory: Path, name: str) -> None:
    """Remember what the user called the model in this directory."""
    _written[directory] = name


def as_written(directory: Path) -> str:
    """The model in this directory as the user named it, for messages."""
    return _written.get(directory, str(directory))


def looks_like_model(directory: Path) -> bool:
    """Whether a directory has one of the files that a model, or an adapter, has."""
    return any((directory / name).is_file() for name in ("config.json", "modules.json", ADAPTER_CONFIG))


def inner_model(directory: Path) -> Path:
    """Where the model itself is: old folders of sentence-transformers keep it in one of their own."""
    if (directory / "config.json").is_file() or not (directory / "modules.json").is_file():
        return directory
    modules = read_json(directory / "modules.json", kind=list)
    inner = [directory / str(module.get("path", "")) for module in modules if isinstance(module, dict)]
    return next((folder for folder in inner if (folder / "config.json").is_file()), directory)


def require_weights(directory: Path) -> None:
    """Raise MissingError when the weights, or one of their parts, are not there."""
    if (kind := weight_format(directory)) is not None:
        _require_parts(directory, *(SAFE_WEIGHTS if kind == "safetensors" else PICKLED_WEIGHTS))
        return
    others = [path.name for pattern in ("*.h5", "*.msgpack", "*.gguf", "*.onnx") for path in directory.glob(pattern)]
    other = f"; found {others[0]}, which is for another library" if others else ""
    raise MissingError(
        f"{as_written(directory)} has no weights: expected {' or '.join((*SAFE_WEIGHTS, PICKLED_WEIGHTS[0]))}{other}. "
        f"Copy them there too, or save the model again with save_pretrained."
    )


def _require_parts(directory: Path, whole: str, index: str) -> None:
    if (directory / whole).is_file():
        return
    places = read_json(directory / index).get("weight_map")
    names = set(places.values()) if isinstance(places, dict) else set()
    if missing := sorted(str(name) for name in names if not (directory / str(name)).is_file()):
        raise MissingError(
            f"{as_written(directory)} lacks {len(missing)} of the {len(names)} files of its weights, first "
            f"{missing[0]}, which {index} names. Copy or download it again."
        )


def weight_format(directory: Path) -> str | None:
    """Which weights are taken: "safetensors" where they are there, else "bin", as torch.save writes them, else None."""
    if any((directory / name).is_file() for name in SAFE_WEIGHTS):
        return "safetensors"
    return "bin" if any((directory / name).is_file() for name in PICKLED_WEIGHTS) else None


def tokenizer_files(directory: Path) -> list[Path]:
    """The files of a tokenizer that are there."""
    return sorted({path for pattern in TOKENIZER_PATTERNS for path in directory.glob(pattern) if path.is_file()})


def require_tokenizer(directory: Path) -> list[str]:
    """The names of the tokenizer's files. Raises MissingError when there is none."""
    names = [path.name for path in tokenizer_files(directory) if path.name != "tokenizer_config.json"]
    if not names:
        _require_vocabulary(directory)
        raise MissingError(
            f"{as_written(directory)} has no tokenizer: expected tokenizer.json (or vocab.txt, spm.model, or another "
            f"tokenizer file). Save it beside the model with tokenizer.save_pretrained({str(directory)!r})."
        )
    return names


def _require_vocabulary(directory: Path) -> None:
    tokenizer_class = read_json(directory / "tokenizer_config.json").get("tokenizer_class")
    model_type = read_json(directory / "config.json").get("model_type")
    if tokenizer_class in WITHOUT_VOCABULARY or (model_type and model_type in WITHOUT_VOCABULARY.values()):
        raise MissingError(
            f"The tokenizer of {as_written(directory)} takes bytes or characters as they are and has no fast version, "
            f"which this tool needs. Choose another model."
        )


def weights_fingerprint(directory: Path) -> str:
    """SHA-256 over the model's configuration and weights, which decide where training starts."""
    digest = hashlib.sha256()
    safe = weight_format(directory) == "safetensors"
    single, parts = (SAFE_WEIGHTS[0], SAFE_PARTS) if safe else (PICKLED_WEIGHTS[0], PICKLED_PARTS)
    for path in (directory / "config.json", *sorted([*directory.glob(single), *directory.glob(parts)])):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def read_json(path: Path, kind: type = dict) -> Any:
    """What a JSON file of a model holds, an object or a list; an empty one for a file that is not there.

    Raises MissingError, which says where it is damaged.
    """
    if not path.is_file():
        return kind()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as err:
        raise MissingError(f"{path} is damaged: {err}. Download or copy the model again.") from err
    if not isinstance(content, kind):
        expected = "object" if kind is dict else "list"
        raise MissingError(f"{path} is damaged: expected a JSON {expected}. Download or copy the model again.")
    return content
