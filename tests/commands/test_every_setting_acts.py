"""No setting is ignored: each field of the config changes something that can be seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_cli.commands.train import train
from finetune_cli.config.fields import CheckpointingConfig, EvaluationConfig, HubConfig, TrainingConfig
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, DataError, RunFailedError
from tests.commands.run_files import Trained, history, read_jsonl, saved_scores

View = Callable[[Trained], Any]


def updates(field: str) -> View:
    return lambda trained: [line[field] for line in history(trained.run.path, "train")]


def evaluated_steps(trained: Trained) -> list[int]:
    return [line["step"] for line in history(trained.run.path, "eval")]


def checkpoints(trained: Trained) -> list[str]:
    return sorted(path.name for path in trained.run.checkpoints.iterdir())


def final_loss(trained: Trained) -> float:
    return history(trained.run.path, "eval")[-1]["loss"]


def model_config(field: str) -> View:
    return lambda trained: json.loads((trained.run.model / "config.json").read_text())[field]


def prediction_ids(trained: Trained) -> list[Any]:
    return [row["id"] for row in read_jsonl(trained.run.evaluation("validation") / "predictions.jsonl")]


def has_trainer_state(trained: Trained) -> bool:
    return (trained.run.checkpoints / "step-000006" / "trainer_state.json").is_file()


def classes(trained: Trained) -> list[str]:
    return [entry["label"] for entry in saved_scores(trained.run.path)["per_class"]]


ACTS: list[tuple[str, View]] = [
    ("model.dropout=0.5", updates("loss")),
    ("model.dropout=0.5", model_config("hidden_dropout_prob")),
    ("model.attention_dropout=0.5", updates("loss")),
    ("model.lora={r: 2}", updates("grad_norm")),
    ("model.freeze=embeddings", updates("grad_norm")),
    ("data.labels=[positive, negative]", classes),
    ("data.label=other", updates("loss")),
    ("data.id=name", prediction_ids),
    ("data.max_length=6", updates("tokens")),
    ("data.limit=20", updates("rows")),
    ("training.loop=accelerate", has_trainer_state),
    ("training.num_epochs=2", updates("step")),
    ("training.num_epochs=0.5", updates("step")),
    ("training.max_steps=4", updates("step")),
    ("training.batch_size=16", updates("rows")),
    ("training.micro_batch_size=2", updates("loss")),  # other dropout masks
    ("training.batching=random", updates("tokens")),
    ("training.packing=true", updates("loss")),  # other dropout masks
    ("training.learning_rate=5e-4", updates("learning_rate")),
    ("training.lr_scheduler=cosine", updates("learning_rate")),
    ("training.lr_scheduler=constant", updates("learning_rate")),
    ("training.lr_scheduler=inverse_sqrt", updates("learning_rate")),
    ("training.lr_scheduler=polynomial", updates("learning_rate")),
    ("training.warmup_steps=3", updates("learning_rate")),
    ("training.warmup_steps=0.5", updates("learning_rate")),
    ("training.weight_decay=0.5", final_loss),
    ("training.max_grad_norm=0.001", final_loss),
    ("training.max_grad_norm=null", final_loss),
    ("training.precision=bf16", updates("loss")),
    ("training.label_smoothing=0.3", updates("loss")),
    ("training.class_weights=balanced", updates("loss")),
    ("training.focal_gamma=2.0", updates("loss")),
    ("training.class_weights={positive: 3.0}", updates("loss")),
    ("training.trainer_args={adam_beta1: 0.5}", final_loss),
    ("training.trainer_args={adam_beta2: 0.5}", final_loss),
    ("training.trainer_args={adam_epsilon: 0.1}", final_loss),
    ("training.trainer_args={optim: adafactor}", final_loss),
    ("training.trainer_args={optim: sgd}", final_loss),
    ("training.trainer_args={neftune_noise_alpha: 10.0}", updates("loss")),
    ("evaluation.every=2", evaluated_steps),
    ("evaluation.metrics=[f1_macro, accuracy]", lambda trained: list(saved_scores(trained.run.path)["metrics"])),
    ("evaluation.bootstrap.samples=0", lambda trained: saved_scores(trained.run.path)["metrics"]["accuracy"]["low"]),
    ("evaluation.bootstrap.level=0.3", lambda trained: saved_scores(trained.run.path)["metrics"]["accuracy"]["low"]),
    ("checkpointing.every=2", checkpoints),
    ("checkpointing.every_seconds=1e-9", checkpoints),
    ("tracking=[tensorboard]", lambda trained: sorted(trained.run.tracking.glob("*"))),
    ("seed=7", updates("loss")),
    ("seed=7", updates("tokens")),
]


@pytest.fixture(scope="module")
def baseline() -> dict[str, Trained]:
    """The run that the others differ from, trained by the first test that asks."""
    return {}


def own_rows(make_dataset: Callable[..., Path], directory: Path) -> Path:
    """make_dataset's rows with a second label column and a column of names."""
    make_dataset(directory)
    for file in directory.glob("*.jsonl"):
        rows = [{**row, "other": number % 2, "name": f"row {number}"} for number, row in enumerate(read_jsonl(file))]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


