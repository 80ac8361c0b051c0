"""finetune init: what it finds, what it asks, and that the config it writes trains as it stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.commands.drafts.lengths import Lengths
from finetune_cli.commands.drafts.model import other_language
from finetune_cli.commands.init import init
from finetune_cli.commands.train import train
from finetune_cli.config.draft import SCHEMA_LINE
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config
from finetune_cli.config.sections.data import ChecksConfig
from finetune_cli.data.survey.proof import CHECKS, RowCheck
from finetune_cli.errors import ConfigError, DataError
from finetune_cli.records.init import InitReport
from tests.commands.data_shapes import NAMED, SHAPES, lines, reviews, table
from tests.commands.run_files import Answer

QUICK = ["training.num_epochs=1", "evaluation.bootstrap.samples=0", "training.early_stopping=null"]
IN_THE_DEFAULT_SUITE = ("semicolon", "a|b", "pair", "five rows", "numbers with decimals")


def look_at(tmp_path: Path, shape: str, tiny_bert: Path, **options: Any) -> tuple[InitReport, RunConfig]:
    made = SHAPES[shape]
    data = made.write(tmp_path)
    report = init(str(data), output=tmp_path / "config.yaml", model=str(tiny_bert), **made.options, **options)
    return report, load_config(report.config)


def value_of(config: RunConfig, key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = getattr(found, part)
    return found[0] if key == "data.text" and len(found) == 1 else found


@pytest.mark.parametrize("shape", SHAPES)
def test_finds_text_label_and_task(shape: str, tmp_path: Path, tiny_bert: Path) -> None:
    report, config = look_at(tmp_path, shape, tiny_bert)
    expected = SHAPES[shape].expected
    assert {key: value_of(config, key) for key in expected} == expected
    assert tuple(question.partition(":")[0] for question in report.questions) == SHAPES[shape].asks


@pytest.mark.parametrize(
    "shape", [pytest.param(name, marks=() if name in IN_THE_DEFAULT_SUITE else pytest.mark.slow) for name in SHAPES]
)
def test_the_written_config_trains_as_it_stands(
    shape: str, tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report, _ = look_at(tmp_path, shape, tiny_bert)
    finished = train(load_config(report.config, QUICK))
    assert finished.steps >= 1
    assert sum(evaluation.n for evaluation in finished.evaluations) >= 1


def test_the_conversion_keeps_every_text(tmp_path: Path, tiny_bert: Path) -> None:
    texts = [f'"{text}"; né\n\t{text}' for text, _ in NAMED]
    data = table(["text", "label"], zip(texts, ["a", "b"] * 20, strict=True), separator=";", encoding="utf-16")(
        tmp_path
    )
    report = init(str(data), output=tmp_path / "c.yaml", model=str(tiny_bert))
    converted = report.written[-1]
    assert [json.loads(line)["text"] for line in converted.read_text(encoding="utf-8").splitlines()] == texts
    assert load_config(report.config).data.path == str(converted)


def test_what_the_user_says_counts_and_is_not_asked(tmp_path: Path, tiny_bert: Path) -> None:
    rows = [
        {"title": text, "body": text + " again", "stars": n % 5, "kind": label} for n, (text, label) in enumerate(NAMED)
    ]
    data = lines(rows)(tmp_path)
    report = init(
        str(data), output=tmp_path / "c.yaml", model=str(tiny_bert), text=["title", "body"], label=["stars"],
        task="regression",
    )  # fmt: skip
    config = load_config(report.config)
    assert (config.task, config.data.text, config.data.label) == ("regression", ("title", "body"), "stars")
    assert report.questions == ()


def test_several_columns_that_could_be_the_label_are_a_question(tmp_path: Path, tiny_bert: Path) -> None:
    rows = [{"text": text, "source": "ab"[n % 2], "mood": label} for n, (text, label) in enumerate(NAMED)]
    report = init(str(lines(rows)(tmp_path)), output=tmp_path / "c.yaml", model=str(tiny_bert))
    assert "--label" in report.questions[0]
    assert "# question: is it this column?" in report.config.read_text(encoding="utf-8")


def test_what_looks_like_several_labels_or_a_split_is_a_question(tmp_path: Path, tiny_bert: Path) -> None:
    kinds = ("a", "b", "a, b")
    rows = [{"text": t, "tags": kinds[n % 3], "split": ("train", "test")[n % 2]} for n, (t, _) in enumerate(NAMED)]
    report = init(str(lines(rows)(tmp_path)), output=tmp_path / "c.yaml", model=str(tiny_bert), label=["tags"])
    assert [question.partition(":")[0] for question in report.questions] == ["data.splits", "data.label"]
    assert "--task multilabel" in report.questions[1]


def test_max_length_and_checks_come_from_the_data(tmp_path: Path, tiny_bert: Path) -> None:
    rows = [{"text": "a film " * 6, "label": label} for _, label in NAMED] + [{"text": " ", "label": "negative"}]
    rows += [{"text": "<br>it is bad " + "a" * n, "label": "negative"} for n in range(2)]
    report = init(str(lines(rows)(tmp_path)), output=tmp_path / "c.yaml", model=str(tiny_bert))
    config = load_config(report.config)
    assert config.data.max_length == 64  # more than these rows have: new texts may be longer
    assert (config.data.checks.empty_text, config.data.checks.encoding) == ("warn", "error")
    text = report.config.read_text(encoding="utf-8")
    assert "empty_text: warn # 1 row without a text" in text
    assert "contradictions: warn # " in text
    assert "markup: warn # 2 rows" in text


def test_a_check_that_is_added_to_the_second_pass_is_written_with_its_words(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = RowCheck(lambda scan, repeats: len(repeats.same) + 2, "of a new kind")
    monkeypatch.setitem(CHECKS, "long_rows", added)
    report, config = look_at(tmp_path, "comma", tiny_bert)
    assert config.data.checks.long_rows == "warn"
    assert "    long_rows: warn # 2 rows of a new kind\n" in report.config.read_text(encoding="utf-8")


def test_every_check_of_the_second_pass_is_a_setting() -> None:
    assert ChecksConfig.model_fields.keys() >= CHECKS.keys()


def test_max_length_has_room_for_all_rows_or_for_all_but_a_few_long_ones() -> None:
    assert Lengths(usual=80, longest=100, limit=512, counted_by="a tokenizer", rows=9).max_length == 112
    assert Lengths(usual=80, longest=900, limit=512, counted_by="a tokenizer", rows=9).max_length == 80
    assert Lengths(usual=80, longest=100, limit=512, counted_by=None, rows=9).max_length == 128  # an estimate
    assert Lengths(usual=9, longest=12, limit=512, counted_by="a tokenizer", rows=9).max_length == 64
    assert Lengths(usual=9, longest=12, limit=32, counted_by="a tokenizer", rows=9).max_length == 32


def test_max_length_is_never_more_than_the_model_takes(tmp_path: Path, tiny_bert: Path) -> None:
    rows = [{"text": "a film " * 300, "label": label} for _, label in NAMED]
    report = init(str(lines(rows)(tmp_path)), output=tmp_path / "c.yaml", model=str(tiny_bert))
    assert load_config(report.config).data.max_length == 64


def test_a_model_that_is_not_here_is_no_hindrance(tmp_path: Path) -> None:
    data = table(["text", "label"], NAMED)(tmp_path)
    report = init(str(data), output=tmp_path / "c.yaml", model="someone/not-here", offline=True)
    config = load_config(report.config)
    assert config.model.name_or_path == "someone/not-here"
    assert config.data.max_length is not None
    assert "estimated" in report.config.read_text(encoding="utf-8")


def test_other_languages_get_a_model_that_reads_them(tmp_path: Path) -> None:
    rows = [(f"хороший фильм номер {n}" if n % 2 else f"плохой фильм номер {n}", n % 2) for n in range(30)]
    report = init(str(table(["text", "label"], rows)(tmp_path)), output=tmp_path / "c.yaml", offline=True)
    assert "multilingual" in load_config(report.config).model.name_or_path
    assert "from the Hugging Face Hub, 542 MB" in report.config.read_text(encoding="utf-8")
    assert report.questions


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (table(["text", "other"], [(text, "same") for text, _ in NAMED]), "no column looks like a label"),
        (table(["text"], [(text,) for text, _ in NAMED]), "no column looks like a label"),
        (table(["a", "label"], [(n, n % 2) for n in range(20)]), "no column looks like a text"),
        (table(["text", "label"], [("a b", "x"), ("c d", "y")]), "no class has two"),
        (table(["text", "label"], [(text, "") for text, _ in NAMED]), "label"),
        (table(["text", "label"], [*NAMED, ("x",)]), "line 42: expected 2 fields"),
        (table(["text", "label"], [*NAMED, ("x",)], separator=";"), "line 42: expected 2 fields"),
        (
            lines([{"text": text, "label": label} for text, label in NAMED] + [{"text": None, "label": "negative"}]),
            "row 41",
        ),
        (table(None, []), "is empty"),
        (lambda folder: folder / "nowhere.csv", "does not exist"),
    ],
)
def test_data_that_cannot_be_trained_on_are_refused_and_nothing_is_left(
    write: Callable[[Path], Path], message: str, tmp_path: Path, tiny_bert: Path
) -> None:
    data = write(tmp_path)
    before = set(tmp_path.iterdir())
    with pytest.raises(DataError) as error:
        init(str(data), output=tmp_path / "c.yaml", model=str(tiny_bert))
    assert message in str(error.value)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_rows_without_labels_are_made_readable_for_predict(encoding: str, tmp_path: Path, tiny_bert: Path) -> None:
    texts = [f"für dich, Nummer {number}" for number in range(20)]
    data = table(["text"], [[text] for text in texts], encoding=encoding)(tmp_path)
    for _ in range(2):  # its own copy is no hindrance
        with pytest.raises(DataError) as error:
            init(str(data), output=tmp_path / "c.yaml", model=str(tiny_bert))
        copy = tmp_path / "reviews.utf8.jsonl"
        assert "no column looks like a label" in str(error.value)
        assert f"finetune predict RUN|MODEL {copy}" in str(error.value)
        assert [json.loads(line)["text"] for line in copy.read_text(encoding="utf-8").splitlines()] == texts
    assert not (tmp_path / "c.yaml").exists()


def test_a_wrong_column_name_is_met_with_the_columns(tmp_path: Path) -> None:
    data = table(["text", "label"], NAMED)(tmp_path)
    with pytest.raises(DataError, match=r"--text txt: .* has the columns text, label. Did you mean 'text'"):
        init(str(data), output=tmp_path / "c.yaml", text=["txt"])


@pytest.mark.parametrize("there", ["config.yaml", "reviews.utf8.jsonl"])
def test_nothing_is_overwritten(there: str, tmp_path: Path, tiny_bert: Path) -> None:
    data = table(["text", "label"], NAMED, separator=";")(tmp_path)
    (tmp_path / there).write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not overwritten"):
        init(str(data), output=tmp_path / "config.yaml", model=str(tiny_bert))
    assert (tmp_path / there).read_text(encoding="utf-8") == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"reviews.csv", there})


def test_its_own_conversion_is_no_hindrance_at_the_second_try(tmp_path: Path, tiny_bert: Path) -> None:
    data = table(["text", "label"], NAMED, separator=";")(tmp_path)
    first = init(str(data), output=tmp_path / "config.yaml", model=str(tiny_bert))
    made = tmp_path / "reviews.utf8.jsonl"
    before = made.stat().st_mtime_ns
    again = init(str(data), output=tmp_path / "other.yaml", model=str(tiny_bert))
    assert load_config(again.config).data.path == load_config(first.config).data.path == str(made)
    assert (made.stat().st_mtime_ns, made in again.written) == (before, False)
    with pytest.raises(DataError):
        init(str(data), output=tmp_path / "third.yaml", label=["nowhere"])
    assert made.exists()
    table(["text", "label"], NAMED[:30], separator=";")(tmp_path)
    with pytest.raises(ConfigError, match=r"holds other rows and is not overwritten\. Move or delete it"):
        init(str(data), output=tmp_path / "fourth.yaml", model=str(tiny_bert))


def test_messages_name_the_file_that_the_user_has(tmp_path: Path, tiny_bert: Path) -> None:
    data = table(["text", "other"], [(text, "same") for text, _ in NAMED], separator=";")(tmp_path)
    with pytest.raises(DataError, match=r"reviews\.csv: no column looks like a label"):
        init(str(data), output=tmp_path / "c.yaml", model=str(tiny_bert))


def test_data_that_are_not_there_come_before_a_config_that_is(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError) as error:
        init(str(tmp_path / "missing.csv"), output=tmp_path / "config.yaml")
    assert str(error.value).startswith(f"{tmp_path}/missing.csv does not exist")


def test_two_spellings_of_a_class_are_a_question(tmp_path: Path, tiny_bert: Path) -> None:
    rows = [(text, ("Good", "good", "bad", " bad")[n % 4]) for n, (text, _) in enumerate(NAMED)]
    report = init(str(table(["text", "label"], rows)(tmp_path)), output=tmp_path / "c.yaml", model=str(tiny_bert))
    (question,) = report.questions
    assert "are ' bad' and 'bad', 'Good' and 'good' one class?" in question
    assert f"# question: {question.partition(': ')[2]}" in report.config.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("texts", "shows"),
    [
        (["The café was good and I liked the crème brûlée of it", "not for me"], None),
        (["Great!", "café"], None),
        (["naïve"], None),
        (["Świetna książka, gorąco polecam", "Słabe zakończenie, dłużąca się fabuła, żałuję zakupu"] * 3, "20%"),
        (["Das Buch ist nicht gut", "sehr schlecht und teuer"], "German"),
        (["Le livre est très bon", "pas pour moi"], "French"),
        (["El producto es muy bueno y lo uso"], "Spanish"),
        (["Het boek is niet goed"], "Dutch"),
        (["хороший фильм", "плохой фильм"], "100%"),
        (["素晴らしい映画でした"], "100%"),
        (["", "12 34"], None),
    ],
)
def test_the_language_is_told_by_common_words_then_by_letters(texts: list[str], shows: str | None) -> None:
    found = other_language(texts)
    assert found is None if shows is None else shows in str(found)


def test_the_command_shows_choices_questions_and_what_to_type_next(
    command: Callable[..., Answer], tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    SHAPES["stars"].write(tmp_path)
    answer = command(["init", "reviews.csv", "--model", tiny_bert])
    assert (answer.code, answer.stderr) == (0, "")
    assert "  data.label: stars  (called so; rows of each class: 1 " in answer.stdout
    assert "  ? task: classes, or steps of one scale?" in answer.stdout
    commands = [line.strip() for line in answer.stdout.splitlines() if line.startswith("  finetune ")]
    assert [line.split()[1] for line in commands] == ["prepare", "train", "predict"]
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8").startswith(f"{SCHEMA_LINE}\n")
    assert json.loads((tmp_path / "finetune.schema.json").read_text(encoding="utf-8"))["properties"]["task"]


def test_after_folders_of_texts_a_folder_is_labelled_next(tmp_path: Path, tiny_bert: Path) -> None:
    for name in ("spam", "ham"):
        (tmp_path / "mails" / name).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "mails" / name / f"{number}.txt").write_text(f"{name} mail {number}", encoding="utf-8")
    report = init(str(tmp_path / "mails"), output=tmp_path / "c.yaml", model=str(tiny_bert))
    assert report.next[-1] == "finetune predict runs/mails FOLDER"


def test_quiet_says_only_what_was_written(command: Callable[..., Answer], tmp_path: Path, tiny_bert: Path) -> None:
    data = table(["text", "label"], NAMED, separator=";")(tmp_path)
    config = tmp_path / "config.yaml"
    answer = command(["init", data, "-o", config, "--model", tiny_bert, "-q"])
    assert answer.code == 0, answer.stderr
    written = f"Wrote {config}, {tmp_path / 'finetune.schema.json'}, {tmp_path / 'reviews.utf8.jsonl'}."
    assert (answer.stdout, answer.stderr) == (f"{written}\n", "")


def test_the_result_as_json(command: Callable[..., Answer], tmp_path: Path, tiny_bert: Path) -> None:
    data = SHAPES["comma"].write(tmp_path)
    answer = command(["init", data, "--model", tiny_bert, "-o", tmp_path / "c.yaml", "--json"])
    result = json.loads(answer.stdout)
    assert {choice["key"]: choice["value"] for choice in result["choices"]}["data.text"] == "text"
    assert len(result["next"]) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Nothing to look at"),
        (["a.csv", "--sample"], "Keep one"),
        (["--sample", "--task", "mrpc"], "Keep one"),
        (["--task", "mrcp"], "Did you mean mrpc?"),
        (["--task", "classification"], "name your data as well"),
        (["--task", "mrpc", "--text", "a"], "--text goes with data"),
        (["--from", "nowhere.json"], "cannot be read"),
    ],
)
def test_a_wrong_command_says_what_to_type(words: list[str], message: str, command: Callable[..., Answer]) -> None:
    answer = command(["init", *words])
    assert answer.code == 2
    assert message in answer.stderr


def test_a_glue_task_and_the_sample_rows(command: Callable[..., Answer], tmp_path: Path) -> None:
    assert command(["init", "--task", "mrpc", "-o", tmp_path / "mrpc.yaml"]).code == 0
    mrpc = load_config(tmp_path / "mrpc.yaml")
    assert (mrpc.data.text, mrpc.evaluation.metric_for_best) == (("sentence1", "sentence2"), "f1")
    assert command(["init", "--sample", "-o", tmp_path / "sample.yaml"]).code == 0
    sample = load_config(tmp_path / "sample.yaml")
    assert (sample.task, sample.data.path, sample.data.splits) == ("sst2", "builtin:sst2-mini", None)


def test_a_data_set_of_the_hub_in_the_cache(tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import pyarrow as pa

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "some___moods" / "default" / "0.0.0" / "c0ffee"
    folder.mkdir(parents=True)
    label = datasets.ClassLabel(names=["sad", "glad"])
    features = datasets.Features({"text": datasets.Value("string"), "mood": label})
    info = datasets.DatasetInfo(features=features, splits={split: {"name": split} for split in ("train", "dev")})
    info.write_to_directory(folder)
    table_of_rows = pa.table({"text": [text for text, _ in reviews()], "mood": [label for _, label in reviews()]})
    for split in ("train", "dev"):
        with pa.ipc.new_stream(folder / f"moods-{split}.arrow", table_of_rows.schema) as writer:
            writer.write_table(table_of_rows)
    report = init("some/moods", output=tmp_path / "c.yaml", model=str(tiny_bert), offline=True)
    config = load_config(report.config)
    assert (config.data.path, config.data.label, config.data.splits) == ("some/moods", "mood", {"validation": "dev"})
    assert "rows of each class: sad " in report.config.read_text(encoding="utf-8")
    assert train(load_config(report.config, [*QUICK, f"output_dir={tmp_path / 'run'}"]), offline=True).steps >= 1
