"""The static table of TrainingArguments: complete for the installed version, and strict about values."""

import dataclasses

import pytest

from finetune_cli.config.fields import RunConfig
from finetune_cli.config.foreign_names import COMMON_NAMES
from finetune_cli.config.messages import field_at
from finetune_cli.config.trainer_args import MANAGED, OPTIMIZERS, OURS, PASSED, argument_problem


def test_each_field_of_training_arguments_is_in_exactly_one_group() -> None:
    from transformers import TrainingArguments

    groups = [*PASSED, *OURS, *MANAGED]
    assert sorted(groups) == sorted({field.name for field in dataclasses.fields(TrainingArguments)})


def test_the_optimizers_are_those_of_transformers() -> None:
    from transformers.training_args import OptimizerNames

    assert set(OPTIMIZERS) == {name.value for name in OptimizerNames}


@pytest.mark.parametrize("key", sorted({*OURS.values(), *(name for name in COMMON_NAMES.values() if " " not in name)}))
def test_what_a_foreign_name_points_to_exists(key: str) -> None:
    path = tuple(key.split("."))
    assert path[0] in RunConfig.model_fields
    assert field_at(path[:2]) is not field_at(path[:1]) or len(path) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optim", "adafactor"),
        ("adam_beta1", 0),
        ("adam_epsilon", 1e-6),
        ("lr_scheduler_kwargs", {"power": 2}),
        ("fsdp", "full_shard"),
        ("deepspeed", "ds.json"),
        ("deepspeed", {"zero_optimization": {}}),
        ("tf32", False),
        ("ddp_bucket_cap_mb", 7),
    ],
)
def test_passes_on_what_the_trainer_takes(name: str, value: object) -> None:
    assert argument_problem(name, value) is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optim", "adamw", "'adamw' is not what this takes. Allowed: an optimizer of transformers"),
        ("optim", "adamw", "Did you mean adamw_torch?"),
        ("optim", ["sgd"], "is not what this takes"),
        ("adam_beta1", 1.0, "Allowed: a number from 0 up to below 1"),
        ("adam_beta1", True, "True is not what this takes"),
        ("ddp_bucket_cap_mb", 1.5, "Allowed: a whole number from 1"),
        ("ddp_timeout", 60, "has a key of its own here. Write training.ddp_timeout"),
        ("tf32", "yes", "Allowed: true or false"),
        ("learning_rate", 1, "has a key of its own here. Write training.learning_rate"),
        ("report_to", "wandb", "has a key of its own here. Write tracking"),
        ("gradient_checkpointing_kwargs", {"use_reentrant": True}, "takes the form that works with every option"),
        ("adam_beta", 0.9, "is not a field of TrainingArguments"),
        ("adam_beta", 0.9, "Did you mean adam_beta1?"),
    ],
)
def test_refuses_what_it_could_not_honour(name: str, value: object, message: str) -> None:
    assert message in (argument_problem(name, value) or "")
