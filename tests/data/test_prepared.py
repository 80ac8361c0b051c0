"""Preparing end to end: made once for each content, whole or absent, the same rows in as out, and a report."""

import json
import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from finetune_cli.commands.prepare import prepare, show_examples
from finetune_cli.config.load import load_config
from finetune_cli.data.prepared import open_prepared
from finetune_cli.data.writing import ArrayWriter, publish
from finetune_cli.errors import ConfigError, DataError, MissingError, RunFailedError
from finetune_cli.models.tokenizer import load_tokenizer
from finetune_cli.runs.rows import prepare_file
from finetune_cli.runs.target import ModelTask, Target


def config_of(write_config, directory, *overrides, **sections):
    return load_config(write_config(directory, **sections), overrides)


@pytest.fixture
def own_data(tmp_path):
    """own_data(train, validation, test=None): rows as dictionaries -> the path of a directory of JSON Lines."""

    def write(train, validation=None, test=None):
        directory = tmp_path / "own"
        directory.mkdir(exist_ok=True)
        for split, rows in (("train", train), ("validation", validation or train), ("test", test)):
            if rows is not None:
                text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                (directory / f"{split}.jsonl").write_text(text, encoding="utf-8")
        return str(directory)

    return write


TWO = [{"sentence": "good film", "label": 1}, {"sentence": "bad film", "label": 0}]


