"""Each setting of the config does what it is for: beside an ordinary run, one that differs in this setting alone.

What takes more than a look at the files of the two runs is in test_settings_one_by_one.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import load_file

from finetune_cli.config.fields import RunConfig
from tests.commands.run_files import Trained, history, read_jsonl, saved_scores, weights

ROOT = Path(__file__).resolve().parents[2]
LEARNING_RATE = 1e-2
STEPS = 6  # updates of the ordinary run: 48 rows in batches of 8
ADAFACTOR = ("step", "exp_avg_sq", "exp_avg_sq_row", "exp_avg_sq_col", "RMS")  # what it remembers of a weight
Effect = Callable[[Trained, Trained], None]  # of (the run with the setting, the ordinary run); asserts


def updates(field: str, trained: Trained) -> list[Any]:
    return [line[field] for line in history(trained.run.path, "train")]


def saved(trained: Trained) -> list[str]:
    return sorted(path.name for path in trained.run.checkpoints.iterdir())


def model_config(trained: Trained) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((trained.run.model / "config.json").read_text())
    return config


def answers(trained: Trained) -> list[dict[str, Any]]:
    return read_jsonl(trained.run.evaluation("validation") / "predictions.jsonl")


def changed_weights(trained: Trained) -> set[str]:
    """The weights of the encoder that are not those of the pretrained model, by the part of their name that matters."""
    start = load_file(Path(trained.config.model.name_or_path or "") / "model.safetensors")
    end = {name.removeprefix("bert."): weight for name, weight in weights(trained.run.path).items()}
    return {name for name, weight in start.items() if name in end and not torch.equal(weight, end[name])}


def size_of_weights(trained: Trained) -> float:
    return sum(float(weight.square().sum()) for weight in weights(trained.run.path).values() if weight.ndim == 2)


def config_has(**expected: float) -> Effect:
    """The exported model has these values, and training met them from its first update on."""

    def check(changed: Trained, plain: Trained) -> None:
        assert {name: model_config(changed)[name] for name in expected} == expected
        assert updates("loss", changed)[0] != updates("loss", plain)[0]

    return check


def only_weights_with(*parts: str) -> Effect:
    """Weights of the encoder with one of these in their name have changed, no others. (The pooler is of the head.)"""

    def check(changed: Trained, plain: Trained) -> None:
        names = changed_weights(changed)
        assert {name for name in changed_weights(plain) if any(part in name for part in parts)} == names
        assert all(any(part in name for name in names) for part in parts)

    return check


def learning_rates(course: Callable[[int], float]) -> Effect:
    """course: update from 0 -> share of the highest learning rate."""

    def check(changed: Trained, plain: Trained) -> None:
        assert updates("learning_rate", changed) == pytest.approx(
            [LEARNING_RATE * course(step) for step in range(STEPS)]
        )

    return check


def each_update(field: str, expected: Sequence[float]) -> Effect:
    def check(changed: Trained, plain: Trained) -> None:
        assert updates(field, changed) == pytest.approx(list(expected))

    return check


def loss_differs_from(update: int) -> Effect:
    """The losses before that update, counted from 1, are those of the ordinary run; then they are not."""

    def check(changed: Trained, plain: Trained) -> None:
        ours, theirs = updates("loss", changed), updates("loss", plain)
        assert ours[: update - 1] == pytest.approx(theirs[: update - 1], rel=1e-5)
        assert all(abs(a - b) > 1e-6 * b for a, b in zip(ours[update - 1 :], theirs[update - 1 :], strict=True))

    return check


def optimizer_keeps(*names: str) -> Effect:
    """What the optimizer remembers of each weight; AdamW would keep exp_avg and exp_avg_sq."""

    def check(changed: Trained, plain: Trained) -> None:
        loss_differs_from(2)(changed, plain)
        state = torch.load(changed.run.checkpoints / "step-000006" / "optimizer.bin", weights_only=True)["state"]
        assert {name for kept in state.values() for name, value in kept.items() if value is not None} == set(names)

    return check


def warmed_up(step: int) -> float:
    return step / 3 if step < 3 else 2 - step / 3


def loops_agree(changed: Trained, plain: Trained) -> None:
    trainer_state = [run.run.checkpoints / "step-000006" / "trainer_state.json" for run in (changed, plain)]
    assert [path.is_file() for path in trainer_state] == [False, True]
    assert updates("loss", changed) == pytest.approx(updates("loss", plain), rel=1e-5)


def labels_are_in_this_order(changed: Trained, plain: Trained) -> None:
    assert [[entry["label"] for entry in saved_scores(run.run.path)["per_class"]] for run in (changed, plain)] == [
        ["positive", "negative"],
        ["negative", "positive"],
    ]
    assert model_config(changed)["id2label"] == {"0": "positive", "1": "negative"}


def labels_are_of_that_column(changed: Trained, plain: Trained) -> None:
    assert [row["label"] for row in answers(changed)] == ["negative", "positive"] * 6


def rows_are_named_by_that_column(changed: Trained, plain: Trained) -> None:
    assert [row["id"] for row in answers(changed)] == [f"row {number}" for number in range(12)]


def rows_are_cut_at_six_tokens(changed: Trained, plain: Trained) -> None:
    assert max(updates("tokens", changed)) <= 6 * 8 < min(updates("tokens", plain))


def a_quarter_of_train_is_held_out(changed: Trained, plain: Trained) -> None:
    assert (sum(updates("rows", changed)), len(answers(changed))) == (36, 12)


def rows_are_in_another_order(changed: Trained, plain: Trained) -> None:
    ours, theirs = updates("tokens", changed), updates("tokens", plain)
    assert ours != theirs
    assert sum(ours) == sum(theirs)


def seed_decides_head_and_order(changed: Trained, plain: Trained) -> None:
    rows_are_in_another_order(changed, plain)
    assert not torch.equal(weights(changed.run.path)["classifier.weight"], weights(plain.run.path)["classifier.weight"])


def weights_shrink(changed: Trained, plain: Trained) -> None:
    loss_differs_from(2)(changed, plain)
    assert size_of_weights(changed) < size_of_weights(plain)


def computed_in_bf16(changed: Trained, plain: Trained) -> None:
    """Eight bits of precision: near the losses in fp32, and not equal to them."""
    assert changed.run.read_record().precision == "bf16"
    assert updates("loss", changed)[0] == pytest.approx(updates("loss", plain)[0], rel=2**-5)
    assert updates("loss", changed)[0] != pytest.approx(updates("loss", plain)[0], rel=1e-6)


def each_evaluation_is_after(*steps: int) -> Effect:
    def check(changed: Trained, plain: Trained) -> None:
        assert [line["step"] for line in history(changed.run.path, "eval")] == list(steps)

    return check


def saved_after(*steps: int) -> Effect:
    def check(changed: Trained, plain: Trained) -> None:
        assert saved(changed) == [f"step-{step:06d}" for step in steps]

    return check


def scored_by(*names: str) -> Effect:
    def check(changed: Trained, plain: Trained) -> None:
        assert list(saved_scores(changed.run.path)["metrics"]) == list(names)

    return check


def no_interval(changed: Trained, plain: Trained) -> None:
    ours, theirs = (saved_scores(run.run.path)["metrics"]["accuracy"] for run in (changed, plain))
    assert (ours["low"], ours["high"]) == (None, None)
    assert ours["value"] == theirs["value"]


def narrower_interval(changed: Trained, plain: Trained) -> None:
    ours, theirs = (saved_scores(run.run.path)["metrics"]["accuracy"] for run in (changed, plain))
    assert theirs["low"] < ours["low"] <= ours["high"] < theirs["high"]


def tensorboard_has_a_file(changed: Trained, plain: Trained) -> None:
    assert [len(list(run.run.tracking.glob("tensorboard/*tfevents*"))) for run in (changed, plain)] == [1, 0]


EFFECTS: list[tuple[str, Effect]] = [
    ("model.dropout=0.5", config_has(hidden_dropout_prob=0.5)),
    ("model.attention_dropout=0.5", config_has(attention_probs_dropout_prob=0.5)),
    ("model.lora={r: 2}", only_weights_with("query.weight", "value.weight", "pooler.")),
    ("model.lora={r: 2, target_modules: [key]}", only_weights_with("key.weight", "pooler.")),
    ("model.freeze=embeddings", only_weights_with("encoder.", "pooler.")),
    ("model.freeze=1", only_weights_with("layer.1.", "pooler.")),
    ("model.freeze=body", only_weights_with("pooler.")),
    ("data.splits={validation: 0.25}", a_quarter_of_train_is_held_out),
    ("data.labels=[positive, negative]", labels_are_in_this_order),
    ("data.label=other", labels_are_of_that_column),
    ("data.id=name", rows_are_named_by_that_column),
    ("data.max_length=6", rows_are_cut_at_six_tokens),
    ("data.limit=20", each_update("rows", [8, 8, 4])),
    ("data.share=0.25", each_update("rows", [8, 4])),
    ("training.loop=accelerate", loops_agree),
    ("training.num_epochs=2", each_update("step", range(1, 13))),
    ("training.num_epochs=0.5", each_update("step", range(1, 4))),
    ("training.max_steps=4", each_update("step", range(1, 5))),
    ("training.batch_size=16", each_update("rows", [16, 16, 16])),
    ("training.batching=random", rows_are_in_another_order),
    ("training.learning_rate=5e-4", each_update("learning_rate", [5e-4 * (1 - step / 6) for step in range(6)])),
    ("training.lr_scheduler=linear", learning_rates(lambda step: 1 - step / 6)),
    ("training.lr_scheduler=cosine", learning_rates(lambda step: (1 + math.cos(math.pi * step / 6)) / 2)),
    ("training.lr_scheduler=constant", learning_rates(lambda step: 1)),
    ("training.lr_scheduler=inverse_sqrt", learning_rates(lambda step: (1 + step / 10_000) ** -0.5)),
    ("training.lr_scheduler=polynomial", learning_rates(lambda step: 1e-5 + (1 - 1e-5) * (1 - step / 6))),
    ("training.warmup_steps=3", learning_rates(warmed_up)),
    ("training.warmup_steps=0.5", learning_rates(warmed_up)),
    ("training.weight_decay=0.5", weights_shrink),
    ("training.precision=bf16", computed_in_bf16),
    ("training.trainer_args={adam_epsilon: 0.1}", loss_differs_from(2)),
    # Adam corrects its averages for their start: the first update is the same for any beta.
    ("training.trainer_args={adam_beta1: 0.5}", loss_differs_from(3)),
    ("training.trainer_args={adam_beta2: 0.5}", loss_differs_from(3)),
    ("training.trainer_args={optim: sgd}", optimizer_keeps()),
    (
        "training.trainer_args={optim: adafactor}",
        optimizer_keeps(*ADAFACTOR),
    ),
    ("training.trainer_args={neftune_noise_alpha: 10.0}", loss_differs_from(1)),
    ("evaluation.every=2", each_evaluation_is_after(2, 4, 6)),
    ("evaluation.metrics=[f1_macro, accuracy]", scored_by("f1_macro", "accuracy")),
    ("evaluation.bootstrap.samples=0", no_interval),
    ("evaluation.bootstrap.level=0.3", narrower_interval),
    ("checkpointing.every=2", saved_after(2, 4, 6)),
    ("checkpointing.every_seconds=1e-9", saved_after(1, 2, 3, 4, 5, 6)),
    ("tracking=[tensorboard]", tensorboard_has_a_file),
    ("seed=7", seed_decides_head_and_order),
]
ONE_BY_ONE = "tests/commands/test_settings_one_by_one.py"
ELSEWHERE = {
    "task": "tests/commands/test_tasks_end_to_end.py",
    "model.name_or_path": ONE_BY_ONE,
    "model.revision": ONE_BY_ONE,
    "model.from_scratch": ONE_BY_ONE,
    "model.lora.lora_alpha": ONE_BY_ONE,
    "model.lora.lora_dropout": ONE_BY_ONE,
    "model.dtype": "tests/models/test_storage.py",
    "model.trust_remote_code": "tests/security/test_foreign_code.py",
    "data.path": ONE_BY_ONE,
    "data.name": "tests/data/test_sources.py",
    "data.text": ONE_BY_ONE,
    "data.padding": ONE_BY_ONE,
    "data.truncation": ONE_BY_ONE,
    "data.long_texts": "tests/commands/test_long_texts.py",
    "data.split_seed": ONE_BY_ONE,
    "data.columns": "tests/field/test_tables.py",
    "data.quoting": "tests/field/test_tables.py",
    "data.unlabelled": "tests/field/test_labels.py",
    "data.folds": "tests/commands/test_folds.py",
    "sweep": "tests/commands/test_sweep.py",
    "data.checks": "tests/data/checks/test_checks.py",
    "training.micro_batch_size": ONE_BY_ONE,
    "training.micro_batch_tokens": "tests/training/test_windows.py",
    "training.max_grad_norm": ONE_BY_ONE,
    "training.compile": ONE_BY_ONE,
    "training.cuda_graphs": "tests/training/test_replay.py",
    "training.packing": ONE_BY_ONE,
    "training.gradient_checkpointing": "tests/training/test_partial_training.py",
    "training.label_smoothing": ONE_BY_ONE,
    "training.class_weights": ONE_BY_ONE,
    "training.focal_gamma": ONE_BY_ONE,
    "training.early_stopping": ONE_BY_ONE,
    "training.on_nonfinite": ONE_BY_ONE,
    "training.ddp_timeout": "tests/system/test_groups.py",
    "training.seeds": "tests/commands/test_seeds.py",
    "training.learning_curve": "tests/commands/test_learning_curve.py",
    "evaluation.metric_for_best": ONE_BY_ONE,
    "evaluation.baseline": "tests/commands/test_choice.py",
    "evaluation.slices": "tests/commands/test_report.py",
    "evaluation.gates": "tests/runs/test_gates.py",
    "checkpointing.keep": ONE_BY_ONE,
    "hub": "tests/commands/test_hub_upload.py",
    "output_dir": "tests/commands/test_run_directory.py",
}


@pytest.fixture(scope="module")
def ordinary() -> dict[str, Trained]:
    """The run that the others differ from, trained by the first test that asks."""
    return {}


def own_rows(make_dataset: Callable[..., Path], directory: Path) -> Path:
    """make_dataset's rows with a second label column and a column of names."""
    make_dataset(directory)
    for file in directory.glob("*.jsonl"):
        rows = [{**row, "other": number % 2, "name": f"row {number}"} for number, row in enumerate(read_jsonl(file))]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


