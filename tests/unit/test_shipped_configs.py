"""The configs that come with the project load as they stand, with other rows, and as they describe themselves."""

import re
from pathlib import Path

import pytest

from finetune_cli.config.dump import to_yaml
from finetune_cli.config.load import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NAMES = ("csv_example", "imdb", "mrpc", "mrpc_accelerate", "quickstart", "smoke", "sst2")


def test_no_config_is_left_out_of_these_tests() -> None:
    assert sorted(path.stem for path in CONFIGS.glob("*.yaml")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_loads_and_runs_elsewhere(name: str, tmp_path: Path) -> None:
    config = load_config(CONFIGS / f"{name}.yaml")
    assert config.output_dir == f"runs/{name}"
    resolved = tmp_path / "config.yaml"
    resolved.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(resolved) == config


@pytest.mark.parametrize("name", [name for name in NAMES if name != "smoke"])
def test_takes_other_rows_and_another_model(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.yaml", ["data.path=rows", "model.name_or_path=models/mine"])
    assert (config.data.path, config.data.name, config.model.name_or_path) == ("rows", None, "models/mine")


@pytest.mark.parametrize("name", NAMES)
def test_the_header_gives_the_command(name: str) -> None:
    header = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").split("\ntask:")[0]
    assert re.search(rf"^# Run: .*finetune (train|prepare) +configs/{name}.yaml", header, re.MULTILINE)
    assert "# Needs:" in header


def test_mrpc_has_the_settings_of_the_course() -> None:
    config = load_config(CONFIGS / "mrpc.yaml")
    training = config.training
    assert config.model.name_or_path == "bert-base-uncased"
    assert (training.batch_size, training.learning_rate, training.num_epochs) == (8, 5e-5, 3)
    assert (training.lr_scheduler, training.warmup_steps) == ("linear", 0)
    assert -(-3668 // training.batch_size) == 459  # MRPC's training pairs: the updates an epoch that the file names


def test_the_accelerate_config_uses_the_other_loop() -> None:
    training = load_config(CONFIGS / "mrpc_accelerate.yaml").training
    assert (training.loop, training.learning_rate) == ("accelerate", 3e-5)


def test_imdb_pads_to_max_length_for_one_epoch() -> None:
    config = load_config(CONFIGS / "imdb.yaml")
    assert (config.data.path, config.model.name_or_path) == ("stanfordnlp/imdb", "bert-base-cased")
    assert (config.data.padding, config.training.num_epochs) == ("max_length", 1)
    assert config.evaluation.metrics == ("accuracy",)