@pytest.mark.parametrize(("setting", "view"), ACTS, ids=[f"{number} {act[0]}" for number, act in enumerate(ACTS)])
def test_a_setting_changes_what_can_be_seen(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    train_run: Callable[..., Trained],
    make_dataset: Callable[..., Path],
    baseline: dict[str, Trained],
    setting: str,
    view: View,
) -> None:
    sections = {
        "data": {"path": str(own_rows(make_dataset, tmp_path / "rows"))},
        "training": {"precision": "fp32", "learning_rate": 1e-2},
        "checkpointing": {"keep": 10},
    }
    if not baseline:
        baseline["run"] = train_run(tmp_path_factory.mktemp("baseline"), **sections)
    changed = train_run(tmp_path, setting, **sections)
    assert view(changed) != view(baseline["run"])


def test_the_baseline_itself_repeats(tmp_path: Path, train_run: Callable[..., Trained]) -> None:
    """Otherwise every comparison above would succeed."""
    first, second = train_run(tmp_path / "first"), train_run(tmp_path / "second")
    for record_type in ("train", "eval"):
        assert history(first.run.path, record_type) == history(second.run.path, record_type)


def test_the_table_has_every_field_of_training_evaluation_and_checkpointing() -> None:
    """Those tested below, or elsewhere, are named here."""
    elsewhere = {
        "training.compile",
        "training.early_stopping",
        "training.gradient_checkpointing",  # tests/training/test_partial_training.py
        "training.on_nonfinite",
        "evaluation.metric_for_best",
        "evaluation.bootstrap",
        "evaluation.gates",
        "evaluation.slices",  # tests/commands/test_report.py
        "training.seeds",
        "checkpointing.keep",
        "hub.repo_id",  # tests/commands/test_hub_upload.py
        "hub.private",
    }
    models = {
        "training": TrainingConfig,
        "evaluation": EvaluationConfig,
        "checkpointing": CheckpointingConfig,
        "hub": HubConfig,
    }
    fields = {f"{section}.{name}" for section, model in models.items() for name in model.model_fields}
    assert fields - elsewhere <= {setting.partition("=")[0] for setting, _ in ACTS}


def test_text_columns_are_read_in_the_order_given(tmp_path: Path, train_run: Callable[..., Trained]) -> None:
    first = train_run(tmp_path / "first", task="mrpc")
    swapped = train_run(tmp_path / "swapped", "data.text=[sentence2, sentence1]", task="mrpc")
    assert updates("loss")(first) != updates("loss")(swapped)