def test_rows_come_out_as_the_tokenizer_encodes_them(tmp_path, write_config, tiny_bert):
    prepared = prepare(config_of(write_config, tmp_path, task="mrpc"))
    rows = [json.loads(line) for line in (tmp_path / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    reference = load_tokenizer(tiny_bert)([r["sentence1"] for r in rows], [r["sentence2"] for r in rows])
    train = prepared.splits["train"]
    assert [train.tokens(row).tolist() for row in range(train.num_rows)] == reference["input_ids"]
    assert train.lengths.tolist() == [len(ids) for ids in reference["input_ids"]]
    assert np.asarray(train.token_type_ids).tolist() == [kind for row in reference["token_type_ids"] for kind in row]
    assert np.asarray(train.labels).tolist() == [row["label"] for row in rows]
    assert list(train.ids) == [row["idx"] for row in rows]
    dtypes = [
        array.dtype for array in (train.input_ids, train.offsets, train.token_type_ids, train.labels, train.lengths)
    ]
    assert dtypes == [np.int32, np.int64, np.int8, np.int64, np.int32]
    assert prepared.label_names == ("not_equivalent", "equivalent")
    assert load_tokenizer(prepared.tokenizer_dir)("good film") == load_tokenizer(tiny_bert)("good film")


def test_a_second_prepare_tokenises_nothing_and_says_so(tmp_path, write_config, caplog, monkeypatch):
    config = config_of(write_config, tmp_path)
    first = prepare(config)
    monkeypatch.setattr(
        "finetune_cli.models.tokenizer.load_tokenizer", lambda directory: pytest.fail("loaded a tokenizer")
    )
    with caplog.at_level(logging.INFO, "finetune_cli"):
        second = prepare(config)
    assert (first.report.reused, second.report.reused) == (False, True)
    assert second.key == first.key
    assert f"Reused 60 tokenised rows: {second.directory}" in caplog.messages


def test_finding_prepared_data_again_imports_nothing_heavy(tmp_path, write_config):
    path = write_config(tmp_path)
    prepare(load_config(path))
    script = (
        "import sys; from finetune_cli.config.load import load_config\n"
        "from finetune_cli.commands.prepare import prepare\n"
        f"assert prepare(load_config({str(path)!r})).report.reused\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'pandas', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


CHANGES = [
    "data.max_length=9",
    "data.truncation=only_first",
    "data.limit=10",
    "data.labels=[bad, good]",
    "data.splits.validation=0.5",
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_setting_that_changes_the_rows_prepares_anew(tmp_path, write_config, change):
    sections = {"task": "classification", "data": {"path": "builtin:sst2-mini", "text": "sentence"}}
    base = prepare(config_of(write_config, tmp_path, "data.limit=20", **sections))
    other = prepare(config_of(write_config, tmp_path, "data.limit=20", change, **sections))
    assert other.key != base.key
    assert not other.report.reused


@pytest.mark.parametrize(
    "change", ["seed=7", "training.batch_size=4", "output_dir=elsewhere", "data.padding=max_length"]
)
def test_a_setting_that_leaves_the_rows_alone_finds_them_again(tmp_path, write_config, change):
    prepare(config_of(write_config, tmp_path))
    assert prepare(config_of(write_config, tmp_path, change)).report.reused


def test_the_seed_counts_when_it_decides_a_split(tmp_path, write_config):
    one, two = (prepare(config_of(write_config, tmp_path, "data.splits.validation=0.2", f"seed={n}")) for n in (1, 2))
    assert one.key != two.key
    assert not set(one.splits["train"].ids) & set(one.splits["validation"].ids)


def test_changed_content_is_noticed_under_the_same_size_and_time(tmp_path, write_config):
    config = config_of(write_config, tmp_path)
    before = prepare(config)
    path = tmp_path / "data" / "train.jsonl"
    stat = path.stat()
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"label": 1', '"label": 0', 1), encoding="utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = prepare(config)
    assert not after.report.reused
    assert after.report.splits["train"].labels["negative"] == before.report.splits["train"].labels["negative"] + 1


def cut(path):
    path.write_bytes(path.read_bytes()[:-4])


DAMAGES = {
    "array cut": lambda d: cut(d / "splits" / "train" / "input_ids.npy"),
    "array gone": lambda d: (d / "splits" / "validation" / "labels.npy").unlink(),
    "array header broken, same size": lambda d: (d / "splits" / "train" / "offsets.npy").write_bytes(
        b"x" * (d / "splits" / "train" / "offsets.npy").stat().st_size
    ),
    "tokenizer gone": lambda d: (d / "tokenizer" / "tokenizer.json").unlink(),
    "manifest gone": lambda d: (d / "manifest.json").unlink(),
    "manifest cut": lambda d: cut(d / "manifest.json"),
    "manifest of another kind": lambda d: (d / "manifest.json").write_text("[]"),
    "manifest of another format": lambda d: (d / "manifest.json").write_text('{"format": 0}'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_made_again(tmp_path, write_config, damage):
    config = config_of(write_config, tmp_path)
    good = prepare(config)
    expected = np.array(good.splits["train"].input_ids)
    DAMAGES[damage](good.directory)
    assert open_prepared(good.directory) is None
    again = prepare(config)
    assert not again.report.reused
    assert np.array_equal(again.splits["train"].input_ids, expected)
    assert [entry.name for entry in good.directory.parent.iterdir()] == [good.key]  # nothing left aside


def test_a_failed_prepare_leaves_nothing(tmp_path, write_config, own_data, cache_dir):
    path = own_data(TWO, [{"sentence": "good", "label": 5}])
    with pytest.raises(DataError, match="unknown label 5"):
        prepare(config_of(write_config, tmp_path, data={"path": path}))
    assert list((cache_dir / "prepared").iterdir()) == []


def test_two_prepares_at_once_both_succeed(tmp_path, write_config):
    config = config_of(write_config, tmp_path)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: prepare(config), range(4)))
    assert len({data.directory for data in found}) == 1
    assert [entry.name for entry in found[0].directory.parent.iterdir()] == [found[0].key]
    assert all(np.array_equal(data.splits["train"].input_ids, found[0].splits["train"].input_ids) for data in found)


def test_what_a_killed_prepare_left_is_removed_a_day_later(tmp_path, write_config, cache_dir):
    old, young = cache_dir / "prepared" / ".old-x", cache_dir / "prepared" / ".young-x"
    for folder, age in ((old, 2 * 24 * 3600), (young, 60)):
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - age,) * 2)
    prepare(config_of(write_config, tmp_path))
    assert (old.exists(), young.exists()) == (False, True)


def test_a_cache_that_cannot_be_written_says_which_and_what_to_set(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFailedError, match="FINETUNE_CACHE"):
        publish(tmp_path / "file" / "prepared" / "key", lambda folder: {})


def test_a_full_disk_leaves_no_half_folder(tmp_path):
    def build(folder):
        (folder / "half").write_text("x")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunFailedError, match="No space left on device"):
        publish(tmp_path / "prepared" / "key", build)
    assert list((tmp_path / "prepared").iterdir()) == []


BAD_DATA = [
    (TWO, [{"sentence": "x", "label": -1}], {}, "found -1, which marks a row without a label, in the only row"),
    ([{**TWO[0], "label": -1}, *TWO], None, {}, "found -1, which marks a row without a label, in row 1"),
    ([TWO[0], {"sentence": None, "label": 0}], None, {}, "row 2: expected text in column 'sentence', found null"),
    ([TWO[0], {"sentence": 7, "label": 0}], None, {}, "row 2: expected text in column 'sentence', found int '7'"),
    ([{"sentence": " ", "label": 0}, {"sentence": "", "label": 1}], None, {}, "the text is empty in all 2 rows"),
    (
        [{"text": "x", "label": 0}],
        None,
        {},
        "expected the column 'sentence'; found 'text', 'label'. Name yours: -s data.text=...",
    ),
    ([{"sentence": "x", "lable": 0}], None, {}, "Did you mean 'lable'? Name yours: -s data.label=..."),
    (TWO, None, {"id": "key"}, "expected the column 'key'; found 'sentence', 'label'. Name yours: -s data.id=..."),
    (TWO, None, {"truncation": "error", "max_length": 4}, "rows 1, 2: longer"),
    (
        TWO,
        [{"sentence": "x", "label": "positiv"}],
        {},
        "unknown label 'positiv' in row 1. The classes are: negative, positive",
    ),
]


@pytest.mark.parametrize(("train", "validation", "settings", "message"), BAD_DATA)
def test_data_that_do_not_fit_are_refused_with_their_place(
    tmp_path, write_config, own_data, train, validation, settings, message
):
    if "max_length" in settings:
        train = [{**row, "sentence": row["sentence"] + " this was very very long"} for row in train]
    path = own_data(train, validation)
    with pytest.raises(DataError) as caught:
        prepare(config_of(write_config, tmp_path, data={"path": path, **settings}))
    assert path in str(caught.value)
    assert message in str(caught.value)


def test_a_length_that_the_model_cannot_take_is_a_config_error(tmp_path, write_config):
    with pytest.raises(ConfigError, match=r"data\.max_length: 65, but this model takes at most 64"):
        prepare(config_of(write_config, tmp_path, "data.max_length=65"))


def test_a_hub_data_set_that_is_not_cached_fails_at_once_offline(tmp_path, write_config, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "none"))
    with pytest.raises(MissingError, match=r"'nyu-mll/glue' is not a file or directory here.*offline mode is on"):
        prepare(config_of(write_config, tmp_path, data={"path": "nyu-mll/glue"}), offline=True)


