"""Data files in the shapes that people have them in, each with what `init` is to find there."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import NEGATIVE, POSITIVE, sentiment_row

ROWS = 40


@dataclass(frozen=True)
class Shape:
    """write: makes the file in a folder and returns it. expected: dotted keys of the config that init writes, with
    their values. asks: keys that have a question. options: what the user adds."""

    write: Callable[[Path], Path]
    expected: dict[str, Any]
    asks: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


def reviews(rows: int = ROWS, seed: int = 0) -> list[tuple[str, int]]:
    rng = random.Random(seed)
    made = [sentiment_row(rng) for _ in range(rows)]
    return [(row["sentence"], row["label"]) for row in made]


def table(
    names: Sequence[str] | None,
    rows: Iterable[Sequence[Any]],
    name: str = "reviews.csv",
    *,
    separator: str = ",",
    encoding: str = "utf-8",
) -> Callable[[Path], Path]:
    """A file as Python's csv module writes it."""

    def write(folder: Path) -> Path:
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=separator, lineterminator="\n")
        if names:
            writer.writerow(names)
        writer.writerows(rows)
        (folder / name).write_bytes(text.getvalue().encode(encoding))
        return folder / name

    return write


def lines(
    rows: Iterable[dict[str, Any]], name: str = "reviews.jsonl", encoding: str = "utf-8"
) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / name).write_bytes(text.encode(encoding))
        return folder / name

    return write