def test_truncation_chooses_the_text_that_gives_way(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    from finetune_cli.commands.prepare import prepare

    config = write_config(tmp_path, task="mrpc")
    longest = prepare(load_config(config, ["data.max_length=24"])).splits["train"]
    first = prepare(load_config(config, ["data.max_length=24", "data.truncation=only_first"])).splits["train"]
    assert longest.input_ids.tolist() != first.input_ids.tolist()
    with pytest.raises(DataError, match="tokens"):
        prepare(load_config(config, ["data.max_length=24", "data.truncation=error"]))


def test_padding_to_max_length_gives_every_batch_one_width(tmp_path: Path, train_run: Callable[..., Trained]) -> None:
    widths: set[int] = set()

    def note(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, torch.nn.Embedding) and module.training and inputs[0].ndim == 2 and len(inputs[0]) > 1:
            widths.add(inputs[0].shape[1])

    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        train_run(tmp_path / "dynamic", "data.max_length=40")
        dynamic = set(widths)
        widths.clear()
        train_run(tmp_path / "fixed", "data.max_length=40", "data.padding=max_length")
    finally:
        hook.remove()
    assert len(dynamic) > 1
    assert max(dynamic) < 40
    assert widths == {40}


def test_compile_reaches_the_model(
    tmp_path: Path, train_run: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiling takes half a minute; that it is asked for is enough here."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: asked.append(options))
    train_run(tmp_path / "plain")
    assert asked == []
    train_run(tmp_path / "compiled", "training.compile=true")
    assert asked == [{"dynamic": True}]


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_early_stopping_ends_the_run(tmp_path: Path, train_run: Callable[..., Trained], loop: str) -> None:
    settings = ["training.learning_rate=1e-12", "training.num_epochs=5", f"training.loop={loop}"]
    stopped = train_run(tmp_path, *settings, "training.early_stopping={patience: 2}", "evaluation.metric_for_best=loss")
    assert stopped.report.steps < 30
    early = train_run(
        tmp_path / "min_delta",
        *settings,
        "training.early_stopping={patience: 2, min_delta: 10.0}",
        "evaluation.metric_for_best=loss",
    )
    assert early.report.steps == 18


@pytest.mark.parametrize(("metric", "best"), [("loss", min), ("accuracy", max), ("f1", max), ("log_loss", min)])
def test_the_best_step_follows_metric_for_best_in_its_direction(
    tmp_path: Path, train_run: Callable[..., Trained], metric: str, best: Callable[..., Any]
) -> None:
    names = ["accuracy", "f1", "log_loss"]
    trained = train_run(
        tmp_path,
        evaluation={"every": 2, "metrics": names, "metric_for_best": metric},
        training={"num_epochs": 4, "learning_rate": 2e-2},
    )
    lines = history(trained.run.path, "eval")
    expected = best(line[metric] for line in lines)
    assert trained.report.best_step == next(line["step"] for line in lines if line[metric] == expected)


def test_keep_bounds_the_checkpoints_beside_the_best(tmp_path: Path, train_run: Callable[..., Trained]) -> None:
    trained = train_run(tmp_path, "checkpointing.every=1", "checkpointing.keep=3", "training.num_epochs=2")
    best = f"step-{trained.report.best_step:06d}"
    assert checkpoints(trained) == sorted({"step-000010", "step-000011", "step-000012", best})


def test_options_of_the_schedule_reach_it(tmp_path: Path, train_run: Callable[..., Trained]) -> None:
    """Polynomial of power 2 from 1e-3 to 1e-7 over 6 updates (transformers' default lr_end)."""
    trained = train_run(
        tmp_path, "training.lr_scheduler=polynomial", "training.trainer_args.lr_scheduler_kwargs={power: 2.0}"
    )
    expected = [(1e-3 - 1e-7) * (1 - step / 6) ** 2 + 1e-7 for step in range(6)]
    assert updates("learning_rate")(trained) == pytest.approx(expected)


def test_nonfinite_updates_end_the_run_or_are_skipped(tmp_path: Path, train_run: Callable[..., Trained]) -> None:
    """Infinite class weights make every loss of that class infinite; the other rows' updates go on."""
    settings = ["training.class_weights={positive: 1e39}", "training.batch_size=1", "training.max_steps=6"]
    with pytest.raises(RunFailedError, match=r"the loss is (inf|nan)"):
        train_run(tmp_path / "error", *settings)
    skipped = train_run(tmp_path / "skip", *settings, "training.on_nonfinite=skip")
    losses = updates("loss")(skipped)
    assert len(losses) == 6
    assert None in losses
    assert any(loss is not None for loss in losses)


def test_a_new_model_has_the_sizes_given(tmp_path: Path, train_run: Callable[..., Trained]) -> None:
    sizes = {"vocab_size": 150, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3}
    sizes |= {"intermediate_size": 40, "max_position_embeddings": 48}
    trained = train_run(tmp_path, model={"from_scratch": sizes})
    config = json.loads((trained.run.model / "config.json").read_text())
    assert {name: config[name] for name in sizes if name != "vocab_size"} == {
        name: size for name, size in sizes.items() if name != "vocab_size"
    }
    assert config["vocab_size"] <= 150
    assert trained.run.read_record().fingerprints.model is None


def test_a_revision_of_something_without_revisions_is_refused(
    tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    with pytest.raises(ConfigError, match=r"model\.revision: .* is a directory"):
        train(load_config(write_config(tmp_path), ["model.revision=main"]))