def test_test_rows_without_labels_are_kept_without_labels(tmp_path, write_config, own_data):
    for test in ([{"sentence": "x", "label": -1}] * 2, [{"sentence": "x"}] * 2):
        split = prepare(config_of(write_config, tmp_path, data={"path": own_data(TWO, None, test)})).splits["test"]
        assert (split.labels, split.num_rows) == (None, 2)


def test_ids_come_from_the_named_column_else_idx_else_the_row_number(tmp_path, write_config, own_data):
    rows = [{**row, "name": name} for row, name in zip(TWO, ("ä/雪", "007"), strict=True)]
    path = own_data(rows)
    assert list(prepare(config_of(write_config, tmp_path, data={"path": path, "id": "name"})).splits["train"].ids) == [
        "ä/雪",
        "007",
    ]
    ids = prepare(config_of(write_config, tmp_path, data={"path": path})).splits["train"].ids
    assert (list(ids), ids[-1], ids[0:1]) == ([0, 1], 1, [0])
    with pytest.raises(IndexError):
        ids[2]


def test_regression_keeps_values_and_has_no_names(tmp_path, write_config, own_data):
    rows = [{"sentence": "good", "label": 2.5}, {"sentence": "bad", "label": "0.25"}]
    config = config_of(write_config, tmp_path, task="regression", data={"path": own_data(rows), "text": "sentence"})
    prepared = prepare(config)
    assert prepared.label_names is None
    assert prepared.splits["train"].labels.dtype == np.float32
    assert prepared.splits["train"].labels.tolist() == [2.5, 0.25]


