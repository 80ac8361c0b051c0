"""A config with other values, by dotted keys."""

from pathlib import Path

from finetune_cli.config.changes import changed
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config


def small_config(folder: Path) -> RunConfig:
    file = folder / "c.yaml"
    data = "data: {path: d, text: text, label: label, folds: 5}"
    file.write_text(f"task: classification\nmodel: {{name_or_path: m}}\n{data}\noutput_dir: run\n", encoding="utf-8")
    return load_config(file)


def test_values_of_any_depth_are_replaced_and_the_config_stays_as_it_was(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    before = config.model_dump()
    other = changed(config, {"seed": 7, "data.share": 0.5, "data.folds.fold": 2, "training.seeds": (1, 2)})
    assert (other.seed, other.data.share, other.training.seeds) == (7, 0.5, (1, 2))
    assert other.data.folds is not None
    assert (other.data.folds.n, other.data.folds.fold) == (5, 2)
    assert other.data.path == "d"
    assert config.model_dump() == before


def test_what_came_from_the_environment_is_still_known_as_that(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    config._references[("data", "path")] = ("d", "${PLACE}")
    assert changed(config, {"data.share": 0.5}).references == config.references