@pytest.mark.parametrize(("setting", "effect"), EFFECTS, ids=[setting for setting, _ in EFFECTS])
def test_a_setting_has_its_effect(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    train_run: Callable[..., Trained],
    make_dataset: Callable[..., Path],
    ordinary: dict[str, Trained],
    setting: str,
    effect: Effect,
) -> None:
    sections = {
        "data": {"path": str(own_rows(make_dataset, tmp_path / "rows"))},
        "training": {"learning_rate": LEARNING_RATE},
        "checkpointing": {"keep": 10},
    }
    if not ordinary:
        ordinary["run"] = train_run(tmp_path_factory.mktemp("ordinary"), **sections)
    effect(train_run(tmp_path, setting, **sections), ordinary["run"])


def test_the_ordinary_run_repeats(tmp_path: Path, train_run: Callable[..., Trained]) -> None:
    """Otherwise a difference above could come from chance."""
    first, second = train_run(tmp_path / "first"), train_run(tmp_path / "second")
    for record_type in ("train", "eval"):
        assert history(first.run.path, record_type) == history(second.run.path, record_type)


def settings_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Each setting by its dotted key, those of sections inside sections included."""
    keys = []
    for name, field in model.model_fields.items():
        parts = [field.annotation, *get_args(field.annotation)]
        sections = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
        keys += settings_of(sections[0], f"{prefix}{name}.") if sections else [prefix + name]
    return keys


def test_every_setting_is_tested_here_or_in_the_file_that_is_named() -> None:
    here = {setting.partition("=")[0] for setting, _ in EFFECTS} | {"model.lora.r", "model.lora.target_modules"}
    keys = settings_of(RunConfig)
    assert len(keys) > 60
    assert {"model.lora.r", "data.checks.overlap", "training.early_stopping.patience", "hub.private"} <= set(keys)
    untested = [
        key for key in keys if key not in here and not any(f"{key}.".startswith(f"{name}.") for name in ELSEWHERE)
    ]
    assert untested == []
    for key, file in ELSEWHERE.items():
        assert key.rpartition(".")[2] in (ROOT / file).read_text(encoding="utf-8"), key