def test_class_names_are_taken_from_train_when_none_are_given(tmp_path, write_config, own_data):
    rows = [{"sentence": "x", "label": name} for name in ("c10", "c2", "c2")]
    config = config_of(write_config, tmp_path, task="classification", data={"path": own_data(rows), "text": "sentence"})
    prepared = prepare(config)
    assert prepared.label_names == ("c2", "c10")
    assert prepared.splits["train"].labels.tolist() == [1, 0, 0]


def test_the_report_counts_rows_labels_lengths_and_what_was_cut(tmp_path, write_config, own_data, caplog):
    # Tokens, [CLS] and [SEP] included: 2 (empty), 3, 4, 12.
    texts = ["", "good", "good film", "good " * 10]
    path = own_data([{"sentence": text, "label": n % 2} for n, text in enumerate(texts)])
    report = prepare(config_of(write_config, tmp_path, data={"path": path, "max_length": 8})).report
    train = report.splits["train"]
    assert (train.rows, train.labels, train.empty_texts) == (4, {"negative": 2, "positive": 2}, 1)
    assert train.lengths == {"min": 2, "q25": 2, "median": 3, "q75": 4, "q95": 12, "max": 12}
    assert (train.truncated, train.truncated_share) == (1, 0.25)
    assert [bin for bin in train.histogram if bin[2]] == [(2, 2, 1), (3, 3, 1), (4, 4, 1), (9, None, 1)]
    assert sum(bin[2] for bin in train.histogram) == 4
    assert report.rows_per_second > 0
    assert "1 of 4 rows has an empty text (row 1)" in caplog.text


def test_shown_examples_have_tokens_label_and_the_boundary_of_a_pair(tmp_path, write_config, own_data):
    pair = [{"sentence1": "good film", "sentence2": "bad", "label": n} for n in (1, 0)]
    shown = show_examples(prepare(config_of(write_config, tmp_path, task="mrpc", data={"path": own_data(pair)})), 9)
    assert [example.text for example in shown] == ["[CLS] good film [SEP] || bad [SEP]"] * 2
    assert [example.label for example in shown] == ["equivalent", "not_equivalent"]
    single = show_examples(prepare(config_of(write_config, tmp_path, data={"path": own_data(TWO)})), 1)
    assert [(example.id, example.text) for example in single] == [(0, "[CLS] good film [SEP]")]


def test_a_vocabulary_from_the_data_is_kept_with_them_and_found_again(tmp_path, write_config):
    sections = {"model": {"from_scratch": {"vocab_size": 120, "max_position_embeddings": 32}}}
    first = prepare(config_of(write_config, tmp_path, **sections))
    assert (first.tokenizer_dir / "tokenizer.json").is_file()
    assert first.splits["train"].input_ids.max() < 120
    assert first.report.max_length == 32
    assert prepare(config_of(write_config, tmp_path, **sections)).report.reused
    assert not prepare(config_of(write_config, tmp_path, "model.from_scratch.vocab_size=110", **sections)).report.reused


def test_one_labelled_file_is_prepared_for_a_model(tmp_path, tiny_bert):
    path = tmp_path / "mine.csv"
    path.write_text("text,label\ngood,positive\nbad,negative\n", encoding="utf-8")
    prepared = prepare_file(path, Target(tiny_bert), ModelTask("classification", ("negative", "positive")))
    assert prepared.splits["file-mine"].labels.tolist() == [1, 0]
    assert prepared.label_names == ("negative", "positive")


def test_unicode_survives_the_way_through_the_store(tmp_path, write_config, own_data):
    rows = [
        {"sentence": text, "label": n % 2}
        for n, text in enumerate(["雪 👍🏽", "e\u0301 \u202e x", "\ufeff y", "z\u2028w"])
    ]
    train = prepare(config_of(write_config, tmp_path, data={"path": own_data(rows)})).splits["train"]
    assert train.num_rows == 4


def test_an_array_grows_and_reads_back_as_numpy_wrote_it(tmp_path):
    writer = ArrayWriter(tmp_path / "a.npy", np.int32)
    for part in ([1, 2], [], [3]):
        writer.append(np.array(part, np.int64))
    writer.close()
    read = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert (read.tolist(), read.dtype) == ([1, 2, 3], np.int32)
