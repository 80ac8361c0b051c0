"""Which rows `data.path` and `data.splits` mean, and what is said when they mean none."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from finetune_cli.data import hub
from finetune_cli.data.checks.rows import checked_rows
from finetune_cli.data.formats.row import BadRow, good_rows
from finetune_cli.data.sources import resolve_sources
from finetune_cli.errors import DataError, MissingError

ROW = '{"text": "a", "label": 0}\n'


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory, and an empty cache of Hub data sets."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hub-cache"))
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


def put(directory, **files):
    directory.mkdir(exist_ok=True)
    for name, content in files.items():
        stem, suffix = name.rsplit("_", 1)
        (directory / f"{stem}.{suffix}").write_text(content, encoding="utf-8")
    return directory


def rows_of(source, *columns):
    return list(good_rows(source.open(columns or None)))


def test_a_directory_gives_its_splits_in_order(here):
    put(
        here / "d", test_jsonl=ROW, train_csv="text,label\na,0\n", validation_tsv="text\tlabel\na\t0\n", other_csv="x\n"
    )
    sources = resolve_sources("d")
    assert list(sources) == ["train", "validation", "test"]
    assert rows_of(sources["validation"]) == [(0, {"text": "a", "label": "0"})]


def test_further_validation_and_test_splits_are_found_and_mnli_names_are_translated(here):
    put(
        here / "d",
        train_jsonl=ROW,
        validation_matched_jsonl=ROW,
        validation_mismatched_jsonl=ROW,
        test_matched_jsonl=ROW,
    )
    names = {"train": "train", "validation": "validation_matched", "test": "test_matched"}
    assert list(resolve_sources("d", split_names=names)) == ["train", "validation", "validation_mismatched", "test"]


def test_files_named_in_splits_lie_in_the_directory_or_beside_the_working_directory(here):
    put(here / "d", a_jsonl=ROW, dev_jsonl=ROW)
    sources = resolve_sources("d", splits={"train": "a.jsonl", "validation": "dev.jsonl"})
    assert sources["validation"].where == "d/dev.jsonl"
    sources = resolve_sources("d/a.jsonl", splits={"validation": "d/dev.jsonl"})
    assert (sources["train"].where, sources["validation"].where) == ("d/a.jsonl", "d/dev.jsonl")


def test_shipped_samples_are_found_anywhere(here):
    assert {"train", "validation"} <= set(resolve_sources("builtin:sst2-mini"))
    with pytest.raises(DataError, match=r"there is no 'builtin:nope'.*builtin:sst2-mini"):
        resolve_sources("builtin:nope")


def two_files(here):
    put(here / "d", train_jsonl=ROW, train_csv="text,label\na,0\n", validation_jsonl=ROW)


BAD_PLACES = [
    (two_files, "d", None, "two files for the split train: train.csv and train.jsonl"),
    (lambda here: put(here / "d", train_jsonl=ROW), "d", None, "-s data.splits.validation=0.1"),
    (lambda here: put(here, t_jsonl=ROW), "t.jsonl", None, "-s data.splits.validation=0.1"),
    (lambda here: put(here / "d", validation_jsonl=ROW), "d", None, "has no train split, only: validation"),
    (lambda here: put(here / "d", own_jsonl=ROW), "d", None, "found own.jsonl. Name your files: data.splits.train"),
    (lambda here: put(here / "d"), "d", None, "found nothing"),
    (lambda here: put(here, train_jsonl=ROW), "trian.jsonl", None, "does not exist. Did you mean train.jsonl?"),
    (lambda here: None, "no/such/place", None, "There is no directory no/such either"),
    (
        lambda here: put(here / "d", train_jsonl=ROW),
        "d",
        {"validation": "dev.jsonl"},
        "data.splits.validation: d/dev.jsonl is not",
    ),
    (lambda here: put(here, t_xml=ROW), "t.xml", {"validation": 0.5}, "cannot tell its format"),
]


@pytest.mark.parametrize(("make", "path", "splits", "message"), BAD_PLACES)
def test_places_without_the_splits_say_what_to_do(here, make, path, splits, message):
    make(here)
    with pytest.raises(DataError) as caught:
        resolve_sources(path, splits=splits)
    assert message in str(caught.value)


def test_fingerprints_follow_the_content_not_the_file(here):
    put(here / "d", train_jsonl=ROW, validation_jsonl=ROW)
    path = here / "d" / "train.jsonl"
    stat = path.stat()
    first = resolve_sources("d")["train"].fingerprint
    path.write_text(ROW.replace("a", "b"), encoding="utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same time, other content
    assert resolve_sources("d")["train"].fingerprint != first
    (here / "d").rename(here / "e")
    (here / "e" / "train.jsonl").write_text(ROW, encoding="utf-8")
    assert resolve_sources("e")["train"].fingerprint == first


def labelled(here, counts):
    rows = [{"text": f"{label} {number}", "label": label} for label, count in counts.items() for number in range(count)]
    put(here / "d", train_jsonl="".join(json.dumps(row) + "\n" for row in rows))


def test_a_fraction_is_stratified_complete_and_the_same_each_time(here):
    labelled(here, {"a": 200, "b": 50, "c": 3, "d": 1})
    sources = resolve_sources("d", splits={"validation": 0.1, "test": 0.2}, seed=7)
    taken = {split: rows_of(source, "text", "label") for split, source in sources.items()}
    counts = {split: Counter(values["label"] for _, values in rows) for split, rows in taken.items()}
    assert counts["validation"] == {"a": 20, "b": 5, "c": 1}
    assert counts["test"] == {"a": 40, "b": 10, "c": 1}
    assert counts["train"] == {"a": 140, "b": 35, "c": 1, "d": 1}  # a class of one row stays in train
    assert sorted(row for rows in taken.values() for row, _ in rows) == list(range(254))
    assert all(rows == sorted(rows, key=lambda row: row[0]) for rows in taken.values())
    again = resolve_sources("d", splits={"validation": 0.1, "test": 0.2}, seed=7)
    assert {split: rows_of(source, "text", "label") for split, source in again.items()} == taken
    assert [source.fingerprint for source in again.values()] == [source.fingerprint for source in sources.values()]


def split_of_texts(here, texts, labels, **options):
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    put(here / "d", train_jsonl="".join(json.dumps(row) + "\n" for row in rows))
    sources = resolve_sources("d", splits={"validation": 0.2}, text=("text",), **options)
    return {split: rows_of(source, "text", "label") for split, source in sources.items()}


def test_rows_with_the_same_text_are_on_one_side_of_a_fraction(here):
    """As `overlap` compares them: case, blanks and punctuation aside. The shares stay what they are, but for a few."""
    texts = [f"text {n % 60}{'!' if n % 2 else ''}" for n in range(200)]
    for seed in range(5):
        taken = split_of_texts(here, texts, ["a", "b"] * 100, seed=seed)
        kept, held = ({values["text"].rstrip("!") for _, values in taken[split]} for split in ("train", "validation"))
        assert not kept & held
        assert sorted(row for rows in taken.values() for row, _ in rows) == list(range(200))
        assert 20 <= len(taken["validation"]) <= 60
        assert {values["label"] for _, values in taken["validation"]} == {"a", "b"}


def test_where_no_text_repeats_the_fraction_is_the_one_of_the_labels_and_the_seed(here):
    texts, labels = [f"text {n}" for n in range(100)], ["a", "b"] * 50
    drawn = split_of_texts(here, texts, labels, seed=3)
    assert drawn == {
        split: rows_of(source, "text", "label")
        for split, source in resolve_sources("d", splits={"validation": 0.2}, seed=3).items()
    }


def test_a_class_whose_texts_are_all_the_same_stays_in_train(here):
    taken = split_of_texts(here, [*(f"text {n}" for n in range(20)), *["same"] * 10], ["a"] * 20 + ["b"] * 10)
    assert [values["text"] for _, values in taken["train"]].count("same") == 10
    assert len(taken["validation"]) == 4


def test_one_text_alone_is_split_as_it_was(here):
    taken = split_of_texts(here, ["same"] * 10, ["a", "b"] * 5)
    assert [len(rows) for rows in taken.values()] == [8, 2]


def test_pairs_of_the_same_text_leave_rows_to_validate_on(here):
    for seed in range(10):
        taken = split_of_texts(here, ["a", "a", "b", "b", "c", "c", "d", "d"], ["x"] * 4 + ["y"] * 4, seed=seed)
        assert {values["label"] for _, values in taken["validation"]} == {"x", "y"}
        assert {values["label"] for _, values in taken["train"]} == {"x", "y"}


def test_the_choice_is_the_same_in_every_process(here):
    """Texts are told apart by hashes, which Python draws anew for each process."""
    rows = [{"text": text, "label": "x" if n < 4 else "y"} for n, text in enumerate("aabbccdd")]
    put(here / "d", train_jsonl="".join(json.dumps(row) + "\n" for row in rows))
    code = (
        "from finetune_cli.data.sources import resolve_sources\n"
        "for seed in range(10):\n"
        "    sources = resolve_sources('d', splits={'validation': 0.2}, text=('text',), seed=seed)\n"
        "    print([row for row, _ in sources['validation'].open(None)])"
    )
    chosen = {
        subprocess.check_output([sys.executable, "-c", code], text=True, env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in ("1", "2", "3")
    }
    assert len(chosen) == 1


def test_another_seed_takes_other_rows_and_has_another_fingerprint(here):
    labelled(here, {"a": 100, "b": 100})
    first, second = (resolve_sources("d", splits={"validation": 0.1}, seed=seed)["validation"] for seed in (1, 2))
    assert rows_of(first) != rows_of(second)
    assert first.fingerprint != second.fingerprint


def test_numbers_to_predict_are_split_without_classes(here):
    labelled(here, dict.fromkeys([number / 7 for number in range(100)], 1))
    sources = resolve_sources("d", splits={"validation": 0.25}, kind="regression")
    assert [len(rows_of(source)) for source in sources.values()] == [75, 25]


def test_a_name_that_is_neither_here_nor_cached_lists_both_readings(here):
    for path in ("nyu-mll/glue", "sst2", "data/my-set"):
        with pytest.raises(MissingError) as caught:
            resolve_sources(path, offline=True)
        assert f"data.path: '{path}' is not a file or directory here; read as a data set of the Hub" in str(
            caught.value
        )
        assert "offline mode is on" in str(caught.value)


def cached_dataset(here, rows, *, name="tiny", splits=("train", "validation")):
    """A data set as the datasets library leaves it in its cache."""
    import datasets
    import pyarrow as pa

    folder = here.parent / "hub-cache" / "some___my_set" / name / "0.0.0" / ("c0ffee" * 7)[:40]
    folder.mkdir(parents=True)
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    info = datasets.DatasetInfo(features=features, splits={split: {"name": split} for split in splits})
    info.write_to_directory(folder)
    table = pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    for split in splits:
        with pa.ipc.new_stream(folder / f"my_set-{split}.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    return folder


def test_a_cached_hub_data_set_is_read_offline(here):
    cached_dataset(here, [("a", 0), ("b", 1), ("c", 1)], splits=("train", "validation", "unsupervised"))
    sources = resolve_sources("some/MySet", offline=True)
    assert list(sources) == ["train", "validation"]
    expected = [(0, {"text": "a", "label": 0}), (1, {"text": "b", "label": 1}), (2, {"text": "c", "label": 1})]
    assert rows_of(sources["train"], "text", "label") == expected
    assert sources["train"].label_names == ("no", "yes")
    assert "c0ffee" in sources["train"].fingerprint
    with pytest.raises(DataError, match="has no split 'dev', only: train, validation, unsupervised"):
        resolve_sources("some/MySet", splits={"validation": "dev"}, offline=True)


def test_a_hub_data_set_of_several_configurations_needs_a_name(here):
    cached_dataset(here, [("a", 0)], name="one")
    cached_dataset(here, [("a", 0)], name="two")
    with pytest.raises(MissingError, match="several configurations: one, two"):
        resolve_sources("some/MySet", offline=True)
    assert resolve_sources("some/MySet", name="two", offline=True)
    with pytest.raises(MissingError, match="not in the local cache"):
        resolve_sources("some/MySet", name="three", offline=True)


def test_what_the_datasets_library_writes_is_what_we_read(here):
    """Its own builder, on a local file, since the Hub is not there: file names and dataset_info.json are the same."""
    import datasets

    put(here, rows_jsonl='{"text": "a", "label": 0}\n{"text": "b", "label": 1}\n')
    builder = datasets.load_dataset_builder("json", data_files={"train": "rows.jsonl"}, cache_dir=here / "cache")
    builder.download_and_prepare()
    info = json.loads((here / builder.cache_dir / "dataset_info.json").read_text(encoding="utf-8"))
    found = hub.HubDataset(here / builder.cache_dir, "x", info)
    assert found.splits == ["train"]
    assert list(found.rows("train", ["label", "text"])) == [
        (0, {"text": "a", "label": 0}),
        (1, {"text": "b", "label": 1}),
    ]


def checked(rows, **required):
    return list(checked_rows(iter(rows), where="d.jsonl", text=("s1", "s2"), required=required or None))


def test_a_column_that_the_first_row_lacks_is_a_wrong_name():
    with pytest.raises(DataError) as caught:
        checked([(0, {"s1": "a", "S2": "b", "label": 0})])
    assert str(caught.value) == (
        "d.jsonl: expected the column 's2'; found 's1', 'S2', 'label'. Did you mean 'S2'? Name yours: -s data.text=..."
    )
    with pytest.raises(DataError, match=r"expected the column 'lbl'; found .* Name yours: -s data\.label="):
        checked([(0, {"s1": "a", "s2": "b", "label": 0})], lbl="data.label")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"s1": None, "s2": "b"}, "expected text in column 's1', found null."),
        ({"s1": "a", "s2": 5}, "expected text in column 's2', found int '5'."),
        ({"s1": ["a"], "s2": "b"}, "expected text in column 's1', found list"),
        ({"s1": "a"}, "expected the column 's2', found only 's1'."),
    ],
)
def test_rows_without_usable_text_are_bad_rows(values, problem):
    good, bad = checked([(0, {"s1": "a", "s2": "b", "more": 1}), (1, values)])
    assert good == (0, {"s1": "a", "s2": "b", "more": 1})
    assert isinstance(bad, BadRow)
    assert str(bad).startswith(f"d.jsonl, row 2: {problem}")


@pytest.mark.parametrize(
    "feature",
    [
        {"names": ["no", "yes"], "_type": "ClassLabel"},
        {"feature": {"names": ["no", "yes"], "_type": "ClassLabel"}, "_type": "Sequence"},
        {"feature": {"names": ["no", "yes"], "_type": "ClassLabel"}, "_type": "List"},
    ],
)
def test_a_data_set_of_the_hub_names_its_classes_also_where_a_row_has_several(feature):
    found = hub.HubDataset(Path("x"), "x", {"features": {"label": feature, "text": {"dtype": "string"}}})
    assert found.label_names("label") == ("no", "yes")
    assert found.label_names("text") is found.label_names("nothing") is None
