"""One small config with odd row counts, and what one notebook session leaves of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.launch.launch_runs import ENDED, HERE, SETTINGS, TRAINING_ROWS, Ended, start


@dataclass(frozen=True)
class Session:
    """folder/LOOP-1, folder/LOOP-2, folder/LOOP-stopped and folder/scores-N; `ended`: what each launcher raised."""

    folder: Path
    config: Path
    cache: Path
    process: Ended
    ended: dict[str, Any]


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, make_dataset: Callable[..., Path]) -> Session:
    folder = tmp_path_factory.mktemp("launch")
    settings = {
        **SETTINGS,
        "task": "sst2",
        "model": {**SETTINGS["model"], "name_or_path": str(tiny_bert)},
        "data": {"path": str(make_dataset(folder / "data", rows=TRAINING_ROWS))},
        "output_dir": str(folder / "run"),
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    done = start([HERE / "notebook_session.py", config], cwd=folder, cache=folder / "cache").finish()
    assert (folder / ENDED).exists(), done.output
    return Session(folder, config, folder / "cache", done, json.loads((folder / ENDED).read_text(encoding="utf-8")))
