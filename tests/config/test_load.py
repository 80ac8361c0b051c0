"""What a right config means: presets, precedence, `--set`, and the resolved file that reads back as itself."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from finetune_cli.config.dump import config_diff, to_yaml
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config
from finetune_cli.tasks import TASKS

MINIMAL = "task: mrpc\nmodel: {name_or_path: bert-base-uncased}\n"
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_config(text: str) -> Path:
        path = tmp_path / "c.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_config


def test_the_task_fills_in_data_and_metrics(write: Write) -> None:
    config = load_config(write(MINIMAL))
    assert (config.data.path, config.data.name) == ("nyu-mll/glue", "mrpc")
    assert config.data.text == ("sentence1", "sentence2")
    assert config.data.labels == ("not_equivalent", "equivalent")
    assert config.evaluation.metrics == ("accuracy", "f1")
    assert config.evaluation.metric_for_best == "f1"
    assert config.output_dir == "runs/mrpc"


@pytest.mark.parametrize("task", sorted(set(TASKS) - {"classification", "multilabel", "regression"}))
def test_every_glue_task_needs_no_more_than_a_model(write: Write, task: str) -> None:
    config = load_config(write(f"task: {task}\nmodel: {{name_or_path: m}}\n"))
    assert config.spec == TASKS[task]


def test_defaults_are_those_of_the_design(write: Write) -> None:
    training = load_config(write(MINIMAL)).training
    assert (training.loop, training.num_epochs, training.batch_size, training.learning_rate) == ("trainer", 3, 8, 5e-5)
    assert (training.micro_batch_size, training.batching, training.precision) == ("auto", "length", "auto")


def test_the_file_beats_the_preset_and_set_beats_the_file(write: Write) -> None:
    path = write(f"{MINIMAL}evaluation: {{metric_for_best: accuracy}}\nseed: 1\n")
    assert load_config(path).evaluation.metric_for_best == "accuracy"
    config = load_config(path, ["seed=2", "evaluation.metric_for_best=loss", "seed=3"])
    assert (config.seed, config.evaluation.metric_for_best) == (3, "loss")


def test_null_asks_for_the_preset(write: Write) -> None:
    config = load_config(write(f"{MINIMAL}evaluation: {{metrics: null}}\ndata: {{text: null, labels: null}}\n"))
    assert config.spec == TASKS["mrpc"]


def test_own_rows_drop_the_hub_configuration(write: Write) -> None:
    config = load_config(write(MINIMAL), ["data.path=rows/mrpc"])
    assert (config.data.path, config.data.name) == ("rows/mrpc", None)
    assert config.data.text == ("sentence1", "sentence2")


def test_the_best_metric_follows_the_metrics_that_are_computed(write: Write) -> None:
    assert load_config(write(MINIMAL), ["evaluation.metrics=[matthews]"]).evaluation.metric_for_best == "matthews"


def test_one_column_may_be_given_without_a_list(write: Write) -> None:
    config = load_config(write("task: classification\nmodel: {name_or_path: m}\ndata: {path: rows, text: body}\n"))
    assert config.data.text == ("body",)


def test_a_train_file_is_path_enough(write: Write) -> None:
    text = (
        "task: classification\nmodel: {name_or_path: m}\ndata: {text: body, splits: {train: a.csv, validation: 0.2}}\n"
    )
    assert load_config(write(text)).data.path == "a.csv"


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("training.learning_rate=1e-5", 1e-5),
        ("training.early_stopping.patience=2", 2),
        ("training.class_weights.equivalent=2", 2.0),
        ("data.text=[a, b]", ("a", "b")),
        ("data.splits={validation: 0.1}", {"validation": 0.1}),
        ("model.revision='1.10'", "1.10"),
        ("training.max_grad_norm=", None),
        ("training.trainer_args.optim=adafactor", "adafactor"),
        ("data.path=a=b", "a=b"),
    ],
)
def test_set_takes_a_dotted_key_and_a_yaml_value(write: Write, override: str, value: object) -> None:
    found: object = load_config(write(MINIMAL), [override])
    for part in override.partition("=")[0].split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    assert found == value


def test_labels_named_no_and_yes_are_texts(write: Write) -> None:
    assert load_config(write(f"{MINIMAL}data: {{labels: [no, yes]}}\n")).data.labels == ("no", "yes")


def test_metrics_of_the_evaluate_library_are_taken_by_name(write: Write) -> None:
    config = load_config(write(MINIMAL), ['evaluation.metrics=[f1, "evaluate:./mine"]'])
    assert config.evaluation.metrics == ("f1", "evaluate:./mine")


def test_a_config_cannot_be_changed_after_loading(write: Write) -> None:
    config = load_config(write(MINIMAL))
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1  # type: ignore[misc]


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_config(path).task == "mrpc"


def test_the_resolved_config_reads_back_as_itself(write: Write) -> None:
    overrides = [
        "model.from_scratch={hidden_size: 32}",
        "model.name_or_path=null",
        "training.class_weights={equivalent: 2}",
        "training.early_stopping.patience=3",
        "training.warmup_steps=0.1",
        "training.trainer_args={adam_beta1: 0.8, lr_scheduler_kwargs: {power: 2}}",
        "data.splits={train: a.csv, validation: 0.1}",
        "checkpointing.every=null",
    ]
    config = load_config(write(MINIMAL), overrides)
    assert load_config(write(to_yaml(config))) == config


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.one_of(
        st.sampled_from(
            ["1e5", "1.10", "no", "012", "null", "~", "2026-11-20", "12:30", "a: b", "# x", " x ", "*a", "=", "<<"]
        ),
        st.text(
            st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"], exclude_characters="\ufeff"), min_size=1
        ),
    )
)
def test_any_text_survives_the_resolved_config(write: Write, text: str) -> None:
    config = load_config(write(MINIMAL))
    changed = config.model_copy(update={"output_dir": text})
    assert load_config(write(to_yaml(changed))).output_dir == text


def test_config_diff_names_the_keys_that_differ(write: Write) -> None:
    first = load_config(write(MINIMAL))
    second = load_config(write(MINIMAL), ["seed=7", "data.text=[a, b]", "training.early_stopping.patience=1"])
    assert config_diff(first, first) == []
    assert config_diff(first, second) == [
        ("data.text", ("sentence1", "sentence2"), ("a", "b")),
        ("seed", 42, 7),
        ("training.early_stopping.patience", None, 1),
        ("training.early_stopping.min_delta", None, 0.0),
    ]


def test_every_field_says_what_it_is() -> None:
    sections = [RunConfig]
    for section in sections:
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"
            sections += [
                kind for kind in (field.annotation,) if isinstance(kind, type) and hasattr(kind, "model_fields")
            ]


def test_loading_imports_nothing_heavy(write: Write) -> None:
    code = (
        "import sys\n"
        "heavy = {'torch', 'numpy', 'transformers', 'pyarrow', 'datasets'}\n"
        "from finetune_cli.config.load import load_config\n"
        "from finetune_cli.errors import ConfigError\n"
        "load_config(sys.argv[1])\n"
        "try: load_config(sys.argv[1], ['training.lr=1'])\n"
        "except ConfigError: print(sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(write(MINIMAL))], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
