"""`${NAME}` in a config: filled in from the environment, and secrets kept out of what is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_cli.config.dump import config_diff, leaves, to_yaml
from finetune_cli.config.load import check_text, load_config
from finetune_cli.errors import ConfigError

LEAST = "task: mrpc\nmodel: {name_or_path: m}\n"


def value(written: str, key: str = "output_dir", **environ: str) -> Any:
    config = check_text(f"{LEAST}{key}: {written}\n", "c.yaml", environ=environ)
    return getattr(config, key)


def mistake(text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as error:
        check_text(text, "c.yaml", environ=environ)
    assert len(error.value.problems) == 1
    return str(error.value.problems[0])


@pytest.mark.parametrize(
    ("written", "environ", "expected"),
    [
        ("${HERE}", {"HERE": "runs/a"}, "runs/a"),
        ("runs/${USER}/${N}", {"USER": "me", "N": "1"}, "runs/me/1"),
        ("'${HERE}'", {"HERE": "runs/a"}, "runs/a"),
        ("${HERE:-runs/b}", {}, "runs/b"),
        ("${HERE:-runs/b}", {"HERE": ""}, "runs/b"),
        ("${HERE:-runs/b}", {"HERE": "x"}, "x"),
        ("x${HERE:-}", {}, "x"),
        ("$${HERE}", {"HERE": "x"}, "${HERE}"),
        ("a$HERE", {"HERE": "x"}, "a$HERE"),
        ("${HERE}", {"HERE": "a: [b, ${OTHER}] # c"}, "a: [b, ${OTHER}] # c"),
        ("${HERE}", {"HERE": "2024"}, "2024"),
        ("${HERE}", {"HERE": "true"}, "true"),
        ('"${HERE}"', {"HERE": "5e-5"}, "5e-5"),
    ],
)
def test_variables_in_a_text(written: str, environ: dict[str, str], expected: str) -> None:
    assert value(written, **environ) == expected


@pytest.mark.parametrize("written", ["${N}", '"${N}"', "${N:-3}"])
def test_numbers_and_flags(written: str) -> None:
    assert value(written, "seed", N="7") == 7
    config = check_text(
        f"{LEAST}training: {{packing: '${{P}}', learning_rate: '${{L}}'}}\n", "c", environ={"P": "true", "L": "1e-4"}
    )
    assert (config.training.packing, config.training.learning_rate) == (True, 1e-4)


def test_a_share_of_train_is_a_number_and_a_file_is_a_text() -> None:
    text = LEAST + "data:\n  splits:\n    validation: ${V}\n    test: ${T}\n"
    assert check_text(text, "c", environ={"V": "0.1", "T": "t.csv"}).data.splits == {"validation": 0.1, "test": "t.csv"}


def test_in_lists_and_in_set() -> None:
    config = check_text(
        LEAST + "evaluation:\n  gates: ['f1>=${LEAST_F1}']\n",
        "c",
        ["output_dir=${HOME}/x"],
        environ={"LEAST_F1": "0.8", "HOME": "/h"},
    )
    assert (config.evaluation.gates, config.output_dir) == (("f1>=0.8",), "/h/x")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            "a${NOPE}",
            "c.yaml:3:13  output_dir: the environment has no variable NOPE. Set it, or give a default: ${NOPE:-",
        ),
        ("${}", "is not of the form"),
        ("${NOPE-x}", "is not of the form"),
        ("a${NOPE", "is not of the form"),
        ("${A B}", "is not of the form"),
    ],
)
def test_what_is_not_set_or_not_well_formed_has_its_place(written: str, message: str) -> None:
    assert message in mistake(f"{LEAST}output_dir: {written}\n")


def test_a_wrong_value_is_shown_with_the_variable() -> None:
    assert mistake(f"{LEAST}seed: ${{N}}\n", N="seven") == (
        "c.yaml:3:7  seed: ${N} stands for 'seven': 'seven' is text. Allowed: a whole number from 0 to 4294967295"
    )


def test_a_missing_variable_is_shown_with_the_other_mistakes() -> None:
    with pytest.raises(ConfigError) as error:
        check_text(f"{LEAST}output_dir: ${{NOPE}}\nseed: x\n", "c.yaml", environ={})
    assert [problem.key for problem in error.value.problems] == ["output_dir", "seed"]


@pytest.mark.parametrize("name", ["HF_TOKEN", "api_key", "MySecret", "DB_PASSWORD_2"])
def test_secrets_are_used_and_not_saved(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "s3cr3t")
    monkeypatch.setenv("PLACE", "here")
    path = tmp_path / "c.yaml"
    path.write_text(
        f"{LEAST}data: {{path: 'd/${{{name}}}/${{PLACE}}', text: ['${{{name}}}', b]}}\n"
        f"evaluation: {{slices: [a, '${{{name}}}x']}}\n",
        encoding="utf-8",
    )
    config = load_config(path)
    assert (config.data.path, config.data.text[0], config.evaluation.slices[1]) == (
        "d/s3cr3t/here",
        "s3cr3t",
        "s3cr3tx",
    )
    saved = tmp_path / "saved.yaml"
    saved.write_text(to_yaml(config), encoding="utf-8")
    assert "s3cr3t" not in saved.read_text(encoding="utf-8")
    assert f"path: d/${{{name}}}/here" in saved.read_text(encoding="utf-8")
    assert load_config(saved) == config
    assert "s3cr3t" not in str(list(leaves(config)))
    assert config_diff(config, load_config(saved)) == []


def test_a_single_text_column_from_a_secret_is_not_saved_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "s3cr3t")
    config = check_text(
        "task: classification\nmodel: {name_or_path: m}\ndata: {path: d, text: '${MY_KEY}'}\n", "c.yaml"
    )
    assert config.data.text == ("s3cr3t",)
    assert "s3cr3t" not in to_yaml(config)


def test_what_replaces_a_secret_is_saved() -> None:
    config = check_text(f"{LEAST}output_dir: ${{MY_KEY}}\n", "c.yaml", environ={"MY_KEY": "s3cr3t"})
    assert "output_dir: there" in to_yaml(config.model_copy(update={"output_dir": "there"}))


def test_no_message_repeats_a_secret() -> None:
    text = f"{LEAST}hub: {{repo_id: '${{MY_KEY}}'}}\n"
    shown = mistake(text, MY_KEY="s3cr3t value")
    assert "s3cr3t" not in shown
    assert "${MY_KEY}" in shown


def test_a_token_from_a_variable_with_another_name_is_refused() -> None:
    assert "looks like a token" in mistake(f"{LEAST}output_dir: ${{HERE}}\n", HERE="hf_" + "a" * 30)


def test_texts_with_the_two_characters_are_saved_so_that_they_read_back(tmp_path: Path) -> None:
    config = check_text(f"{LEAST}output_dir: a$${{b}}\n", "c.yaml", environ={})
    saved = tmp_path / "c.yaml"
    saved.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(saved).output_dir == "a${b}"
