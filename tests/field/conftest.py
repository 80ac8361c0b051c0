"""What people's files look like, rebuilt small: a config over given files, checked by the real command line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_cli.data.formats.row import good_rows, say_once
from finetune_cli.data.readers import read_rows
from tests.bad_inputs.in_process import Said, finetune, finish_a_run

TEXTS = ["the good film", "a bad meal", "this lovely book", "an awful song", "a great talk", "the sad room"]
WORDS = ["good", "bad", "good", "bad", "good", "bad"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture(autouse=True)
def said_anew() -> None:
    """What is said once in a process is said in each test."""
    say_once.cache_clear()


@pytest.fixture
def config(here: Path, tiny_bert: Path) -> Callable[..., Path]:
    """config(task="classification", **data) -> config.yaml in the working directory, data.text: text."""

    def write(task: str = "classification", /, **data: Any) -> Path:
        settings = {
            "task": task,
            "model": {"name_or_path": str(tiny_bert)},
            "data": {"path": "data", "text": "text", **data},
            "training": {"num_epochs": 1, "learning_rate": 1e-3},
            "output_dir": "run",
        }
        file = here / "config.yaml"
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return file

    return write


@pytest.fixture
def prepared(config: Callable[..., Path]) -> Callable[..., Said]:
    """prepared(task, *arguments, **data) -> what `finetune prepare --json` said of it."""

    def run(task: str = "classification", /, *arguments: str, **data: Any) -> Said:
        return finetune("prepare", config(task, **data), "--json", *arguments)

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, make_dataset: Callable[..., Path]) -> Path:
    """A directory with config.yaml, data/, model/ and run/, a finished run."""
    directory = tmp_path_factory.mktemp("field")
    shutil.copytree(tiny_bert, directory / "model")
    return finish_a_run(directory, directory / "model", make_dataset(directory / "data"))


def labels_of(said: Said, split: str = "train") -> dict[str, int]:
    """Rows of each class, as `prepare --json` counted them."""
    assert said.code == 0, said.stderr
    found: dict[str, int] = json.loads(said.stdout)["splits"][split]["labels"]
    return found


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def put_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    return put(path, "".join(json.dumps(row) + "\n" for row in rows))


def sentiment(labels: list[Any] = WORDS) -> list[dict[str, Any]]:
    return [{"text": text, "label": label} for text, label in zip(TEXTS, labels, strict=True)]


def rows_of(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [values for _, values in good_rows(read_rows(path, **options))]
