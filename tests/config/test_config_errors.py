"""Bad configs: every mistake at once, each with its place, what is allowed, and what was probably meant."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, ExitCode, Problem

HEAD = "task: mrpc\nmodel: {name_or_path: m}\n"  # a right config in two lines; the cases add from line 3 on
TOKEN = "hf_" + "abcdefghijklmnopqrstuvwxyz01234567"
Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def write_config(content: str | bytes) -> Path:
        path = Path("c.yaml")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_config


def mistakes(path: Path, *overrides: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert caught.value.exit_code == ExitCode.CONFIG
    return caught.value.problems


def test_five_mistakes_are_all_shown_with_line_and_column(write: Write) -> None:
    path = write(
        "task: mrpc\n"
        "model:\n"
        "  name_or_path: bert-base-uncased\n"
        "training:\n"
        "  lr: 5e-5\n"
        "  batch_size: 0\n"
        "  num_epochs: three\n"
        "evaluation:\n"
        "  metrics: [f1, pearson]\n"
        "sed: 42\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).splitlines() == [
        "c.yaml: 5 mistakes",
        "c.yaml:5:3  training.lr: is called training.learning_rate here",
        "c.yaml:6:15  training.batch_size: 0 is out of range. Allowed: a whole number from 1",
        "c.yaml:7:15  training.num_epochs: 'three' is text. Allowed: a number above 0",
        "c.yaml:9:17  evaluation.metrics.1: pearson is a metric for regression, and this task is classification. "
        "Allowed: accuracy, f1, f1_macro, f1_micro, f1_weighted, matthews, precision, precision_macro, recall, "
        "recall_macro, auroc, log_loss, brier, ece, loss",
        "c.yaml:10:1  sed: unknown key. Allowed: checkpointing, data, evaluation, hub, model, output_dir, seed, task, "
        "tracking, training. Did you mean seed?",
    ]


@pytest.mark.parametrize(
    ("line", "column", "key", "message"),
    [
        # unknown, misplaced and foreign keys
        ("training: {learning_rat: 1}", 12, "training.learning_rat", "Did you mean learning_rate?"),
        ("trainig: {seed: 1}", 1, "trainig", "Did you mean training?"),
        ("learning_rate: 5e-5", 1, "learning_rate", "does not belong at the top. Write training.learning_rate"),
        ("data: {seed: 1}", 8, "data.seed", "does not belong to data. Write seed"),
        ("training: {every: 5}", 12, "training.every", "Write evaluation.every or checkpointing.every"),
        ("training: {num_train_epochs: 3}", 12, "training.num_train_epochs", "is called training.num_epochs here"),
        ("per_device_train_batch_size: 8", 1, "per_device_train_batch_size", "is called training.batch_size here"),
        (
            "training: {gradient_accumulation_steps: 2}",
            12,
            "training.gradient_accumulation_steps",
            "micro_batch_size here",
        ),
        ("data: {max_seq_length: 128}", 8, "data.max_seq_length", "is called data.max_length here"),
        ("training: {warmup_ratio: 0.1}", 12, "training.warmup_ratio", "is called training.warmup_steps here"),
        ("training: {fp16: true}", 12, "training.fp16", "is called training.precision here"),
        ("evaluation_strategy: epoch", 1, "evaluation_strategy", "is called evaluation.every here"),
        (
            "evaluation: {metric_for_best_model: f1}",
            14,
            "evaluation.metric_for_best_model",
            "evaluation.metric_for_best",
        ),
        ("training: {save_steps: 500}", 12, "training.save_steps", "is called checkpointing.every here"),
        ("training: {logging_steps: 10}", 12, "training.logging_steps", "every update is written to history.jsonl"),
        ("training: {adam_beta1: 0.9}", 12, "training.adam_beta1", "Write training.trainer_args.adam_beta1"),
        ("no_cuda: true", 1, "no_cuda", "ACCELERATE_USE_CPU=true"),
        ("overwrite_output_dir: true", 1, "overwrite_output_dir", "the option --overwrite does this"),
        ("tracking: [comet]", 12, "tracking.0", "Allowed: a list of tensorboard, wandb, mlflow and trackio"),
        # wrong types, as YAML 1.2 reads them
        ("training: {batch_size: 010}", 24, "training.batch_size", "a number has no leading zero. Write 10."),
        ("training: {batch_size: 0x10}", 24, "training.batch_size", "numbers are decimal. Write 16."),
        ("training: {batch_size: 1_000}", 24, "training.batch_size", "no underscores. Write 1000."),
        ("training: {max_steps: 12:30}", 23, "training.max_steps", "'12:30' is text. Allowed: a whole number from 1"),
        ("training: {batch_size: '8'}", 24, "training.batch_size", "text because of the quotes. Take them off"),
        ("training: {batch_size: 8.5}", 24, "training.batch_size", "8.5 is not a whole number"),
        ("training: {batch_size: 8.0}", 24, "training.batch_size", "8.0 is not written as a whole number"),
        (
            'training: {learning_rate: "1,0e-5"}',
            27,
            "training.learning_rate",
            "a decimal point, not a comma. Write 1.0e-5",
        ),
        ("training: {warmup_steps: 10%}", 26, "training.warmup_steps", "a share is written as a number. Write 0.1"),
        ("training: {learning_rate: true}", 27, "training.learning_rate", "true is a flag. Allowed: a number above 0"),
        ("training: {num_epochs: yes}", 24, "training.num_epochs", "'yes' is text. Allowed: a number above 0"),
        (
            "training: {learning_rate: [1]}",
            27,
            "training.learning_rate",
            "found a list of 1. Allowed: a number above 0",
        ),
        ("training: {learning_rate: null}", 27, "training.learning_rate", "has no value. Allowed: a number above 0"),
        (
            "training: {compile: on}",
            21,
            "training.compile",
            "on is text in YAML 1.2; write true. Allowed: true, false or auto",
        ),
        ("data: {label: 1.10}", 15, "data.label", '1.10 is read as a number; quote it if it is a text: "1.10"'),
        ("data: {label: true}", 15, "data.label", 'true is read as a flag; quote it if it is a text: "true"'),
        ("data: {id: 695e05}", 12, "data.id", 'quote it if it is a text: "695e05"'),
        ("data: {labels: [1, 2]}", 17, "data.labels.0", 'quote it if it is a text: "1"'),
        ("data: {labels: [one]}", 16, "data.labels", "found a list of 1. Allowed: a list of two or more class names"),
        ("data: {labels: {0: no, 1: yes}}", 17, "data.labels", "the key 0 is not text"),
        ("evaluation: {metrics: f1}", 23, "evaluation.metrics", "Allowed: a list of texts. Write ['f1']"),
        ("hub: user/name", 6, "hub", "Write {repo_id: user/name}"),
        ("data: {text: ''}", 14, "data.text", "found an empty text"),
        ("training: 3", 11, "training", "3 is a number. Allowed: a section with keys"),
        ("output_dir: ''", 13, "output_dir", "found an empty text. Allowed: text"),
        ("evaluation: {bootstrap: null}", 25, "evaluation.bootstrap", "has no value. Allowed: a section with keys"),
        # out of range, and not numbers at all
        (
            "training: {learning_rate: -1}",
            27,
            "training.learning_rate",
            "-1 is out of range. Allowed: a number above 0",
        ),
        ("training: {learning_rate: .nan}", 27, "training.learning_rate", ".nan is not a number here"),
        ("training: {weight_decay: .inf}", 26, "training.weight_decay", ".inf is not a number here"),
        ("training: {num_epochs: 0}", 24, "training.num_epochs", "0 is out of range"),
        ("training: {warmup_steps: 1.5}", 26, "training.warmup_steps", "a share of all updates such as 0.1"),
        ("data: {max_length: 0}", 20, "data.max_length", "0 is out of range. Allowed: a whole number from 4, or null"),
        ("seed: -1", 7, "seed", "-1 is out of range. Allowed: a whole number from 0 to 4294967295"),
        ("seed: 4294967296", 7, "seed", "4294967296 is out of range"),
        ("evaluation: {bootstrap: {level: 95}}", 33, "evaluation.bootstrap.level", "95 is out of range"),
        # words
        (
            "training: {lr_scheduler: cosin}",
            26,
            "training.lr_scheduler",
            "'cosin' is not known. Allowed: linear, cosine, ",
        ),
        ("training: {lr_scheduler: cosin}", 26, "training.lr_scheduler", "Did you mean cosine?"),
        ("training: {loop: accelerator}", 18, "training.loop", "Did you mean accelerate?"),
        (
            "evaluation: {every: epochs}",
            21,
            "evaluation.every",
            "'epochs' is not known. Allowed: epoch, or a whole number",
        ),
        ("data: {path: builtin:mrpc-mimi}", 14, "data.path", "Did you mean builtin:mrpc-mini?"),
        # combinations
        ("evaluation: {metrics: [f1, acuracy]}", 28, "evaluation.metrics.1", "'acuracy' is not a metric"),
        ("evaluation: {metrics: [f1, acuracy]}", 28, "evaluation.metrics.1", "Did you mean accuracy?"),
        ("evaluation: {metrics: [f1, f1]}", 28, "evaluation.metrics.1", "f1 is in the list twice"),
        ("evaluation: {metric_for_best: recall}", 31, "evaluation.metric_for_best", "not among evaluation.metrics"),
        ("evaluation: {metric_for_best: 'evaluate:x'}", 31, "evaluation.metric_for_best", "whether more is better"),
        (
            "training: {micro_batch_size: 16}",
            30,
            "training.micro_batch_size",
            "16 is more than training.batch_size (8)",
        ),
        ("training: {early_stopping: {patience: 1}, num_epochs: 1}", 28, "training.early_stopping", "this run has one"),
        ("training: {lr_scheduler: constant, warmup_steps: 5}", 50, "training.warmup_steps", "constant_with_warmup"),
        (
            "training: {max_steps: 5, warmup_steps: 5}",
            40,
            "training.warmup_steps",
            "is not below training.max_steps (5)",
        ),
        (
            "training: {loop: accelerate, trainer_args: {tf32: true}}",
            44,
            "training.trainer_args",
            "only training.loop: trainer",
        ),
        (
            "training: {trainer_args: {adam_beta1: 2}}",
            39,
            "training.trainer_args.adam_beta1",
            "2 is not what this takes",
        ),
        (
            "training: {trainer_args: {seed: 2}}",
            27,
            "training.trainer_args.seed",
            "has a key of its own here. Write seed",
        ),
        (
            "training: {trainer_args: {nope: 2}}",
            27,
            "training.trainer_args.nope",
            "is not a field of TrainingArguments",
        ),
        (
            "training: {class_weights: {yes: 2}}",
            28,
            "training.class_weights.yes",
            "Allowed: not_equivalent, equivalent",
        ),
        ("training: {class_weights: {equivalent: -2}}", 40, "training.class_weights.equivalent", "-2 is out of range"),
        ("data: {labels: [a, a]}", 20, "data.labels.1", "'a' is in the list twice"),
        (
            "data: {labels: [a, b, c]}",
            1,
            "evaluation.metrics.1",
            "f1 is for two classes, and this task has 3; use f1_macro",
        ),
        ("data: {text: [a, a]}", 14, "data.text", "two different columns"),
        ("data: {text: a}", 14, "data.text", "found 1, and task mrpc takes a pair: two columns"),
        ("data: {text: [a, b, c]}", 14, "data.text", "found a list of 3. Allowed: one column name, or a list of two"),
        ("data: {label: sentence1}", 15, "data.label", "the model would read the answer"),
        ("data: {splits: {train: 0.9}}", 24, "data.splits.train", "Allowed: a file"),
        ("data: {splits: {validation: 1.0}}", 29, "data.splits.validation", "a fraction of train between 0 and 1"),
        ("data: {splits: {dev: a.csv}}", 17, "data.splits.dev", "Write validation"),
        ("data: {splits: {validation: 0.6, test: 0.4}}", 16, "data.splits", "the fractions add up to 1"),
    ],
)
def test_a_mistake_says_where_and_what_is_allowed(write: Write, line: str, column: int, key: str, message: str) -> None:
    problem = mistakes(write(f"{HEAD}{line}\n"))[0]
    expected_line = 3 if column > 1 or "." not in key else 1  # a default that does not fit has no line of its own
    assert (problem.source, problem.line, problem.column, problem.key) == ("c.yaml", expected_line, column, key)
    assert message in problem.message


@pytest.mark.parametrize(
    ("text", "line", "column", "key", "message"),
    [
        ("model: {name_or_path: m}\n", 1, 1, "task", "is missing. Allowed: cola, sst2, mrpc"),
        ("task: mrcp\nmodel: {name_or_path: m}\n", 1, 7, "task", "'mrcp' is not a task. Allowed: cola,"),
        ("task: MRPC\nmodel: {name_or_path: m}\n", 1, 7, "task", "Did you mean mrpc?"),
        ("task: multi-label\nmodel: {name_or_path: m}\n", 1, 7, "task", "Did you mean multilabel?"),
        ("task: mrpc\n", 1, 1, "model.name_or_path", "is missing. Allowed: a Hub id"),
        ("task: mrpc\nmodel:\n", 2, 1, "model.name_or_path", "is missing"),
        ("task: mrpc\nmodel: {name: m}\n", 2, 1, "model.name_or_path", "is missing"),
        ("task: mrpc\nmodel: {name_or_path: package:x}\n", 2, 23, "model.name_or_path", "form package:NAME/FOLDER"),
        (
            "task: mrpc\nmodel: {name_or_path: m, from_scratch: {}}\n",
            2,
            40,
            "model.from_scratch",
            "Keep one of the two",
        ),
        (
            "task: mrpc\nmodel: {from_scratch: {hidden_size: 10, num_attention_heads: 3}}\n",
            2,
            37,
            "model.from_scratch.hidden_size",
            "10 is not a multiple of num_attention_heads (3)",
        ),
        (
            "task: mrpc\nmodel: {from_scratch: {}}\ndata: {max_length: 256}\n",
            3,
            20,
            "data.max_length",
            "256 is more than model.from_scratch.max_position_embeddings (128)",
        ),
        (
            "task: classification\nmodel: {name_or_path: m}\ndata: {text: a}\n",
            3,
            1,
            "data.path",
            "is missing. Allowed: a Hub id",
        ),
        (
            "task: classification\nmodel: {name_or_path: m}\ndata: {path: a}\n",
            3,
            1,
            "data.text",
            "is missing. Allowed: one col",
        ),
        (
            "task: sst2\nmodel: {name_or_path: m}\ndata: {truncation: only_second}\n",
            3,
            20,
            "data.truncation",
            "only_second needs two text columns",
        ),
        (
            "task: stsb\nmodel: {name_or_path: m}\ntraining: {label_smoothing: 0.1}\n",
            3,
            29,
            "training.label_smoothing",
            "a regression has no classes",
        ),
        (
            "task: stsb\nmodel: {name_or_path: m}\nevaluation: {metrics: [f1]}\n",
            3,
            24,
            "evaluation.metrics.0",
            "f1 is a metric for classification, and this task is regression. Allowed: pearson, spearman, mse, loss",
        ),
    ],
)
def test_a_config_that_is_wrong_as_a_whole(
    write: Write, text: str, line: int, column: int, key: str, message: str
) -> None:
    problem = mistakes(write(text))[0]
    assert (problem.line, problem.column, problem.key) == (line, column, key)
    assert message in problem.message


def test_an_unknown_task_is_one_mistake_and_not_its_consequences_too(write: Write) -> None:
    (problem,) = mistakes(write("task: nope\nmodel: {name_or_path: m}\nevaluation: {metrics: [pearson]}\n"))
    assert problem.key == "task"


def test_rules_between_fields_are_checked_beside_wrong_types(write: Write) -> None:
    path = write(f"{HEAD}training: {{micro_batch_size: 16, learning_rate: x}}\n")
    assert [problem.key for problem in mistakes(path)] == ["training.micro_batch_size", "training.learning_rate"]


def test_yaml_mistakes_and_schema_mistakes_are_shown_together(write: Write) -> None:
    path = write(f"{HEAD}seed: 1\nseed: 2\noutput_dir: *x\ntraining: {{batch_size: 0}}\n")
    assert [(problem.line, problem.key) for problem in mistakes(path)] == [
        (4, "seed"),
        (5, "output_dir"),
        (6, "training.batch_size"),
    ]


@pytest.mark.parametrize(
    ("content", "line", "column", "message"),
    [
        (b"", 1, 1, "the file is empty"),
        (b"task: mrpc\n\tseed: 1\n", 2, 1, "a tab stands here. Allowed: spaces"),
        ("task: caf\u00e9\n".encode("latin-1"), 1, 10, "byte 0xE9 at offset 9 is not UTF-8"),
        ("task: mrpc\n".encode("utf-16"), 1, 1, "the file is UTF-16 (offset 0)"),
        (b"task: mrpc\nseed: \x00\n", 2, 7, "a NUL byte at offset 17"),
        (b"- task\n", 1, 1, "the file holds a list"),
        (b"a: 1\n---\nb: 1\n", 2, 1, "One config a file"),
        (b"x" * 1_000_001, None, None, "larger than 1,000,000 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_mistake(
    write: Write, content: bytes, line: int | None, column: int | None, message: str
) -> None:
    (problem,) = mistakes(write(content))
    assert (problem.line, problem.column) == (line, column)
    assert message in problem.message


def test_a_missing_file_offers_the_one_that_was_meant(write: Write) -> None:
    write(HEAD).rename("mrpc.yaml")
    (problem,) = mistakes(Path("mprc.yaml"))
    assert str(problem) == "mprc.yaml  no such file. Did you mean mrpc.yaml?"


def test_a_directory_a_pipe_and_a_bad_parent_are_no_configs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    assert "is a directory" in mistakes(tmp_path)[0].message
    assert "is not a regular file" in mistakes(tmp_path / "pipe")[0].message
    assert "cannot be read" in mistakes(tmp_path / "file" / "c.yaml")[0].message


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_an_unreadable_file_says_why(write: Write) -> None:
    path = write(HEAD)
    path.chmod(0)
    assert "cannot be read (Permission denied)" in mistakes(path)[0].message


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("training.lr=1", "--set training.lr=1  training.lr: is called training.learning_rate here"),
        ("training.batch_size=0", "0 is out of range. Allowed: a whole number from 1"),
        (
            "seed",
            "--set seed  not of the form key=value. Allowed: a dotted key and a value, such as training.batch_size=16",
        ),
        ("=3", "not of the form key=value"),
        ("a..b=3", "not of the form key=value"),
        ("data.text=a: b", "data.text: a list is written [a, b] here. Quote a text that has ': ' in it"),
        ("data.text=[a", "data.text: not YAML: expected ',' or ']'"),
        ("data.path=*.csv", "data.path: not YAML: expected alphabetic or numeric character"),
        ("model.name_or_path=", "model.name_or_path: is missing"),
        ("seed=.nan", "seed: .nan is not a number here"),
    ],
)
def test_a_wrong_set_is_named_as_it_was_typed(write: Write, override: str, line: str) -> None:
    (problem,) = mistakes(write(HEAD), override)
    assert line in str(problem)
    assert str(problem).startswith(f"--set {override}")


def test_an_item_of_a_list_cannot_be_set(write: Write) -> None:
    (problem,) = mistakes(write(f"{HEAD}data: {{text: [a, b]}}\n"), "data.text.0=c")
    assert problem.message == "data.text is a list. Give the whole list, such as [a, b]"


def test_mistakes_of_the_file_come_before_those_of_set_in_their_order(write: Write) -> None:
    path = write(f"{HEAD}b: 1\na: 1\n")
    sources = [str(problem).split("  ")[0] for problem in mistakes(path, "z=1", "seed=x", "y=1")]
    assert sources == ["c.yaml:3:1", "c.yaml:4:1", "--set z=1", "--set seed=x", "--set y=1"]


def test_set_mends_a_mistake_of_the_file(write: Write) -> None:
    assert load_config(write(f"{HEAD}seed: x\n"), ["seed=3"]).seed == 3


@pytest.mark.parametrize(
    "line",
    [
        f"output_dir: {TOKEN}",
        f"hub_token: {TOKEN}",
        f"{TOKEN}: 1",
        f"data: {{labels: [a, {TOKEN}]}}",
        f"training: {{trainer_args: {{optim_args: 'token={TOKEN}'}}}}",
        "data: {path: 'https://me:pass" + "word@host/x.csv'}",
        f"seed: [{TOKEN}",
        f"training: {{class_weights: {{{TOKEN}: 1}}}}",
    ],
)
def test_a_secret_is_refused_and_never_repeated(write: Write, line: str) -> None:
    path = write(f"{HEAD}{line}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert TOKEN not in str(caught.value)
    assert "me:password" not in str(caught.value)


def test_a_secret_on_the_command_line_is_not_repeated(write: Write) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(HEAD), [f"model.revision={TOKEN}"])
    assert (
        str(caught.value)
        .splitlines()[1]
        .startswith("--set model.revision=<hidden>  model.revision: this looks like a token")
    )
    assert TOKEN not in str(caught.value)


def test_long_values_are_shortened(write: Write) -> None:
    (problem,) = mistakes(write(f"{HEAD}seed: {'x' * 500}\n"))
    assert len(problem.message) < 150
