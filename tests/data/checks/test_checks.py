"""Data checks: each finds its fault and no other, none is raised on clean rows, and the config's levels decide."""

import json
import logging
from itertools import product

import numpy as np
import pytest

from finetune_cli.commands.prepare import prepare
from finetune_cli.config.load import load_config
from finetune_cli.config.sections.data import ChecksConfig
from finetune_cli.data.checks import repeats as check_repeats
from finetune_cli.data.checks import spilled
from finetune_cli.data.checks.findings import excerpt
from finetune_cli.data.checks.labels import LabelChecks
from finetune_cli.data.checks.repeats import TextHashes, fold
from finetune_cli.data.checks.spilled import SpilledArray
from finetune_cli.data.checks.split import SplitChecks
from finetune_cli.data.checks.texts import MARKUP, WRONG_ENCODING
from finetune_cli.data.row_lengths import RowLengths
from finetune_cli.errors import ConfigError, DataError
from finetune_cli.records.preparation import row_list
from finetune_cli.runs.rows import prepare_file
from finetune_cli.runs.target import ModelTask, Target

WORDS = {"good": "pos", "great": "pos", "lovely": "pos", "bad": "neg", "poor": "neg", "awful": "neg"}
TOPICS = ("film", "meal", "book", "song", "room", "game", "talk", "trip", "letter", "garden")
CLEAN = [{"text": f"the {topic} was {word}", "label": WORDS[word]} for topic, word in product(TOPICS, WORDS)]
TRAIN, VALIDATION = CLEAN[:40], CLEAN[40:]


