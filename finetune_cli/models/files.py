"""Where a model's files are, and what they say before any of it is loaded: fingerprints, limits, the padding token."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_cli.errors import ConfigError, MissingError, first_line
from finetune_cli.system.places import in_home

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PACKAGE_PREFIX = "package:"
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
READ_BYTES = 2**20

_written: dict[Path, str] = {}  # what the user called a directory that is somewhere in a cache or a package


def as_written(directory: Path) -> str:
    """The model in this directory as the user named it, for messages."""
    return _written.get(directory, str(directory))


def resolve_model(
    name_or_path: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    weights: bool = True,
    code: bool = False,
    key: str = "model.name_or_path",
) -> Path:
    """The local directory that holds a model's files; a Hub model is downloaded (or found in the cache) first.

    name_or_path: a directory, `package:NAME/FOLDER` (a folder inside an installed package, whose code is not run), or a
    Hub id. weights: also require its weights; without it the configuration and tokenizer files are enough.
    code: also fetch the Python files of a Hub model. key: what names the model, for messages. An adapter (LoRA, as peft
    saves it) is merged into its base model once, and the result's directory in the cache is given back.
    Raises MissingError when something is not there, with what to type next.
    """
    from finetune_cli.models.download import download

    directory = _directory_here(name_or_path, key)
    if directory is not None and revision is not None:
        raise ConfigError(f"model.revision: {name_or_path} is a directory, which has no revisions. Take it out.")
    if directory is None:
        directory = download(name_or_path, key, revision=revision, offline=offline, weights=weights, code=code)
        if not weights and (directory / ADAPTER_CONFIG).is_file():  # its own weights are needed to merge it
            directory = download(name_or_path, key, revision=revision, offline=offline, weights=True, code=code)
    directory = inner_model(directory)
    if (directory / ADAPTER_CONFIG).is_file():
        from finetune_cli.models.adapters import merged_adapter

        directory = merged_adapter(directory, name_or_path, offline=offline, key=key)
    _written[directory] = name_or_path
    _require_files(directory, key, weights=weights)
    return directory


def require_present(name_or_path: str, *, key: str = "model.name_or_path") -> None:
    """Raise MissingError for a model that is here, or should be, and lacks a file; one of the Hub is not looked for.

    An export has weights of another form, and is not looked into either.
    """
    from finetune_cli.models.runtimes import runtime_of

    directory = _directory_here(name_or_path, key)
    if directory is None or runtime_of(directory) is not None:
        return
    directory = inner_model(directory)
    _written[directory] = name_or_path
    if not (directory / ADAPTER_CONFIG).is_file():
        _require_files(directory, key, weights=True)
        require_tokenizer(directory)


def looks_like_model(directory: Path) -> bool:
    """Whether a directory has one of the files that a model, or an adapter, has."""
    return any((directory / name).is_file() for name in ("config.json", "modules.json", ADAPTER_CONFIG))


def _directory_here(name: str, key: str) -> Path | None:
    """The directory that a name stands for; None for a Hub id. Raises MissingError for a place that is not there."""
    if name.startswith(PACKAGE_PREFIX):
        return _package_folder(name, key)
    if name.startswith("~"):
        name = str(in_home(name))
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise MissingError(f"{key}: there is no directory {name!r}. Check the path.")
    return None


def _require_files(directory: Path, key: str, *, weights: bool) -> None:
    if not (directory / "config.json").is_file():
        raise MissingError(f"{key}: {_without_config(directory, as_written(directory))}")
    if weights:
        require_weights(directory)


def inner_model(directory: Path) -> Path:
    """Where the model itself is: old folders of sentence-transformers keep it in one of their own."""
    if (directory / "config.json").is_file() or not (directory / "modules.json").is_file():
        return directory
    modules = read_json(directory / "modules.json", kind=list)
    inner = [directory / str(module.get("path", "")) for module in modules if isinstance(module, dict)]
    return next((folder for folder in inner if (folder / "config.json").is_file()), directory)


def _without_config(directory: Path, name: str) -> str:
    if (directory / "config.yaml").is_file() and (directory / "model" / "config.json").is_file():
        return f"{name} is a run; its model is one folder further in. Name that: {Path(name) / 'model'}"
    return (
        f"{name} has no config.json, so it is not a model directory. Expected config.json, model.safetensors and "
        f"tokenizer files, as save_pretrained writes them."
    )


def _package_folder(name: str, key: str) -> Path:
    package, _, folder = name.removeprefix(PACKAGE_PREFIX).partition("/")
    try:
        spec = importlib.util.find_spec(package)  # finds the package without importing it
    except (ImportError, ValueError):  # of `a.b` it imports a
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise MissingError(
            f"{key}: {name!r} needs the Python package {package!r}, which is not installed here. "
            f"Install it, or name a Hub id or a directory."
        )
    directory = Path(next(iter(spec.submodule_search_locations))) / folder
    if not directory.is_dir():
        raise MissingError(f"{key}: the package {package!r} has no folder {folder!r}.")
    return directory


def require_weights(directory: Path) -> None:
    """Raise MissingError when the weights, or one of their parts, are not there."""
    found = weight_format(directory)
    if found is not None:
        _require_parts(directory, *(SAFE_WEIGHTS if found == "safetensors" else PICKLED_WEIGHTS))
        return
    others = [path.name for pattern in ("*.h5", "*.msgpack", "*.gguf", "*.onnx") for path in directory.glob(pattern)]
    found = f"; found {others[0]}, which is for another library" if others else ""
    raise MissingError(
        f"{as_written(directory)} has no weights: expected {' or '.join((*SAFE_WEIGHTS, PICKLED_WEIGHTS[0]))}{found}. "
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
    found = {path for pattern in TOKENIZER_PATTERNS for path in directory.glob(pattern) if path.is_file()}
    return sorted(found)


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
    own = read_json(directory / "tokenizer_config.json").get("tokenizer_class")
    kind = read_json(directory / "config.json").get("model_type")
    if own in WITHOUT_VOCABULARY or (kind and kind in WITHOUT_VOCABULARY.values()):
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
            while block := file.read(READ_BYTES):
                digest.update(block)
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


def pad_token_id(directory: Path) -> int:
    """The number of the padding token of a tokenizer that `save_tokenizer` wrote to `directory`."""
    token = read_json(directory / "tokenizer_config.json").get("pad_token")
    content = token.get("content") if isinstance(token, dict) else token
    number = _open_vocabulary(directory).token_to_id(content) if content else None
    if number is None:
        raise MissingError(f"The tokenizer in {directory} has no padding token any more. Delete that directory.")
    return int(number)


def padding_side(directory: Path) -> str:
    """On which side rows are padded, by a tokenizer that `save_tokenizer` wrote: "right" or "left"."""
    return str(read_json(directory / "tokenizer_config.json").get("padding_side", "right"))


def vocabulary_size(directory: Path) -> int:
    """Entries of the tokenizer saved in `directory`, added tokens included."""
    return int(_open_vocabulary(directory).get_vocab_size())


def _open_vocabulary(directory: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    path = directory / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as err:  # the library raises nothing narrower
        raise MissingError(f"{path} cannot be loaded: {first_line(err)}. Download or copy the model again.") from err
