"""One finished run that the tests of bad inputs point at and must not change."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bad_inputs.in_process import finish_a_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, make_dataset: Callable[..., Path]) -> Path:
    """A directory with config.yaml, data/ and run/, the finished run of a two-class model on one text column."""
    directory = tmp_path_factory.mktemp("finished")
    return finish_a_run(directory, tiny_bert, make_dataset(directory / "data"))
