"""Reads a config file as text, and prepares text for messages: short, and without secrets."""

import re
from collections.abc import Mapping
from pathlib import Path

from yaml.reader import Reader

from finetune_cli.config.shipped import YAML_ENDINGS
from finetune_cli.errors import ConfigError, Problem, did_you_mean

MAX_BYTES = 1_000_000

# A Hub token, or a password inside an address. What matches is never repeated in a message.
SECRET = re.compile(r"hf_[A-Za-z0-9]{20,}|://[^/\s:@]*:[^/\s@]+@")
SECRET_MESSAGE = (
    "this looks like a token or a password, and a config is no place for one. Take it out (and revoke it if the file "
    "was shared); a Hub token is read from HF_TOKEN or from `hf auth login`"
)


def shorten(text: str, limit: int = 40) -> str:
    """A value as a message quotes it: one line, not too long, secrets left out."""
    line = " ".join(hide_secrets(text).split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def hide_secrets(text: str) -> str:
    """The text with every token and password replaced."""
    return SECRET.sub("<hidden>", text)


def by_word(table: Mapping[str, str]) -> dict[str, str]:
    """A table of value -> words with blanks between them, as word -> value: for many words that share a value."""
    return {word: value for value, words in table.items() for word in words.split()}


def read_text(path: Path) -> str:
    """The text of a config file. ConfigError: not there, not a regular file, too large, not UTF-8."""
    return _decode(_read_bytes(path), str(path))


def is_run_config(path: Path) -> bool:
    """Whether a YAML file looks like a run config, by the keys at its top; quick, and without parsing it.

    A file that is no text is none; one that is not there counts as one, so that this is shown.
    """
    try:
        text = read_text(path)
    except ConfigError:
        return not path.is_file()
    keys = set(re.findall(r"^([a-z_]+)[ \t]*:", text, re.MULTILINE))
    return bool(keys & {"task", "base"}) and bool(keys & {"model", "data", "training", "evaluation", "output_dir"})


def single_problem(source: Path | str, message: str, line: int | None = None, column: int | None = None) -> ConfigError:
    """The error for a mistake after which nothing else can be checked."""
    problem = Problem(str(source), line, column, "", message)
    return ConfigError(str(problem), (problem,))


def _read_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise single_problem(path, "is a directory. Allowed: a YAML file, such as configs/mrpc.yaml")
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise single_problem(path, "is not a regular file. Allowed: a YAML file")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise single_problem(path, f"no such file.{similar_file(path)}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise single_problem(path, f"cannot be read ({reason}).") from error
    if len(data) > MAX_BYTES:
        raise single_problem(path, f"larger than {MAX_BYTES:,} bytes; this is not a config. Is it a data file?")
    return data


def similar_file(path: Path) -> str:
    """The YAML file whose name is nearest, as a hint that begins with a blank; empty where none is near."""
    try:
        names = [other.name for other in path.parent.iterdir() if other.suffix in YAML_ENDINGS]
    except OSError:
        return f" The directory {path.parent} cannot be read either."
    return did_you_mean(path.name, names, shown=path.parent.joinpath)


def _decode(data: bytes, source: str) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise single_problem(source, "the file is UTF-16 (offset 0). Allowed: UTF-8; save it as UTF-8", 1, 1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = len(data[data.rfind(b"\n", 0, error.start) + 1 : error.start].decode("utf-8", "replace")) + 1
        problem = f"byte 0x{data[error.start]:02X} at offset {error.start} is not UTF-8"
        raise single_problem(source, f"{problem}. Allowed: UTF-8; save the file as UTF-8", line, column) from error
    bad = Reader.NON_PRINTABLE.search(text)
    if bad:
        start = text.rfind("\n", 0, bad.start()) + 1
        name = "a NUL byte" if bad.group() == "\0" else f"the control character U+{ord(bad.group()):04X}"
        line = text.count("\n", 0, bad.start()) + 1
        message = f"{name} at offset {bad.start()}. Allowed: plain text in UTF-8"
        raise single_problem(source, message, line, bad.start() - start + 1)
    return text
