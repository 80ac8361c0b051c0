"""Runs that are hurt from outside: the harness of scripts/faults/faults.py, small."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.faults.files import outcome
from scripts.faults.runs import SmallRun


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The outcome of the small run (Trainer loop, one process) that nobody hurts, and the cache that it filled."""
    run = SmallRun(tmp_path_factory.mktemp("undisturbed"), epochs=1)
    ended = run.complete()
    assert ended.code == 0, ended.output
    assert run.complaints == []
    return outcome(run.run), run.folder / "cache"


@pytest.fixture
def small_run(tmp_path: Path, undisturbed: tuple[dict[str, Any], Path]) -> Callable[..., SmallRun]:
    """small_run(**options) -> a run of one epoch, 15 updates, in a folder of its own, with its rows tokenised."""

    def make(**options: Any) -> SmallRun:
        return SmallRun(tmp_path, epochs=1, **{"cache": undisturbed[1], **options})

    return make