@pytest.fixture
def check(tmp_path, tiny_bert):
    """check(train, validation, *overrides, test=None) -> the findings of `prepare` as dictionaries."""

    def run(train=TRAIN, validation=VALIDATION, *overrides, test=None, task="classification"):
        folder = tmp_path / "rows"
        folder.mkdir(exist_ok=True)
        for split, rows in (("train", train), ("validation", validation), ("test", test or [])):
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{split}.jsonl").unlink(missing_ok=True)
            if rows:
                (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
        pair = "[text, second]" if "second" in train[0] else "text"
        (tmp_path / "c.yaml").write_text(
            f"task: {task}\nmodel: {{name_or_path: {tiny_bert}}}\ndata: {{path: {folder}, text: {pair}}}\n",
            encoding="utf-8",
        )
        return prepare(load_config(tmp_path / "c.yaml", overrides)).report.to_json()["findings"]

    return run


def texts(*texts, label="pos"):
    return [{"text": text, "label": label} for text in texts]


def test_clean_rows_raise_none(check):
    assert check(test=[*texts("one more film"), *texts("two more meals", label="neg")]) == []


def test_the_shipped_samples_raise_none(tmp_path, write_config):
    for task, name in (("sst2", "sst2-mini"), ("mrpc", "mrpc-mini")):
        data = {"path": f"builtin:{name}", "checks": {"truncated": "ignore"}}  # the tiny model has 64 positions
        config = load_config(write_config(tmp_path, task=task, data=data))
        assert [finding.problem for finding in prepare(config).report.findings] == []


NAMED = "data.labels=[neg, odd, pos]"
RARE = [row for row in CLEAN if row["label"] == "pos"] + CLEAN[3:4]
# The check, the rows of train and validation, the overrides; split, count, rows and a part of what is said.
FAULTS = {
    "empty text": ("empty_text", [*TRAIN, *texts("", " \n")], VALIDATION, [], "train", 2, [41, 42], "2 of 42 rows"),
    "repeated rows": (
        "duplicates", [*TRAIN, TRAIN[2], TRAIN[2]], VALIDATION, [],
        "train", 2, [41, 42], "row 41, the same as row 3: 'the film was lovely'",
    ),
    "two labels for one text": (
        "contradictions", [*TRAIN, {**TRAIN[2], "label": "neg"}], VALIDATION, [],
        "train", 1, [41], "row 3 with 'pos' and row 41 with 'neg': 'the film was lovely'",
    ),
    "a text of train in validation": (
        "overlap", TRAIN, [*VALIDATION, *texts("  The FILM, was\u00a0lovely! ")], [],
        "validation", 1, [21], "row 21, in train row 3: '  The FILM, was\\xa0lovely! '",
    ),
    "two spellings of a label": (
        "label_spelling", [{**row, "label": "Pos "} if n in (0, 1) else row for n, row in enumerate(TRAIN)], VALIDATION,
        ["data.checks.imbalance=ignore"], "train", 2, [1, 2], "'pos' and 'Pos '",
    ),
    "a label that train lacks": (
        "unseen_labels", TRAIN, [*VALIDATION, *texts("what a day", label="odd")],
        [NAMED, "data.checks.unseen_labels=warn"], "validation", 1, [21], "a label that no row of train has: 'odd'",
    ),
    "cut rows": (
        "truncated", TRAIN, VALIDATION[:1] + texts("the " * 9), ["data.max_length=8"],
        "validation", 1, [2], "1 of 2 rows is longer than 8 tokens and cut (50.0%)",
    ),
    "a rare class": (
        "imbalance", RARE, VALIDATION, ["data.checks.overlap=ignore"],
        "train", 1, [], "1 of 31 rows has the label 'neg' and 30 have 'pos': always answering 'pos' is right in 96.8%",
    ),
    "a class without rows": (
        "imbalance", TRAIN, VALIDATION, [NAMED], "train", 0, [], "no row has the label 'odd'",
    ),
    "garbled letters": (
        "encoding", [*TRAIN, *texts("a cafÃ© by the sea")], VALIDATION, [], "train", 1, [41], "'a cafÃ© by the sea'",
    ),
    "lost letters": ("encoding", [*TRAIN, *texts("caf\ufffd")], VALIDATION, [], "train", 1, [41], "'caf\ufffd'"),
    "control characters": (
        "encoding", [*TRAIN, *texts("a \x1b[31mred\x07 one")], VALIDATION, [], "train", 1, [41], r"\x1b[31mred\x07",
    ),
    "tags": ("markup", [*TRAIN, *texts("a break<br />here")], VALIDATION, [], "train", 1, [41], "'a break<br />here'"),
    "entities": ("markup", [*TRAIN, *texts("you &amp; me")], VALIDATION, [], "train", 1, [41], "'you &amp; me'"),
    "a very long row": (
        "long_rows", [*TRAIN, *texts("the film " * 31)], VALIDATION, ["data.checks.truncated=ignore"],
        "train", 1, [41], "row 41 with 64 tokens",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found_and_nothing_else(check, fault):
    name, train, validation, overrides, split, count, rows, said = fault
    (finding,) = check(train, validation, *overrides)
    assert (finding["check"], finding["split"], finding["count"]) == (name, split, count)
    assert list(finding["rows"]) == rows
    assert finding["where"].endswith(f"rows/{split}.jsonl")
    assert said in finding["problem"] or said in (finding["example"] or "")
    assert finding["level"] == "warn"
    assert finding["advice"].endswith(".")


def test_class_names_that_join_others_with_a_comma_are_seen(tmp_path):
    rows = SpilledArray(tmp_path, np.int64)
    rows.append(range(5))
    names = ["room", "food", "room, food", "a, b", "food;room"]
    labels = np.eye(5, dtype=np.uint8)

    def findings(labels, names):
        return list(LabelChecks(labels, rows, names, split="train", where="train.csv").spelling())

    (found,) = findings(labels, names)
    assert (found.check, found.count, list(found.rows)) == ("label_spelling", 2, [3, 5])
    assert "'room, food' looks like two labels" in found.problem
    assert "joined by |" in found.advice
    assert findings(labels[:, :2], names[:2]) == []
    assert findings(np.arange(5), names) == []  # one label a row: a name is a name


def test_every_check_of_the_config_has_a_fault_here():
    assert {fault[0] for fault in FAULTS.values()} == set(ChecksConfig.model_fields)


def test_a_pair_is_a_repeat_only_when_both_texts_are(check):
    rows = [{**row, "second": f"{number} words"} for number, row in enumerate(CLEAN)]
    half = {**rows[0], "second": "another"}
    assert check([*rows[:40], half], rows[40:]) == []
    (finding,) = check([*rows[:40], rows[0]], rows[40:])
    assert (finding["check"], finding["example"]) == (
        "duplicates",
        "row 41, the same as row 1: 'the film was good || 0 words'",
    )
    (finding,) = check(rows[:40], [*rows[40:], {**rows[7], "second": "7 WORDS"}])
    assert (finding["check"], finding["rows"]) == ("overlap", [21])


def test_values_to_predict_are_compared_too(check):
    rows = [{"text": row["text"], "label": n / 7} for n, row in enumerate(CLEAN)]
    found = check([*rows[:40], rows[0], {**rows[1], "label": 9.5}], rows[40:], task="regression")
    assert [(one["check"], one["rows"]) for one in found] == [("duplicates", [41]), ("contradictions", [42])]
    assert "row 2 with 0.142857 and row 42 with 9.5" in found[1]["example"]


def test_rows_of_a_split_taken_from_train_keep_their_numbers(check):
    rows = [*CLEAN[:30], *CLEAN[:30], *CLEAN[30:]]
    found = check(rows, VALIDATION, "data.splits.validation=0.3")
    assert {one["where"].rpartition("/")[2] for one in found} == {
        "train.jsonl (part train)",
        "train.jsonl (part validation)",
    }
    for one in found:  # a text and its repeat are in the same part
        assert one["check"] == "duplicates"
        assert all(rows[row - 1] == rows[row - 31] for row in one["rows"])


def test_an_unlabelled_test_split_is_searched_for_texts_of_the_others(check):
    found = check(test=[{"text": row["text"], "label": None} for row in (TRAIN[0], VALIDATION[0], VALIDATION[1])])
    assert [(one["split"], one["count"], one["problem"].split(" (")[0]) for one in found] == [
        ("test", 1, "1 of 3 rows has the text of a row in train"),
        ("test", 2, "2 of 3 rows have the text of a row in validation"),
    ]


def test_rows_that_are_found_again_bring_their_findings(check, caplog):
    rows = [*TRAIN, TRAIN[0]]
    with caplog.at_level(logging.WARNING, "finetune_cli"):
        first, second = check(rows), check(rows)
    assert first == second
    line = "train.jsonl: 1 of 41 rows repeats the text and label of an earlier row (row 41) [data.checks.duplicates]"
    assert [message.endswith(line) for message in caplog.messages] == [True, True]


def test_a_level_acts_on_rows_that_were_prepared_under_another(check, caplog):
    rows = [*TRAIN, TRAIN[0], {**TRAIN[1], "label": "neg"}]
    check(rows)
    found = check(rows, VALIDATION, "data.checks.duplicates=ignore")
    assert [one["check"] for one in found] == ["contradictions"]
    with pytest.raises(DataError) as caught:
        check(rows, VALIDATION, "data.checks={duplicates: error, contradictions: error}")
    said = str(caught.value)
    assert said.startswith("the data checks found 2 errors\nduplicates, ")
    assert "  row 41\n  such as row 41, the same as row 1: 'the film was good'\n  Keep one of each" in said
    assert said.endswith("To go on all the same: -s data.checks.duplicates=warn")


def test_a_label_that_train_lacks_is_an_error_unless_told_otherwise(check):
    with pytest.raises(DataError, match=r"unseen_labels, .*validation\.jsonl: 1 of 21 rows has a label that no row of"):
        check(TRAIN, [*VALIDATION, *texts("what a day", label="odd")], NAMED)


def test_a_file_to_score_is_checked_as_well(tmp_path, tiny_bert, caplog):
    path = tmp_path / "new.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*CLEAN, CLEAN[0]]), encoding="utf-8")
    with caplog.at_level(logging.WARNING, "finetune_cli"):
        report = prepare_file(path, Target(tiny_bert), ModelTask("classification", ("neg", "pos"))).report
    assert [one.check for one in report.findings] == ["duplicates"]
    assert "new.jsonl: 1 of 61 rows repeats" in caplog.text


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.checks.duplicate=warn", "unknown key. Allowed in data.checks: contradictions, duplicates, "),
        ("data.checks.duplicate=warn", "Did you mean duplicates?"),
        ("data.checks.overlap=errors", "'errors' is not known. Allowed: error, warn, ignore. Did you mean error?"),
        ("data.checks.overlap=true", "Allowed: error, warn, ignore"),
        ("data.checks=warn", "data.checks: 'warn' is text. Allowed: a section with keys"),
    ],
)
def test_a_mistake_in_the_levels_is_explained(tmp_path, override, said):
    (tmp_path / "c.yaml").write_text("task: sst2\nmodel: {name_or_path: m}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.yaml", [override])
    assert said in str(caught.value)


GOOD_TEXTS = (
    "caf\u00e9, na\u00efve, \u00fcber, \u0395\u03bb\u03bb\u03ac\u03b4\u03b1, \U0001f600",
    "\u043f\u0440\u0438\u0432\u0435\u0442, \u4e2d\u6587",
    "\u00ab le caf\u00e9\u00a0\u00bb \u2013 d\u00e9j\u00e0\u00a0!",
    "\u00bbGru\u00df\u00ab und MEN\u00dc\u00bb, S\u00c3O PAULO, \u00c2ge",
    "tabs\tand\nlines are text",
    "3 < 4 & 5 > 2, <unk> and <user> & co; AT&T; a < b > c",
)
GARBLED = ("\u00fcber", "\u201cquoted\u201d", "\u2013", "\u20ac", "\u043f\u0440\u0438", "\u4e2d\u6587", "\U0001f600")


@pytest.mark.parametrize("text", GOOD_TEXTS)
def test_text_of_other_languages_and_symbols_are_neither_garbled_nor_markup(text):
    assert not WRONG_ENCODING.search(text)
    assert not MARKUP.search(text)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
@pytest.mark.parametrize("text", GARBLED)
def test_utf8_read_in_another_encoding_is_seen(text, encoding):
    try:
        garbled = text.encode().decode(encoding)
    except UnicodeDecodeError:
        pytest.skip("this encoding has no such bytes")
    assert WRONG_ENCODING.search(garbled)


def test_folding_drops_case_blanks_punctuation_and_variants_and_keeps_the_rest():
    same = ["It\u2019s  G\u00d6OD!", "its g\u00f6od", "ITS, GO\u0308OD"]
    assert len(set(fold(same))) == 1
    assert fold(["a\0b", "c"]) == [b"ab", b"c"]
    assert len(set(fold(["c+", "c", "c \U0001f600", "c \U0001f61e", "1", "2"]))) == 6


def test_texts_of_nothing_but_punctuation_are_not_taken_for_each_other(tmp_path):
    hashes = TextHashes("train", tmp_path)
    hashes.add([0, 1, 2], [["...", "", "a"]], [1])
    other = TextHashes("validation", tmp_path)
    other.add([0, 1, 2], [["?!", "", "A."]], [1])
    here, there = other.also_in(hashes)
    assert (here.tolist(), there.tolist()) == ([2], [2])


@pytest.fixture(params=[None, 64], ids=["all at once", "part by part"])
def in_parts(request, monkeypatch):
    """As with more rows than are compared at once."""
    if request.param:
        monkeypatch.setattr(check_repeats, "PART", request.param)
        monkeypatch.setattr(spilled, "BLOCK", request.param - 1)


@pytest.mark.usefixtures("in_parts")
def test_repeats_are_those_that_a_dictionary_finds(tmp_path):
    rng = np.random.default_rng(5)
    words, labels = [f"w{n}" for n in rng.integers(0, 300, 1000)], rng.integers(0, 3, 1000)
    hashes = TextHashes("train", tmp_path)
    hashes.add(range(1000), [words], [])
    repeats = hashes.repeats(labels)
    last, first, same, contrary = {}, {}, [], []
    for place, (word, label) in enumerate(zip(words, labels.tolist(), strict=True)):
        if (word, label) in last:
            same.append((place, last[word, label]))
        others = [row for (other, its_label), row in first.items() if other == word and its_label != label]
        if others:
            contrary.append((place, min(others)))
        last[word, label] = place
        first.setdefault((word, label), place)
    assert list(zip(repeats.same.tolist(), repeats.same_as.tolist(), strict=True)) == same
    assert list(zip(repeats.contrary.tolist(), repeats.contrary_to.tolist(), strict=True)) == contrary


@pytest.mark.usefixtures("in_parts")
def test_a_text_is_found_where_another_split_has_it_first(tmp_path):
    rng = np.random.default_rng(6)
    theirs, ours = ([f"w{n}" for n in rng.integers(0, 2000, 1000)] for _ in range(2))
    train, test = TextHashes("train", tmp_path), TextHashes("test", tmp_path)
    train.add(range(1000), [theirs], [])
    test.add(range(1000), [ours], [])
    expected = [(place, theirs.index(word)) for place, word in enumerate(ours) if word in theirs]
    assert list(zip(*map(np.ndarray.tolist, test.also_in(train)), strict=True)) == expected
    assert 300 < len(expected) < 1000


@pytest.mark.usefixtures("in_parts")
def test_long_rows_are_those_that_numpy_finds(tmp_path):
    lengths = np.random.default_rng(7).geometric(0.02, 1000).astype(np.int32)
    lengths[[300, 700]] = 9000, 9001
    counted = RowLengths(128)
    counted.add(lengths, np.minimum(lengths, 128), None)
    checks = SplitChecks("train", "train.csv", counted, tmp_path)
    texts = [f"text {number}" for number in range(1000)]
    checks.add(range(1000, 2000), [texts], lengths)
    long, cut = sorted(checks.findings(None, str, [], lambda rows: {}), key=lambda finding: finding.check)
    over = np.flatnonzero(lengths > 128)
    assert (cut.check, cut.count, list(cut.rows)) == ("truncated", len(over), (1001 + over[:5]).tolist())
    usual = int(np.quantile(lengths, 0.95, method="lower"))
    assert (long.check, long.count, list(long.rows)) == ("long_rows", 2, [1301, 1701])
    assert f"({usual} tokens)" in long.problem
    assert long.example == "row 1,701 with 9,001 tokens"


def test_what_is_shown_is_short_and_cannot_move_the_cursor():
    assert excerpt("x" * 200 + "\x1b[2J" + "y" * 200, 200) == f"...'{'x' * 20}\\x1b[2J{'y' * 36}'..."
    assert row_list([1, 2, 3], 1200) == "rows 1, 2, 3 ... (1,200 in all)"


REAL = {  # (check, split): rows, as found by reading the data sets
    "mrpc": {("overlap", "test", "train"): 5, ("overlap", "test", "validation"): 1},
    "sst2": {
        ("duplicates", "train", ""): 366,
        ("contradictions", "train", ""): 5,
        ("overlap", "validation", "train"): 2,
        ("overlap", "test", "train"): 6,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("task", REAL)
def test_real_data_raise_what_is_true_of_them(task, glue_dir, tmp_path, write_config):
    data = {"path": str(glue_dir / task), "checks": {"truncated": "ignore"}}  # the tiny model has 64 positions
    config = load_config(write_config(tmp_path, task=task, data=data))
    prepared = prepare(config, quiet=True)
    found = {
        (one.check, one.split, one.problem.partition("the text of a row in ")[2].split(" ")[0]): one.count
        for one in prepared.report.findings
    }
    expected = {key: count for key, count in REAL[task].items() if key[1] in prepared.splits}
    assert found == expected