def parquet(rows: Sequence[dict[str, Any]]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import pyarrow as pa
        from pyarrow import parquet as files

        files.write_table(pa.Table.from_pylist(list(rows)), folder / "reviews.parquet")
        return folder / "reviews.parquet"

    return write


def json_array(folder: Path) -> Path:
    path = folder / "reviews.json"
    path.write_text(json.dumps([{"text": text, "label": name} for text, name in NAMED]), encoding="utf-8")
    return path


def packed(folder: Path) -> Path:
    path = folder / "reviews.csv.gz"
    path.write_bytes(gzip.compress(table(["text", "label"], NAMED)(folder).read_bytes()))
    return path


def old_macintosh(folder: Path) -> Path:
    path = folder / "reviews.csv"
    path.write_bytes("\r".join(["text,label", *(f"{text},{name}" for text, name in NAMED), ""]).encode())
    return path


def folder_of(splits: dict[str, list[tuple[str, int]]]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        place = folder / "mine"
        place.mkdir()
        for name, rows in splits.items():
            table(["text", "label"], rows, name)(place)
        return place

    return write


def class_folders(*, splits: Sequence[str] = (), ending: str = ".txt") -> Callable[[Path], Path]:
    """`mine/train/positive/3.txt`: a file for each text, as aclImdb has them, with texts of no class beside."""

    def write(folder: Path) -> Path:
        for split in splits or ("",):
            for number, (text, name) in enumerate(NAMED):
                place = folder / "mine" / split / name
                place.mkdir(parents=True, exist_ok=True)
                (place / f"{number}{ending}").write_text(f"{text}\n", encoding="utf-8")
        (folder / "mine" / "unsup").mkdir()
        (folder / "mine" / "unsup" / "1.txt").write_text("nobody knows", encoding="utf-8")
        (folder / "mine" / "words.txt").write_text("0.5\n0.1\n", encoding="utf-8")
        return folder / "mine"

    return write


def wrapped(folder: Path) -> Path:
    path = folder / "reviews.json"
    rows = [{"review": {"body": text}, "label": name} for text, name in NAMED]
    path.write_text(json.dumps({"version": "1.1", "data": rows}, indent=1), encoding="utf-8")
    return path


NAMES = ("negative", "positive")
CLASSES = {"task": "classification", "data.text": "text", "data.label": "label"}
NAMED = [(text, NAMES[label]) for text, label in reviews()]
STARS = [(text, str(1 + (number % 2) + 3 * label)) for number, (text, label) in enumerate(reviews())]


TAGS = ("good", "film", "long")


def tags(number: int, label: int) -> list[str]:
    return [name for name, has in (("good", label), ("film", number % 3 == 0), ("long", number % 4 == 0)) if has]


TAGGED = [(text, tags(number, label)) for number, (text, label) in enumerate(reviews())]
PAIRED = [
    {"claim": text, "evidence": other, "verdict": NAMES[label == again]}
    for (text, label), (other, again) in zip(reviews(), reviews(seed=1), strict=True)
]
SCORED = [
    (text, f"{sum(w in POSITIVE for w in text.split()) - sum(w in NEGATIVE for w in text.split()) + n / 100:.2f}")
    for n, (text, _) in enumerate(reviews())
]

SHAPES: dict[str, Shape] = {
    "comma": Shape(table(["text", "label"], NAMED), CLASSES),
    "semicolon": Shape(table(["text", "label"], NAMED, separator=";"), CLASSES),
    "tab": Shape(table(["text", "label"], NAMED, "reviews.tsv", separator="\t"), CLASSES),
    "tabs in a .txt": Shape(table(["text", "label"], NAMED, "reviews.txt", separator="\t"), CLASSES),
    "bars in a .csv": Shape(table(["text", "label"], NAMED, separator="|"), CLASSES),
    "quoted newlines": Shape(table(["text", "label"], [(f"{t},\n\"{t}\"", y) for t, y in NAMED]), CLASSES),
    "quoted newlines and semicolons": Shape(
        table(["text", "label"], [(f"{t};\n\"{t}\"", y) for t, y in NAMED], separator=";"), CLASSES
    ),
    "UTF-8 with a mark": Shape(table(["text", "label"], NAMED, encoding="utf-8-sig"), CLASSES),
    "UTF-16": Shape(table(["text", "label"], NAMED, encoding="utf-16"), CLASSES),
    "UTF-16 without a mark": Shape(table(["text", "label"], NAMED, encoding="utf-16-le"), CLASSES, asks=("data.path",)),
    "Latin-1": Shape(
        table(["text", "label"], [(f"{t} caf\xe9", y) for t, y in NAMED], encoding="latin-1"),
        CLASSES,
        asks=("data.path",),
    ),
    "JSON Lines": Shape(lines([{"text": t, "label": y} for t, y in NAMED]), CLASSES),
    "JSON Lines in UTF-16": Shape(lines([{"text": t, "label": y} for t, y in NAMED], encoding="utf-16"), CLASSES),
    "Parquet": Shape(parquet([{"text": t, "label": y} for t, y in reviews()]), CLASSES),
    "numbers from 1": Shape(table(["text", "label"], [(t, y + 1) for t, y in reviews()]), CLASSES),
    "0.0 and 1.0": Shape(table(["text", "label"], [(t, float(y)) for t, y in reviews()]), CLASSES),
    "true and false": Shape(lines([{"text": t, "label": bool(y)} for t, y in reviews()]), CLASSES),
    "a|b": Shape(
        table(["text", "tags"], [(t, "|".join(y)) for t, y in TAGGED]),
        {"task": "multilabel", "data.text": "text", "data.label": "tags"},
    ),
    "lists of names": Shape(
        lines([{"text": t, "tags": y} for t, y in TAGGED]),
        {"task": "multilabel", "data.text": "text", "data.label": "tags"},
    ),
    "columns with 0 and 1": Shape(
        table(["text", *TAGS], [(t, *(int(name in y) for name in TAGS)) for t, y in TAGGED]),
        {"task": "multilabel", "data.text": "text", "data.label": TAGS},
        asks=("data.label",),
    ),
    "stars": Shape(
        table(["review", "stars"], STARS),
        {"task": "classification", "data.text": "review", "data.label": "stars"},
        asks=("task",),
    ),
    "-1, 0 and 1": Shape(
        table(["text", "polarity"], [(t, (-1, 0, 1)[(n + y) % 3]) for n, (t, y) in enumerate(reviews())]),
        {"task": "classification", "data.label": "polarity", "data.labels": ("-1", "0", "1")},
        asks=("data.labels",),
    ),
    "class numbers from 0": Shape(
        table(["text", "label"], [(t, n % 3) for n, (t, _) in enumerate(reviews())]), CLASSES
    ),
    "pandas' index": Shape(
        table(["", "text", "label"], [(n, t, y) for n, (t, y) in enumerate(NAMED)]),
        CLASSES,
    ),
    "blanks around names": Shape(table([" text", "label "], NAMED), CLASSES),
    "JSON array": Shape(json_array, CLASSES),
    "vectors of 0 and 1": Shape(
        lines([{"text": t, "labels": [int(name in y) for name in TAGS]} for t, y in TAGGED]),
        {"task": "multilabel", "data.label": "labels", "data.labels": ("labels_1", "labels_2", "labels_3")},
        asks=("data.labels",),
    ),
    "rows without a label": Shape(
        table(["text", "label"], [(t, "" if n % 5 == 0 else y) for n, (t, y) in enumerate(NAMED)]),
        {**CLASSES, "data.unlabelled": "drop"},
    ),
    "a few -1": Shape(
        table(["text", "label"], [(t, -1 if n == 3 else y) for n, (t, y) in enumerate(reviews())]),
        {**CLASSES, "data.unlabelled": "drop", "data.labels": None},
    ),
    "packed": Shape(packed, CLASSES),
    "old Macintosh": Shape(old_macintosh, CLASSES),
    "numbers with decimals": Shape(
        table(["text", "score"], SCORED), {"task": "regression", "data.text": "text", "data.label": "score"}
    ),
    "pair": Shape(
        lines(PAIRED), {"task": "classification", "data.text": ("claim", "evidence"), "data.label": "verdict"}
    ),
    "three texts": Shape(
        lines([{"title": t[:12] + " x", "body": t, "reply": t[::-1] + " and more", "label": y} for t, y in NAMED]),
        {"task": "classification", "data.text": "body", "data.label": "label"},
        asks=("data.text",),
    ),
    "id, date and address": Shape(
        table(
            ["review_id", "date", "url", "text", "label"],
            [(f"r{n}", f"2024-01-{n % 28 + 1:02}", f"https://a.b/{n}", t, y) for n, (t, y) in enumerate(NAMED)],
        ),
        {**CLASSES, "data.id": "review_id"},
    ),
    "no column names": Shape(
        table(None, [(y, t) for t, y in NAMED]),
        {"task": "classification", "data.text": "column_2", "data.label": "column_1"},
    ),
    "five rows": Shape(table(["text", "label"], NAMED[:5]), CLASSES),
    "a folder with other names": Shape(
        folder_of({"train_x.csv": reviews(), "x-dev.csv": reviews(12, 1), "x_test.csv": reviews(9, 2)}),
        {**CLASSES, "data.splits": {"train": "train_x.csv", "validation": "x-dev.csv", "test": "x_test.csv"}},
    ),
    "a folder for each class": Shape(class_folders(), {**CLASSES, "data.id": "id"}),
    "folders of classes in folders of splits": Shape(class_folders(splits=("train", "test")), {**CLASSES}),
    "files that are called by numbers": Shape(class_folders(ending=""), CLASSES),
    "decimal commas": Shape(
        table(
            ["Nr", "Bewertung", "Note"],
            [(n, t, s.replace(".", ",")) for n, (t, s) in enumerate(SCORED)],
            separator=";",
        ),
        {"task": "regression", "data.text": "Bewertung", "data.label": "Note", "data.id": "Nr"},
    ),
    "records in records": Shape(
        lines([{"n": len(t), "review": {"lang": "en", "body": t}, "meta": {"label": y}} for t, y in NAMED]),
        {"task": "classification", "data.text": "review.body", "data.label": "meta.label"},
    ),
    "rows inside an object": Shape(
        wrapped, {"task": "classification", "data.text": "review.body", "data.label": "label"}
    ),
    "a short title and a long text": Shape(
        table(["Title", "Review Text", "Rating"], [(f"{t[:9]} x", t, s) for t, s in STARS]),
        {"task": "classification", "data.text": "Review Text", "data.label": "Rating"},
        asks=("task", "data.text"),
    ),
    "names as they please": Shape(
        table(["Kommentar, frei", "Urteil: #1"], NAMED),
        {"task": "classification", "data.text": "Kommentar, frei", "data.label": "Urteil: #1"},
    ),
}  # fmt: skip
