"""One finished run that the tests of bad inputs point at and must not change."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.bad_inputs.in_process import finetune


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, make_dataset: Callable[..., Path]) -> Path:
    """A directory with config.yaml, data/ and run/, the finished run of a two-class model on one text column."""
    directory = tmp_path_factory.mktemp("finished")
    settings = {
        "task": "sst2",
        "model": {"name_or_path": str(tiny_bert)},
        "data": {"path": str(make_dataset(directory / "data"))},
        "training": {"num_epochs": 1, "batch_size": 16, "learning_rate": 1e-3},
        "evaluation": {"bootstrap": {"samples": 50}},
        "output_dir": str(directory / "run"),
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    said = finetune("train", directory / "config.yaml", env={"FINETUNE_CACHE": str(directory / "cache")})
    assert said.code == 0, said.stderr
    return directory
