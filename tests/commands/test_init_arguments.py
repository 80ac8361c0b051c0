"""finetune init --from: the flags of run_glue.py and TrainingArguments in the words of our config."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.commands.drafts.arguments import DEFAULT_MAX_LENGTH, translated
from finetune_cli.commands.init_without_data import init_from_arguments
from finetune_cli.config.dump import leaves
from finetune_cli.config.fields import TRACKERS
from finetune_cli.config.load import load_config
from finetune_cli.config.sections.training import SCHEDULES
from finetune_cli.errors import ConfigError
from tests.commands.run_files import Answer

# What the README of run_glue.py types, as JSON.
GLUE = {
    "model_name_or_path": "google-bert/bert-base-cased",
    "task_name": "mrpc",
    "do_train": True,
    "do_eval": True,
    "max_seq_length": 128,
    "per_device_train_batch_size": 32,
    "learning_rate": 2e-5,
    "num_train_epochs": 3,
    "output_dir": "out/mrpc",
}


def written(tmp_path: Path, arguments: dict[str, Any], **options: Any) -> tuple[dict[str, Any], str]:
    """The settings of the config that is written, by dotted key, and its text."""
    source, output = tmp_path / "args.json", tmp_path / "config.yaml"
    source.write_text(json.dumps(arguments), encoding="utf-8")
    init_from_arguments(source, output=output, **options)
    return dict(leaves(load_config(output))), output.read_text(encoding="utf-8")


def test_the_example_of_run_glue(tmp_path: Path) -> None:
    config, text = written(tmp_path, GLUE)
    expected = {
        "task": "mrpc",
        "model.name_or_path": "google-bert/bert-base-cased",
        "data.max_length": 128,
        "training.batch_size": 32,
        "training.learning_rate": 2e-5,
        "training.num_epochs": 3.0,
        "output_dir": "out/mrpc",
    }
    assert {key: config[key] for key in expected} == expected
    assert "  learning_rate: 2e-5 # from learning_rate\n" in text
    assert "  num_epochs: 3 # from num_train_epochs\n" in text
    assert "# Not taken: do_train: " in text


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"gradient_accumulation_steps": 4}, {"training.batch_size": 128, "training.micro_batch_size": 32}),
        ({"max_steps": 100}, {"training.max_steps": 100}),
        ({"max_steps": -1}, {"training.max_steps": None}),
        ({"warmup_ratio": 0.1}, {"training.warmup_steps": 0.1}),
        ({"warmup_ratio": 0.1, "warmup_steps": 7}, {"training.warmup_steps": 7}),
        ({"max_grad_norm": 0}, {"training.max_grad_norm": None}),
        ({"lr_scheduler_type": "cosine"}, {"training.lr_scheduler": "cosine"}),
        ({"bf16": True}, {"training.precision": "bf16"}),
        ({"fp16": False, "bf16": False}, {"training.precision": "auto"}),
        ({"group_by_length": True}, {"training.batching": "length"}),
        ({"train_sampling_strategy": "random"}, {"training.batching": "random"}),
        ({"optim": "adafactor", "adam_epsilon": 1e-6}, {"training.trainer_args.optim": "adafactor"}),
        ({"optim": "adamw_torch"}, {"training.trainer_args": {}}),
        ({"evaluation_strategy": "epoch"}, {"evaluation.every": "epoch"}),
        ({"eval_strategy": "steps", "eval_steps": 50}, {"evaluation.every": 50}),
        ({"eval_strategy": "steps"}, {"evaluation.every": 500}),
        ({"eval_strategy": "no"}, {"evaluation.every": "epoch"}),
        ({"metric_for_best_model": "eval_accuracy"}, {"evaluation.metric_for_best": "accuracy"}),
        ({"metric_for_best_model": "matthews_correlation"}, {"evaluation.metric_for_best": "matthews"}),
        ({"metric_for_best_model": "loss"}, {"evaluation.metric_for_best": "loss"}),
        ({"save_strategy": "steps", "save_steps": 80, "save_total_limit": 3}, {"checkpointing.every": 80}),
        ({"pad_to_max_length": True}, {"data.padding": "max_length"}),
        ({"report_to": ["wandb", "azure_ml"]}, {"tracking": ("wandb",)}),
        ({"report_to": "none"}, {"tracking": ()}),
        ({"push_to_hub": True, "hub_model_id": "a/b", "hub_private_repo": False}, {"hub.repo_id": "a/b"}),
        ({"push_to_hub": False, "hub_model_id": "a/b"}, {"hub": None}),
        ({"max_train_samples": 64}, {"data.limit": 64}),
        (
            {"label_smoothing_factor": 0.1, "seed": 7, "weight_decay": 0.01},
            {"training.label_smoothing": 0.1, "seed": 7},
        ),
        ({"--learning-rate": 1e-4}, {"training.learning_rate": 1e-4}),
    ],
    ids=lambda value: ",".join(map(str, value)),
)
def test_each_flag_in_our_words(flags: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    config, _ = written(tmp_path, {**GLUE, **flags})
    assert {key: config.get(key) for key in expected} == expected


@pytest.mark.parametrize(
    ("flag", "key", "values"),
    [("report_to", "tracking", TRACKERS), ("lr_scheduler_type", "training.lr_scheduler", SCHEDULES)],
)
def test_all_that_the_config_takes_is_taken_over(flag: str, key: str, values: Sequence[str]) -> None:
    for value in values:
        taken, _ = translated({flag: value}).values[key]
        assert taken in (value, [value])


def test_files_and_columns_of_ones_own(tmp_path: Path) -> None:
    arguments = {
        "model_name_or_path": "m",
        "train_file": "a.csv",
        "validation_file": "b.csv",
        "text_column_names": "first,second",
        "label_column_name": "y",
        "do_regression": True,
        "output_dir": "out",
    }
    config, text = written(tmp_path, arguments)
    assert (config["task"], config["data.path"], config["data.splits.validation"]) == ("regression", "a.csv", "b.csv")
    assert (config["data.text"], config["data.label"]) == (("first", "second"), "y")
    assert config["data.max_length"] == DEFAULT_MAX_LENGTH
    assert "question" not in text


def test_what_run_glue_finds_out_by_itself_is_a_question(tmp_path: Path) -> None:
    _, text = written(tmp_path, {"train_file": "a.csv", "validation_file": "b.csv"})
    for key in ("task", "name_or_path", "text"):
        assert text.index("# question: ") < text.index(f"{key}: ")
    assert text.count("# question: ") == 3


def test_tokens_and_unknown_flags_are_named_and_left_out(tmp_path: Path) -> None:
    token = "hf_" + "a" * 30
    _, text = written(
        tmp_path, {**GLUE, "hub_token": "x1y2", "token": token, "model_revision": token, "learning_rte": 1}
    )
    assert token not in text
    assert "x1y2" not in text
    assert "# Not taken: learning_rte: not a flag" in text
    assert "# Not taken: hub_token: a config is no place for a token" in text


def test_values_that_no_config_takes_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training.learning_rate: .*above 0"):
        written(tmp_path, {**GLUE, "learning_rate": -1})
    assert [path.name for path in tmp_path.iterdir()] == ["args.json"]


@pytest.mark.parametrize("content", ["[1]", "{", "text"])
def test_a_file_that_holds_no_arguments(content: str, command: Callable[..., Answer], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    answer = command(["init", "--from", tmp_path / "a.json", "-o", tmp_path / "c.yaml"])
    assert answer.code == 2
    assert "expected" in answer.stderr


def test_all_fields_of_training_arguments_have_a_place_or_a_reason() -> None:
    from transformers import TrainingArguments

    names = [field.name for field in dataclasses.fields(TrainingArguments) if field.init]
    result = translated({**GLUE, **dict.fromkeys(names, 1), "report_to": ["wandb"]})
    assert [name for name, reason in result.left.items() if reason.startswith("not a flag")] == []
