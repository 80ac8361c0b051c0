"""Reports of real runs: written by train and evaluate, with the texts and columns of the data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.prepare import prepare
from finetune_cli.commands.train import train
from finetune_cli.config.dump import to_yaml
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, DataError
from finetune_cli.report.write import write_report
from finetune_cli.runs.run_dir import RunDir
from tests.commands.run_files import Answer, Trained, read_jsonl


def with_columns(make_dataset: Callable[..., Path], directory: Path) -> Path:
    """make_dataset's rows with a column of sources, and one that only train has."""
    make_dataset(directory)
    for file in directory.glob("*.jsonl"):
        rows = [{**row, "source": "web" if row["idx"] % 3 else "<mail>"} for row in read_jsonl(file)]
        if file.stem == "train":
            rows = [{**row, "only_train": 1} for row in rows]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return directory


def pages(run: Path, split: str = "validation") -> tuple[str, str]:
    folder = run / "eval" / split
    return tuple((folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))


def test_train_and_evaluate_write_the_same_report(
    tmp_path: Path, train_run: Callable[..., Trained], make_dataset: Callable[..., Path]
) -> None:
    data = with_columns(make_dataset, tmp_path / "rows")
    trained = train_run(
        tmp_path, data={"path": str(data)}, evaluation={"slices": ["source"]}, training={"num_epochs": 2}
    )
    html, markdown = pages(trained.run.path)
    texts = [row["sentence"] for row in read_jsonl(data / "validation.jsonl")]
    assert any(text in html for text in texts)
    assert any(text in markdown for text in texts)
    assert "&lt;mail&gt;" in html
    assert "<mail>" not in html
    for part in ("Learning curves", "Score by group", "Calibration"):
        assert part in html
    assert f"The model of update {trained.report.best_step} was kept" in html
    for name in ("report.html", "report.md"):
        (trained.run.evaluation("validation") / name).unlink()
    evaluate(trained.run.path)
    assert pages(trained.run.path) == (html, markdown)


def test_a_line_of_the_history_that_was_cut_off_costs_the_page_nothing(
    tmp_path: Path, learned: Callable[..., Trained]
) -> None:
    run = RunDir(shutil.copytree(learned("sst2").run.path, tmp_path / "run"))
    before = pages(run.path)
    with run.history.open("a", encoding="utf-8") as file:
        file.write('{"type": "train", "ste')
    evaluate(run.path)
    assert pages(run.path) == before


def test_slices_act(tmp_path: Path, learned: Callable[..., Trained]) -> None:
    run = shutil.copytree(learned("sst2").run.path, tmp_path / "run")
    evaluate(run)
    assert "By idx" not in pages(run)[0]
    evaluate(run, overrides=["evaluation.slices=[idx]"])
    assert "By idx" in pages(run)[0]
    assert "| idx | rows |" in pages(run)[1]


def test_a_column_that_is_not_there_is_refused_before_training(
    tmp_path: Path, write_config: Callable[..., Path], make_dataset: Callable[..., Path]
) -> None:
    data = with_columns(make_dataset, tmp_path / "rows")
    config = load_config(write_config(tmp_path, data={"path": str(data)}, evaluation={"slices": ["only_train"]}))
    for verb in (prepare, train):
        with pytest.raises(DataError, match=r"'only_train'; found 'sentence', 'label', 'idx', 'source'"):
            verb(config)
    assert not Path(config.output_dir, "run.json").exists()


def test_a_file_without_the_column_is_refused(tmp_path: Path, learned: Callable[..., Trained]) -> None:
    file = tmp_path / "more.csv"
    file.write_text("sentence,label\na good film,1\na bad film,0\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"expected the column 'source'; found 'sentence', 'label'"):
        evaluate(learned("sst2").run.path, data=file, overrides=["evaluation.slices=[source]"])


@pytest.mark.parametrize(("slices", "message"), [("[sentence]", "text column"), ("[idx, idx]", "twice")])
def test_slices_that_make_no_sense_are_config_errors(
    tmp_path: Path, write_config: Callable[..., Path], slices: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write_config(tmp_path, data={"text": "sentence"}), [f"evaluation.slices={slices}"])


def test_a_labelled_file_has_a_report_of_its_own(tmp_path: Path, learned: Callable[..., Trained]) -> None:
    run = shutil.copytree(learned("sst2").run.path, tmp_path / "run")
    file = tmp_path / "more.csv"
    file.write_text("sentence,label\n" + "a good film,0\na sad talk,1\n" * 5, encoding="utf-8")
    evaluate(run, data=file)
    html, _ = pages(run, "file-more")
    assert "Evaluation on the split file-more, 10 rows" in html
    assert "could not be read again" not in html


@pytest.mark.parametrize("change", ["gone", "fewer", "others"])
def test_rows_that_changed_after_scoring_are_named_by_id(
    tmp_path: Path, learned: Callable[..., Trained], change: str
) -> None:
    run = RunDir(shutil.copytree(learned("sst2").run.path, tmp_path / "run"))
    data = shutil.copytree(learned("sst2").config.data.path, tmp_path / "data")
    config = load_config(run.config, [f"data.path={data}"])
    prepared = prepare(config)
    file = data / "validation.jsonl"
    rows = read_jsonl(file)
    if change == "gone":
        shutil.rmtree(data)
    else:
        changed = rows[:-1] if change == "fewer" else [{**row, "idx": row["idx"] + 100} for row in rows]
        file.write_text("".join(json.dumps(row) + "\n" for row in changed), encoding="utf-8")
    write_report(run, config, prepared, learned("sst2").report.evaluations[0])
    for page in pages(run.path):
        assert "could not be read again" in page
        assert ("does not exist" if change == "gone" else "have changed since they were scored") in page
        assert not any(row["sentence"] in page for row in rows)


def test_compare_writes_a_page(tmp_path: Path, learned: Callable[..., Trained], command: Callable[..., Answer]) -> None:
    """The other run has another learning rate, and three of its answers turned over."""
    first = learned("sst2").run
    other = RunDir(shutil.copytree(first.path, tmp_path / "other"))
    other.config.write_text(to_yaml(load_config(other.config, ["training.learning_rate=1e-5"])), encoding="utf-8")
    file = other.evaluation("validation") / "predictions.jsonl"
    rows = read_jsonl(file)
    for row in rows[:3]:
        names = list(row["probabilities"])
        row["prediction"] = names[1 - names.index(row["prediction"])]
        row["probabilities"] = dict(zip(names, reversed(row["probabilities"].values()), strict=True))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    now_right = sum(row["prediction"] == row["label"] for row in rows[:3])
    answer = command(["compare", first.path, other.path, "--html", tmp_path / "page.html"])
    assert answer.code == 0, answer.stderr
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "training.learning_rate" in html
    assert f"only A is right in {3 - now_right}, only B in {now_right}" in html
    texts = [row["sentence"] for row in read_jsonl(Path(learned("sst2").config.data.path, "validation.jsonl"))]
    assert [text in html for text in texts] == [row < 3 for row in range(len(texts))]


def test_compare_explains_a_page_that_cannot_be_written(
    tmp_path: Path, learned: Callable[..., Trained], command: Callable[..., Answer]
) -> None:
    run = learned("sst2").run.path
    other = shutil.copytree(run, tmp_path / "other")
    (tmp_path / "file").write_text("", encoding="utf-8")
    answer = command(["compare", run, other, "--html", tmp_path / "file" / "page.html"])
    assert answer.code == 2
    assert "--html" in answer.stderr
    assert "Traceback" not in answer.stderr
