"""The real command line inside the test's process: everything but a new interpreter, and a hundred times faster."""

import io
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from finetune_cli.cli.app import main
from finetune_cli.display.logs import NO_PROGRESS_BARS, QUIET_LIBRARIES
from tests.conftest import log_put_back


@dataclass(frozen=True)
class Said:
    """What a command returned, and what it wrote to its two streams."""

    code: int
    stdout: str
    stderr: str


def finetune(*arguments: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Said:
    """`finetune ARGUMENTS`; leaves streams, environment, warnings and loggers as they were."""
    stdout, stderr = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True), io.StringIO()
    with log_put_back(), pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        for name, value in {**QUIET_LIBRARIES, **NO_PROGRESS_BARS, **(env or {})}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["finetune", *map(str, arguments)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "stderr", stderr)
        code = main()
    return Said(int(code), stdout.buffer.getvalue().decode(), stderr.getvalue())  # type: ignore[attr-defined]


def refused(said: Said, code: int, *fragments: str) -> None:
    """The command ended with `code`, wrote no result, and said each fragment in a message of its own making."""
    assert said.code == code, said.stderr
    assert said.stdout == ""
    assert "Traceback" not in said.stderr
    assert "error: " in said.stderr
    for fragment in fragments:
        assert fragment in said.stderr


def files(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a directory with its time and content: equal when nothing was touched."""
    found = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): (os.stat(path).st_mtime_ns, path.read_bytes()) for path in found}


def finish_a_run(directory: Path, model: Path, data: Path) -> Path:
    """The directory, with config.yaml and run/, the finished run of two classes on one text column."""
    settings = {
        "task": "sst2",
        "model": {"name_or_path": str(model)},
        "data": {"path": str(data)},
        "training": {"num_epochs": 1, "batch_size": 16, "learning_rate": 1e-3},
        "evaluation": {"bootstrap": {"samples": 50}},
        "output_dir": str(directory / "run"),
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    said = finetune("train", directory / "config.yaml", env={"FINETUNE_CACHE": str(directory / "cache")})
    assert said.code == 0, said.stderr
    return directory
