"""Settings whose effect is seen in what the model is given, in the loss, in several runs, or in a refusal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, BertTokenizerFast
from transformers.models.bert.modeling_bert import BertLayer

from finetune_cli.commands.prepare import prepare
from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, DataError, RunFailedError
from tests.commands.run_files import Trained, history, read_jsonl, weights

TrainRun = Callable[..., Trained]


def losses(trained: Trained) -> list[float]:
    return [line["loss"] for line in history(trained.run.path, "train")]


def checkpoints(trained: Trained) -> list[str]:
    return sorted(path.name for path in trained.run.checkpoints.iterdir())


@contextmanager
def shapes_in_training() -> Iterator[set[tuple[int, ...]]]:
    """(rows, width) of each batch that the layers of a training model are given in this block."""
    shapes: set[tuple[int, ...]] = set()

    def note(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, BertLayer) and module.training:
            shapes.add(tuple(inputs[0].shape[:2]))

    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield shapes
    finally:
        hook.remove()


def test_the_pretrained_model_is_the_one_that_is_named(tmp_path: Path, tiny_bert: Path, train_run: TrainRun) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20}
    other = tmp_path / "other"
    BertTokenizerFast.from_pretrained(tiny_bert).save_pretrained(other)
    model = BertModel(BertConfig(**json.loads((tiny_bert / "config.json").read_text()) | sizes))
    model.save_pretrained(other)
    trained = train_run(tmp_path, f"model.name_or_path={other}", "model.freeze=body")
    key = "embeddings.word_embeddings.weight"
    assert torch.equal(weights(trained.run.path)[f"bert.{key}"], model.state_dict()[key])


def test_a_new_model_has_the_sizes_given(tmp_path: Path, train_run: TrainRun) -> None:
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


def test_lora_alpha_scales_the_adapters_and_lora_dropout_changes_their_input(
    tmp_path: Path, tiny_bert: Path, train_run: TrainRun
) -> None:
    """The adapters start at zero, so that the first update has the same loss and gradients that grow with the scale.

    Adam's first update hardly depends on the gradient's size: the change in the weights is the scale's.
    """
    lora = {"r": 2, "lora_alpha": 2}
    once = {"max_steps": 1, "max_grad_norm": None}
    key = "encoder.layer.0.attention.self.value.weight"
    start = load_file(tiny_bert / "model.safetensors")[key]
    runs = {
        name: train_run(tmp_path / name, model={"lora": {**lora, **more}, "dropout": 0.0}, training=once)
        for name, more in {"plain": {}, "scaled": {"lora_alpha": 6}, "dropped": {"lora_dropout": 0.5}}.items()
    }
    change = {name: weights(trained.run.path)[f"bert.{key}"] - start for name, trained in runs.items()}
    assert (change["scaled"] - 3 * change["plain"]).norm() < 0.05 * change["scaled"].norm()
    assert losses(runs["scaled"]) == losses(runs["plain"])
    norms = {name: history(trained.run.path, "train")[0]["grad_norm"] for name, trained in runs.items()}
    assert norms["dropped"] != norms["plain"]  # most of it is the head's, whose input is the same


def test_the_rows_are_those_of_the_path(tmp_path: Path, train_run: TrainRun, make_dataset: Callable[..., Path]) -> None:
    rows = make_dataset(tmp_path / "other rows", rows=24)
    trained = train_run(tmp_path, f"data.path={rows}")
    assert [line["rows"] for line in history(trained.run.path, "train")] == [8, 8, 8]


def test_text_columns_are_read_in_the_order_given(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    config = write_config(tmp_path, task="mrpc")
    given = prepare(load_config(config)).splits["train"]
    swapped = prepare(load_config(config, ["data.text=[sentence2, sentence1]"])).splits["train"]
    assert Counter(given.input_ids.tolist()) == Counter(swapped.input_ids.tolist())
    assert given.input_ids.tolist() != swapped.input_ids.tolist()


def test_truncation_chooses_the_text_that_gives_way(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    config = write_config(tmp_path, task="mrpc")
    longest = prepare(load_config(config, ["data.max_length=24"])).splits["train"]
    first = prepare(load_config(config, ["data.max_length=24", "data.truncation=only_first"])).splits["train"]
    assert longest.input_ids.tolist() != first.input_ids.tolist()
    with pytest.raises(DataError, match="tokens"):
        prepare(load_config(config, ["data.max_length=24", "data.truncation=error"]))


def test_split_seed_alone_draws_the_rows_that_are_taken_from_train(
    tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    config = write_config(tmp_path, data={"splits": {"validation": 0.25}})

    def held_out(*settings: str) -> list[int]:
        tokens: list[int] = prepare(load_config(config, settings)).splits["validation"].input_ids.tolist()
        return tokens

    assert held_out("data.split_seed=1", "seed=1") == held_out("data.split_seed=1", "seed=2")
    assert held_out("data.split_seed=1") != held_out("data.split_seed=2")
    assert held_out("data.split_seed=2") == held_out("seed=2")  # null: the seed of the run


def test_padding_to_max_length_gives_every_batch_one_width(tmp_path: Path, train_run: TrainRun) -> None:
    with shapes_in_training() as dynamic:
        train_run(tmp_path / "dynamic", "data.max_length=40")
    with shapes_in_training() as fixed:
        train_run(tmp_path / "fixed", "data.max_length=40", "data.padding=max_length")
    widths = {width for _, width in dynamic}
    assert len(widths) > 1
    assert max(widths) < 40
    assert fixed == {(8, 40)}


def test_micro_batch_size_is_what_the_model_is_given_at_once(tmp_path: Path, train_run: TrainRun) -> None:
    """And only that: without dropout the losses of the updates stay the same."""
    settings = {"model": {"dropout": 0.0, "attention_dropout": 0.0}}
    whole = train_run(tmp_path / "whole", **settings)
    with shapes_in_training() as shapes:
        parts = train_run(tmp_path / "parts", "training.micro_batch_size=2", **settings)
    assert {rows for rows, _ in shapes} == {2}
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)


def test_packing_gives_the_model_one_long_row(tmp_path: Path, train_run: TrainRun) -> None:
    settings = {"model": {"dropout": 0.0, "attention_dropout": 0.0}}
    with shapes_in_training() as plain:
        padded = train_run(tmp_path / "padded", **settings)
    with shapes_in_training() as shapes:
        packed = train_run(tmp_path / "packed", "training.packing=true", **settings)
    assert {rows for rows, _ in plain} == {8}
    assert {rows for rows, _ in shapes} == {1, 8}  # the last layer takes the first token of each row apart
    assert losses(packed) == pytest.approx(losses(padded), rel=1e-5)


def test_compile_reaches_the_model(tmp_path: Path, train_run: TrainRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes half a minute; that it is asked for is enough here."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: asked.append(options))
    train_run(tmp_path / "plain")
    assert asked == []
    train_run(tmp_path / "compiled", "training.compile=true")
    assert asked == [{"dynamic": True}]


def test_gradients_are_clipped_to_max_grad_norm(tmp_path: Path, tiny_bert: Path, train_run: TrainRun) -> None:
    """One update of plain gradient descent moves every weight by learning rate times gradient, clipped or not."""
    start = load_file(tiny_bert / "model.safetensors")["pooler.dense.weight"]
    training = {"max_steps": 1, "learning_rate": 1e-2, "trainer_args": {"optim": "sgd"}}
    moved, norms = [], []
    for name, limit in (("clipped", 1e-2), ("whole", None)):
        trained = train_run(tmp_path / name, training={**training, "max_grad_norm": limit})
        moved.append(weights(trained.run.path)["bert.pooler.dense.weight"] - start)
        norms.append(history(trained.run.path, "train")[0]["grad_norm"])
    assert norms[0] == norms[1] > 1e-2
    torch.testing.assert_close(moved[0] * norms[0] / 1e-2, moved[1], rtol=1e-2, atol=1e-6)


@pytest.fixture
def first_loss(tmp_path: Path, train_run: TrainRun) -> Callable[..., float]:
    """first_loss(setting) -> the loss of all 48 rows before anything was learned."""

    def train_once(*settings: str) -> float:
        directory = tmp_path / (settings[-1] if settings else "plain").replace("/", " ")
        return losses(train_run(directory, "training.batch_size=48", "training.max_steps=1", *settings))[0]

    return train_once


def test_label_smoothing_mixes_the_loss_of_the_other_class_in(first_loss: Callable[..., float]) -> None:
    """loss(share) = (1 - share / 2) * loss of the true class + share / 2 * that of the other: a line in the share."""
    plain, some, more = first_loss(), *(first_loss(f"training.label_smoothing={share}") for share in (0.3, 0.6))
    assert more - plain == pytest.approx(2 * (some - plain), rel=1e-3)
    assert some != plain


def test_class_weights_multiply_the_loss_of_their_class(first_loss: Callable[..., float], tmp_path: Path) -> None:
    plain, twice, thrice = (first_loss(f"training.class_weights={{positive: {weight}}}") for weight in (1, 2, 3))
    assert plain == first_loss()
    assert thrice - plain == pytest.approx(2 * (twice - plain), rel=1e-5)
    assert twice > plain


def test_balanced_class_weights_are_the_inverse_of_the_frequency(
    first_loss: Callable[..., float], tmp_path: Path
) -> None:
    balanced = first_loss("training.class_weights=balanced")
    rows = Counter(row["label"] for row in read_jsonl(tmp_path / "training.class_weights=balanced/data/train.jsonl"))
    assert rows[0] != rows[1]
    by_hand = f"{{negative: {48 / 2 / rows[0]}, positive: {48 / 2 / rows[1]}}}"
    assert balanced == pytest.approx(first_loss(f"training.class_weights={by_hand}"), rel=1e-6)
    assert balanced != first_loss()


def test_focal_gamma_lets_rows_count_less_the_better_they_are_answered(first_loss: Callable[..., float]) -> None:
    """A head that has learned nothing gives the true class about half of the probability: (1 - 1/2) ** gamma."""
    assert first_loss("training.focal_gamma=2.0") == pytest.approx(first_loss() / 4, rel=0.3)


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_early_stopping_ends_the_run(tmp_path: Path, train_run: TrainRun, loop: str) -> None:
    settings = ["training.learning_rate=1e-12", "training.num_epochs=5", f"training.loop={loop}"]
    stopped = train_run(tmp_path, *settings, "training.early_stopping={patience: 2}", "evaluation.metric_for_best=loss")
    assert stopped.report.steps < 30
    assert stopped.report.stopped_early
    early = train_run(
        tmp_path / "min_delta",
        *settings,
        "training.early_stopping={patience: 2, min_delta: 10.0}",
        "evaluation.metric_for_best=loss",
    )
    assert early.report.steps == 18


@pytest.mark.parametrize(("metric", "best"), [("loss", min), ("accuracy", max), ("f1", max), ("log_loss", min)])
def test_the_best_step_follows_metric_for_best_in_its_direction(
    tmp_path: Path, train_run: TrainRun, metric: str, best: Callable[..., Any]
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


def test_keep_bounds_the_checkpoints_beside_the_best(tmp_path: Path, train_run: TrainRun) -> None:
    trained = train_run(tmp_path, "checkpointing.every=1", "checkpointing.keep=3", "training.num_epochs=2")
    best = f"step-{trained.report.best_step:06d}"
    assert checkpoints(trained) == sorted({"step-000010", "step-000011", "step-000012", best})


def test_options_of_the_schedule_reach_it(tmp_path: Path, train_run: TrainRun) -> None:
    """Polynomial of power 2 from 1e-3 to 1e-7 over 6 updates (transformers' default lr_end)."""
    trained = train_run(
        tmp_path, "training.lr_scheduler=polynomial", "training.trainer_args.lr_scheduler_kwargs={power: 2.0}"
    )
    expected = [(1e-3 - 1e-7) * (1 - step / 6) ** 2 + 1e-7 for step in range(6)]
    assert [line["learning_rate"] for line in history(trained.run.path, "train")] == pytest.approx(expected)


def test_nonfinite_updates_end_the_run_or_are_skipped(tmp_path: Path, train_run: TrainRun) -> None:
    """Infinite class weights make every loss of that class infinite; the other rows' updates go on."""
    settings = ["training.class_weights={positive: 1e39}", "training.batch_size=1", "training.max_steps=6"]
    with pytest.raises(RunFailedError, match=r"the loss is (inf|nan)"):
        train_run(tmp_path / "error", *settings)
    skipped = train_run(tmp_path / "skip", *settings, "training.on_nonfinite=skip")
    every_loss = losses(skipped)
    assert len(every_loss) == 6
    assert None in every_loss
    assert any(loss is not None for loss in every_loss)
