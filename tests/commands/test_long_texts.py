"""Texts longer than the model, from config to files: what is found in them, and that rows are counted, not windows."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.export import export
from finetune_cli.commands.predict import predict
from finetune_cli.commands.prepare import prepare
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, MissingError
from finetune_cli.models.files import LONG_TEXTS_FILE
from tests.commands.conftest import train_from
from tests.commands.run_files import Answer, Trained, history, read_jsonl, same_weights, saved_scores
from tests.conftest import FILLERS, NEGATIVE, POSITIVE, write_rows

TrainRun = Callable[..., Trained]
WINDOWS = "data.long_texts={windows: {stride: 4}}"
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64, "max_position_embeddings": 24}
SCRATCH = {"from_scratch": {"vocab_size": 200, **SIZES}, "dropout": 0.0, "attention_dropout": 0.0}
HEAD_TAIL = "data.long_texts={head_tail: 0.25}"


def documents(folder: Path, rows: int, *, part: tuple[int, int], words: int = 80, telling: int = 6) -> Path:
    """Files whose texts say in `telling` words, between the numbers of `part`, which class they are of."""
    generator = random.Random(0)
    folder.mkdir()
    for split, count in (("train", rows), ("validation", rows // 2)):
        made = []
        for number in range(count):
            text, label = generator.choices(FILLERS, k=words), number % 2
            for place in generator.sample(range(*part), telling):
                text[place] = generator.choice((NEGATIVE, POSITIVE)[label])
            made.append({"sentence": " ".join(text), "label": label, "idx": f"{split}-{number}"})
        write_rows(folder / f"{split}.jsonl", made)
    return folder


def accuracy(trained: Trained) -> float:
    return float(saved_scores(trained.run.path)["metrics"]["accuracy"]["value"])


@pytest.fixture
def found(tmp_path: Path, train_run: TrainRun) -> Callable[..., float]:
    """found(part, setting) -> accuracy: of documents of 80 words, of which the model takes 22 at once."""

    def train(part: tuple[int, int], setting: str) -> float:
        data = tmp_path / f"data-{part[0]}"
        if not data.exists():
            documents(data, 80, part=part)
        settings: dict[str, Any] = {
            "model": SCRATCH,
            "data": {"path": str(data), "max_length": 24},
            "training": {"num_epochs": 4, "batch_size": 4, "learning_rate": 5e-3},
            "evaluation": {"baseline": False},
        }
        return accuracy(train_run(tmp_path / f"{part[0]} {len(setting)}", setting, **settings))

    return train


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "telling", "setting", "epochs", "finds"),
    [
        ((600, 2000), 450, "truncate", 8, False),
        ((600, 2000), 450, "{windows: {stride: 64}}", 8, True),
        ((2920, 3000), 12, "truncate", 16, False),
        ((2920, 3000), 12, "{head_tail: 0.25}", 16, True),
    ],
)
def test_documents_of_3000_words(
    tmp_path: Path, train_run: TrainRun, part: tuple[int, int], telling: int, setting: str, epochs: int, finds: bool
) -> None:
    """Read by a model of 128 tokens; 48 documents to score. With 12 telling words in place of 450 eight epochs are too
    few."""
    sizes = {**SIZES, "max_position_embeddings": 128}
    trained = train_run(
        tmp_path,
        f"data.long_texts={setting}",
        model={**SCRATCH, "from_scratch": {"vocab_size": 200, **sizes}},
        data={"path": str(documents(tmp_path / "documents", 96, part=part, words=3000, telling=telling))},
        training={"num_epochs": epochs, "learning_rate": 5e-3},
        evaluation={"baseline": False},
    )
    assert accuracy(trained) >= 0.95 if finds else accuracy(trained) <= 0.65


def test_windows_find_what_truncation_cuts_off(found: Callable[..., float]) -> None:
    """Of 40 rows of two equal classes; at chance 95 % have at most 26 right."""
    assert found((25, 60), "data.long_texts=truncate") <= 0.65
    assert found((25, 60), WINDOWS) >= 0.95


def test_head_tail_finds_what_is_at_the_end(found: Callable[..., float]) -> None:
    assert found((66, 80), "data.long_texts=truncate") <= 0.65
    assert found((66, 80), HEAD_TAIL) >= 0.95


PAIR_WORDS = ("good", "bad", "film", "meal", "very", "and", "it", "was", "then", "we")


def pair_rows(count: int, *, label: Callable[[int], Any], words: int = 60) -> list[dict[str, Any]]:
    """Two texts a row: the first of 3 words, the second of up to `words`, a third of them shorter than the model."""
    generator = random.Random(0)
    rows = []
    for number in range(count):
        length = generator.choice((4, words // 2, words))
        rows.append(
            {
                "first": " ".join(generator.choices(PAIR_WORDS, k=3)),
                "second": " ".join(generator.choices(PAIR_WORDS, k=length)),
                "label": label(number),
                "id": f"row-{number}",
            }
        )
    return rows


KINDS: dict[str, Callable[[int], Any]] = {
    "classification": lambda number: ("no", "yes", "perhaps")[number % 3],
    "multilabel": lambda number: (["long"], [], ["short", "odd"])[number % 3],
    "regression": lambda number: number / 7,
}


@pytest.fixture(scope="module")
def in_windows(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Callable[..., Trained]:
    """in_windows(kind) -> Trained: 22 pairs of texts, read in windows of 16 tokens; once for all tests."""
    runs: dict[str, Trained] = {}

    def trained(kind: str) -> Trained:
        if kind not in runs:
            folder = tmp_path_factory.mktemp(kind)
            for split, count in (("train", 22), ("validation", 11)):
                write_rows(folder / f"{split}.jsonl", pair_rows(count, label=KINDS[kind]))
            settings = {
                "task": kind,
                "model": {"name_or_path": str(tiny_bert)},
                "data": {
                    "path": str(folder),
                    "text": ["first", "second"],
                    "max_length": 16,
                    "long_texts": {"windows": {"stride": 4, "pool": "max" if kind == "multilabel" else "mean"}},
                },
                "training": {"num_epochs": 1, "batch_size": 8, "precision": "fp32", "loop": "accelerate"},
                "output_dir": str(folder / "run"),
            }
            file = folder / "config.yaml"
            file.write_text(yaml.safe_dump(settings), encoding="utf-8")
            runs[kind] = train_from(file)
        return runs[kind]

    return trained


def same_answers(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
    assert [row["id"] for row in rows] == [row["id"] for row in others]
    for row, other in zip(rows, others, strict=True):
        assert row["prediction"] == (
            other["prediction"]
            if isinstance(other["prediction"], str | list)
            else pytest.approx(other["prediction"], abs=1e-5)
        )
        if "probabilities" in other:
            assert row["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


@pytest.mark.parametrize("kind", list(KINDS))
def test_rows_are_counted_and_predict_answers_as_evaluate_did(in_windows: Callable[..., Trained], kind: str) -> None:
    trained = in_windows(kind)
    run, data = trained.run.path, Path(trained.config.data.path)
    assert [line["rows"] for line in history(run, "train")] == [8, 8, 6]
    assert saved_scores(run)["n"] == 11
    scored = read_jsonl(trained.run.evaluation("validation") / "predictions.jsonl")
    assert [row["id"] for row in scored] == [f"row-{number}" for number in range(11)]
    again = evaluate(run)
    logged = history(run, "eval")[-1]
    assert again.loss == pytest.approx(logged["loss"], rel=1e-5)
    assert {name: value.value for name, value in again.metrics.items()} == pytest.approx(
        {name: logged[name] for name in again.metrics}, rel=1e-5
    )
    same_answers(list(predict(run, data / "validation.jsonl", probabilities=True)), scored)
    assert (trained.run.evaluation("validation") / "report.html").is_file()


def test_a_stream_is_answered_as_a_file(in_windows: Callable[..., Trained], command: Callable[..., Answer]) -> None:
    trained = in_windows("classification")
    file = Path(trained.config.data.path) / "validation.jsonl"
    answer = command(["predict", trained.run.path, "-", "--probabilities"], stdin=file.read_bytes())
    assert answer.code == 0, answer.stderr
    scored = read_jsonl(trained.run.evaluation("validation") / "predictions.jsonl")
    same_answers([json.loads(line) for line in answer.stdout.splitlines()], scored)


def test_a_model_alone_reads_long_texts_as_its_run_did(tmp_path: Path, in_windows: Callable[..., Trained]) -> None:
    """The setting is stored beside the weights, and an exported directory has it, too."""
    trained = in_windows("classification")
    scored = read_jsonl(trained.run.evaluation("validation") / "predictions.jsonl")
    stored = json.loads((trained.run.model / LONG_TEXTS_FILE).read_text())
    assert stored == {"max_length": 16, "windows": {"stride": 4, "pool": "mean"}}
    alone = tmp_path / "model"
    shutil.copytree(trained.run.model, alone)
    rows = [
        {"sentence1": row["first"], "sentence2": row["second"], "label": row["label"], "id": row["id"]}
        for row in read_jsonl(Path(trained.config.data.path) / "validation.jsonl")
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    same_answers(list(predict(alone, tmp_path / "rows.jsonl", probabilities=True)), scored)
    assert evaluate(alone, data=tmp_path / "rows.jsonl").loss == pytest.approx(saved_scores(trained.run.path)["loss"])
    export(trained.run.path, tmp_path / "exported", file_format="safetensors")
    assert (tmp_path / "exported" / LONG_TEXTS_FILE).is_file()
    file = Path(trained.config.data.path) / "validation.jsonl"
    same_answers(list(predict(tmp_path / "exported", file, probabilities=True)), scored)
    (alone / LONG_TEXTS_FILE).write_text('{"max_length": 16, "windows": {"stride": "x"}}')
    with pytest.raises(MissingError, match=f"{LONG_TEXTS_FILE} cannot be used"):
        next(predict(alone, ["good"]))


def test_rows_that_fit_train_and_score_bit_for_bit_as_truncated(tmp_path: Path, train_run: TrainRun) -> None:
    plain = train_run(tmp_path / "plain", "data.max_length=40")
    for setting in (WINDOWS, HEAD_TAIL):
        other = train_run(tmp_path / str(len(setting)), "data.max_length=40", setting)
        assert history(other.run.path, "train") == history(plain.run.path, "train")
        assert same_weights(other.run.path, plain.run.path)
        scores = [run.run.evaluation("validation") / "predictions.jsonl" for run in (other, plain)]
        assert scores[0].read_bytes() == scores[1].read_bytes()


def test_prepare_says_what_is_lost_and_how_many_windows_there_are(
    tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rows = [{"sentence": "good " * 30, "label": 1}, {"sentence": "bad film", "label": 0}] * 6
    for split in ("train", "validation"):
        write_rows(data / f"{split}.jsonl", rows)
    config = write_config(tmp_path, data={"path": str(data), "max_length": 12})
    cut = command(["prepare", config]).stdout
    # Rows have 32 and 4 tokens; of the first 20 are lost.
    assert "cut off of train: 55.6% of all tokens (positive 62.5%, negative 0.0%)" in cut
    assert "data.long_texts: windows reads all of each text" in " ".join(cut.split())
    report = json.loads(command(["prepare", config, "--json"]).stdout)["splits"]["train"]
    assert (report["truncated"], report["lost_share"]) == (6, pytest.approx(20 / 36))
    assert report["lost_by_class"] == {"negative": 0, "positive": pytest.approx(20 / 32)}
    whole = command(["prepare", config, "-s", WINDOWS]).stdout
    # 10 tokens in a window, 6 further on each time: 30 take 5 windows.
    assert "windows of train: 36, 3.0 a row" in whole
    assert "cut off" not in whole
    assert "and cut" not in whole


def test_a_stride_as_long_as_a_window_is_refused_before_any_work(
    tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    """data.max_length is not given, so that the model's limit of 64 tokens decides."""
    data = documents(tmp_path / "long", 8, part=(20, 60))
    config = write_config(tmp_path, data={"path": str(data)})
    with pytest.raises(ConfigError, match=r"data.long_texts.windows.stride: 62, and a window of 64 tokens has 62"):
        prepare(load_config(config, ["data.long_texts={windows: {stride: 62}}"]))
    report = prepare(load_config(config, ["data.long_texts={windows: {stride: 61}}"])).report
    assert report.windows == {"train": 8 * 19, "validation": 4 * 19}
