"""`base:` in a config: files laid over one another, and every mistake at the line of the file it stands in."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_cli.config.dump import to_yaml
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError

COMMON = """\
model: {name_or_path: bert-base-uncased, dropout: 0.2}
data: {path: rows, text: body}
training:
  learning_rate: 1e-5
  batch_size: 32
evaluation: {metrics: [accuracy, matthews]}
"""


def write(folder: Path, **files: str) -> Path:
    """Files by the names of the arguments; returns main.yaml."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / "main.yaml"


def mistakes(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides)
    return [str(problem) for problem in error.value.problems]


def test_the_file_has_the_last_word_key_by_key(tmp_path: Path) -> None:
    main = write(tmp_path, common=COMMON, main="base: common.yaml\ntask: classification\ntraining: {batch_size: 8}\n")
    config = load_config(main, ["training.num_epochs=1"])
    assert (config.training.batch_size, config.training.learning_rate, config.training.num_epochs) == (8, 1e-5, 1)
    assert (config.data.text, config.model.dropout) == (("body",), 0.2)
    assert config.evaluation.metrics == ("accuracy", "matthews")


def test_several_levels_in_several_folders(tmp_path: Path) -> None:
    write(tmp_path / "shared", common=COMMON)
    write(tmp_path / "team", team="base: ../shared/common.yaml\ntask: classification\nseed: 7\noutput_dir: runs/team\n")
    main = write(tmp_path / "mine", main="base: ../team/team.yaml\noutput_dir: runs/mine\n")
    config = load_config(main)
    assert (config.seed, config.output_dir, config.training.batch_size) == (7, "runs/mine", 32)


def test_null_takes_back_what_the_base_says(tmp_path: Path) -> None:
    main = write(tmp_path, common=COMMON, main="base: common.yaml\ntask: classification\nmodel: {dropout: null}\n")
    assert load_config(main).model.dropout is None


def test_a_section_with_nothing_in_it_says_nothing(tmp_path: Path) -> None:
    main = write(
        tmp_path, common=COMMON, main="base: common.yaml\ntask: classification\ntraining:\n  # batch_size: 1\n"
    )
    assert load_config(main).training.batch_size == 32


def test_lists_are_replaced_whole(tmp_path: Path) -> None:
    text = "base: common.yaml\ntask: classification\nevaluation: {metrics: [f1_macro]}\n"
    assert load_config(write(tmp_path, common=COMMON, main=text)).evaluation.metrics == ("f1_macro",)


def test_the_task_of_the_base_fills_in_data_and_metrics(tmp_path: Path) -> None:
    main = write(tmp_path, common="task: mrpc\n", main="base: common.yaml\nmodel: {name_or_path: m}\n")
    config = load_config(main)
    assert (config.data.text, config.evaluation.metric_for_best) == (("sentence1", "sentence2"), "f1")


def test_a_saved_config_stands_alone(tmp_path: Path) -> None:
    main = write(tmp_path, common=COMMON, main="base: common.yaml\ntask: classification\n")
    saved = tmp_path / "saved" / "config.yaml"
    saved.parent.mkdir()
    saved.write_text(to_yaml(load_config(main)), encoding="utf-8")
    assert "base:" not in saved.read_text(encoding="utf-8")
    assert load_config(saved) == load_config(main)


def test_mistakes_stand_where_they_were_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(
        Path("."),
        common="training:\n  batch_size: 0\n  lerning_rate: 1\ndata: {path: d, text: t}\nseed: 1\nseed: 2\n",
        main="base: common.yaml\ntask: classification\nmodel: {name_or_path: m}\ntraining:\n  warmup_steps: -1\n",
    )
    found = mistakes(Path("main.yaml"), "training.num_epochs=0")
    assert [line.partition("  ")[0] for line in found] == [
        "main.yaml:5:17",
        "common.yaml:2:15",
        "common.yaml:3:3",
        "common.yaml:6:1",
        "--set training.num_epochs=0",
    ]


def test_a_rule_between_two_files_names_the_place_of_the_value_that_is_wrong(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        common=f"{COMMON}  \n",
        main="base: common.yaml\ntask: classification\ntraining: {micro_batch_size: 64}\n",
    )
    assert [line.partition("  ")[0] for line in mistakes(main)] == [f"{main}:3:30"]
    main = write(tmp_path, common=COMMON, main="base: common.yaml\ntask: regression\n")
    assert {line.partition(":")[0] for line in mistakes(main)} == {str(tmp_path / "common.yaml")}


def test_what_a_file_replaces_is_no_mistake(tmp_path: Path) -> None:
    main = write(tmp_path, common=f"{COMMON}seed: x\n", main="base: common.yaml\ntask: classification\nseed: 3\n")
    assert load_config(main).seed == 3


@pytest.mark.parametrize(
    ("main", "message"),
    [
        ("base: nowhere.yaml\ntask: mrpc\n", "no such file"),
        ("base: comon.yaml\ntask: mrpc\n", "Did you mean"),
        ("base: .\ntask: mrpc\n", "is a directory"),
        ("base: [common.yaml]\ntask: mrpc\n", "expected one file"),
        ("base:\ntask: mrpc\n", "expected one file"),
        ("base: main.yaml\ntask: mrpc\n", "builds on itself"),
    ],
)
def test_a_base_that_cannot_be_had_is_one_mistake_at_its_line(main: str, message: str, tmp_path: Path) -> None:
    found = mistakes(write(tmp_path, common=COMMON, main=main))
    assert len(found) == 1
    assert found[0].startswith(f"{tmp_path / 'main.yaml'}:1:")
    assert message in found[0]


def test_a_circle_is_refused_with_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("."), main="base: b.yaml\ntask: mrpc\n", b="base: ./c.yaml\n", c="base: main.yaml\n")
    assert mistakes(Path("main.yaml")) == [
        "c.yaml:1:7  base: builds on itself: main.yaml -> b.yaml -> c.yaml -> main.yaml. Take one of these out"
    ]


def test_broken_yaml_in_a_base_is_shown_with_the_other_mistakes(tmp_path: Path) -> None:
    main = write(tmp_path, common="model: [\n", main="base: common.yaml\ntask: mrpc\nseed: x\n")
    found = mistakes(main)
    assert [line.partition("  ")[0].rpartition("/")[2] for line in found] == ["main.yaml:3:7", "common.yaml:2:1"]


def test_a_base_is_no_setting(tmp_path: Path) -> None:
    main = write(tmp_path, common=COMMON, main="task: mrpc\nmodel: {name_or_path: m}\n")
    assert "is read in a file alone" in mistakes(main, "base=common.yaml")[0]


def test_a_secret_in_a_base_is_refused_there(tmp_path: Path) -> None:
    token = "hf_" + "a" * 30
    main = write(tmp_path, common=f"model: {{name_or_path: {token}}}\n", main="base: common.yaml\ntask: mrpc\n")
    found = mistakes(main)
    assert len(found) == 1
    assert found[0].startswith(f"{tmp_path / 'common.yaml'}:1:23")
    assert token not in found[0]
