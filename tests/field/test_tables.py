"""Tables as spreadsheets, pandas and data sets write them: quotes, missing names, missing headers, other separators.

kor-nlu-datasets#8, csv-parse#323 (quoted TSV); huggingface/datasets#5490 (a column without a name); AG News and CoLA
(no header).
"""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune_cli.data.formats.row import TableForm
from finetune_cli.errors import DataError
from tests.bad_inputs.in_process import Said, refused
from tests.field.conftest import TEXTS, WORDS, labels_of, put, rows_of

Prepared = Callable[..., Said]


def as_written(rows: list[list[str]], quoting: int) -> str:
    file = io.StringIO()
    csv.writer(file, delimiter="\t", lineterminator="\r\n", quoting=quoting).writerows(rows)
    return file.getvalue()


QUOTED_TEXTS = ['say "hi" twice', "a\ttab", "two\nlines", "plain", 'a "quote", a comma', ""]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_tsv_with_quotes_is_recognised_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, quoting: int) -> None:
    rows = [[text, "x"] for text in QUOTED_TEXTS]
    path = put(tmp_path / "a.tsv", as_written([["text", "label"], *rows], quoting))
    assert [row["text"] for row in rows_of(path)] == QUOTED_TEXTS
    assert [record.message for record in caplog.records] == [
        f"{path}: the quotation marks around texts are read as in CSV. Where they belong to the texts, set "
        f"data.quoting: none."
    ]


@pytest.mark.parametrize("text", QUOTED_TEXTS[:3])
def test_one_quoted_text_is_enough(tmp_path: Path, text: str) -> None:
    path = put(tmp_path / "a.tsv", as_written([["text", "label"], ["plain", "x"], [text, "y"]], csv.QUOTE_MINIMAL))
    assert [row["text"] for row in rows_of(path)] == ["plain", text]


def test_texts_of_excel_with_commas_are_quoted(tmp_path: Path) -> None:
    lines = "text\tlabel\n" + "".join(f'"well, number {n}"\tx\nplain {n}\ty\n' for n in range(3))
    assert rows_of(put(tmp_path / "a.tsv", lines))[0]["text"] == "well, number 0"


LITERAL = {
    "an open mark": 'text\tlabel\n"He said\t0\nno "quoting" here\t1\n',
    "marks inside": 'text\tlabel\nthe so-called "art" of it\t0\n',
    "a pair whose ends meet": 'text\tsecond\n"I went\thome"\n"You\tdid"\n',
    "a pair over two lines": 'label\ttext\n0\t"I went\n1\thome"\n',
    "a whole sentence, and a part": 'text\tlabel\n"I went."\t0\n"I went," he said.\t1\n',
    "marks at both ends, more inside": 'text\tlabel\n"Yes," she said. "No."\t0\n',
    "inches": 'text\tlabel\na 15" screen\t0\n',
}


@pytest.mark.parametrize("case", LITERAL)
def test_the_unquoted_tsv_of_glue_stays_literal(tmp_path: Path, case: str) -> None:
    content = LITERAL[case]
    expected = [tuple(line.split("\t")) for line in content.splitlines()[1:]]
    assert [tuple(row.values()) for row in rows_of(put(tmp_path / "a.tsv", content))] == expected


def test_marks_that_could_be_either_stay_and_the_setting_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = put(tmp_path / "a.tsv", 'text\tlabel\n"I went."\t0\nplain\t1\n')
    assert rows_of(path)[0]["text"] == '"I went."'
    assert "set data.quoting: csv" in caplog.text


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10), min_size=1))
def test_what_pandas_writes_with_tabs_is_read(tmp_path: Path, texts: list[str]) -> None:
    path = tmp_path / "a.tsv"
    pd.DataFrame({"text": texts, "label": "x"}).to_csv(path, sep="\t", index=False, lineterminator="\r\n")
    assert [row["text"] for row in rows_of(path)] == texts


def test_the_setting_decides_in_prepare(here: Path, prepared: Prepared) -> None:
    """`"good"` is another label than good; read as CSV it is the same."""
    lines = "".join(f'{text}\t"{label}"\n' for text, label in zip(TEXTS, WORDS, strict=True))
    for split in ("train", "validation"):
        put(here / "data" / f"{split}.tsv", "text\tlabel\n" + lines)
    assert labels_of(prepared()) == {'"bad"': 3, '"good"': 3}
    assert labels_of(prepared(quoting="csv")) == {"bad": 3, "good": 3}
    assert labels_of(prepared(quoting="none")) == {'"bad"': 3, '"good"': 3}


def test_quoting_none_reads_csv_without_quotes(tmp_path: Path, prepared: Prepared, here: Path) -> None:
    for split in ("train", "validation"):
        put(here / "data" / f"{split}.csv", 'text,label\na 15" screen,x\n"open,y\nplain,x\nplainer,y\n')
    assert labels_of(prepared(quoting="none")) == {"x": 2, "y": 2}


def test_settings_of_tables_are_refused_where_there_is_none(here: Path, prepared: Prepared) -> None:
    for split in ("train", "validation"):
        put(here / "data" / f"{split}.jsonl", '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')
    refused(prepared(columns=["text", "label"]), 3, "data.columns is about CSV and TSV files", "Take the setting out")
    refused(prepared(quoting="csv"), 3, "data.quoting is about CSV and TSV files")


NAMELESS = {
    "pandas' index": ",text,label\n0,a,x\n1,b,y\n",
    "a trailing comma": "text,label,\na,x,\nb,y,\n",
    "both": ",text,label,\n0,a,x,\n1,b,y,\n",
    "blanks for a name": "text, ,label\na,0,x\nb,1,y\n",
}


@pytest.mark.parametrize("case", NAMELESS)
def test_a_column_without_a_name_is_left_out_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    path = put(tmp_path / "a.csv", NAMELESS[case])
    assert rows_of(path) == rows_of(path) == [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    assert len(caplog.records) == 1
    assert "left out" in caplog.text


def test_commas_that_the_header_lacks_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"The line ends in commas that the header lacks\. Take them out"):
        rows_of(put(tmp_path / "a.csv", "text,label\na,x,\n"))


AG_NEWS = [
    '"3","Wall St. Bears Claw Back","Short-sellers are seeing green again."',
    '"1","A truce holds","The second day passed without a shot."',
    '"3","Oil prices fall","A barrel costs less than last week."',
    '"1","Votes are counted","The result is expected on Monday."',
]
COLA = [
    "gj04\t1\t\tOur friends came.",
    "gj04\t0\t*\tThem came friends our.",
    "r1\t1\t\tIt rained.",
    "r1\t0\t*\tRained it.",
]


def test_a_file_without_a_header_is_recognised_and_the_setting_named_works(here: Path, prepared: Prepared) -> None:
    for split in ("train", "validation"):
        put(here / "data" / f"{split}.csv", "\n".join(AG_NEWS) + "\n")
    refused(prepared(), 3, "seems to have no header", "Name its 3 columns in their order, -s 'data.columns=[label, ")
    assert labels_of(prepared(columns=["label", "title", "text"])) == {"1": 2, "3": 2}


@pytest.mark.parametrize(
    ("ending", "lines"),
    [
        ("tsv", COLA),
        ("csv", AG_NEWS),
        ("csv", ["good film,pos", "bad film,neg", "fine film,pos", "poor film,neg"]),
        ("csv", ["0,good film", "1,bad film", "0,fine film", "1,poor film"]),
    ],
)
def test_what_the_message_suggests_can_be_typed(here: Path, prepared: Prepared, ending: str, lines: list[str]) -> None:
    for split in ("train", "validation"):
        put(here / "data" / f"{split}.{ending}", "\n".join(lines) + "\n")
    said = prepared()
    refused(said, 3, "seems to have no header")
    setting = said.stderr.split("-s '")[1].split("'")[0]
    again = prepared("classification", "-s", setting)
    assert sum(labels_of(again).values()) == 4, setting


def test_a_header_with_other_names_is_still_a_header(here: Path, prepared: Prepared) -> None:
    put(here / "data" / "validation.csv", "text,label\na,x\n")
    put(here / "data" / "train.csv", "sentence,category\nfirst one,x\nsecond one,y\n")
    refused(prepared(), 3, "expected the columns 'text', 'label'; found 'sentence', 'category'")


def test_names_that_the_first_line_has_make_it_a_header(tmp_path: Path, prepared: Prepared, here: Path) -> None:
    for split in ("train", "validation"):
        put(here / "data" / f"{split}.csv", "text,label\na,x\nb,y\n")
    assert labels_of(prepared(columns=["text", "label"])) == {"x": 1, "y": 1}


def test_a_wrong_number_of_names_is_said(here: Path, prepared: Prepared) -> None:
    for split in ("train", "validation"):
        put(here / "data" / f"{split}.csv", "\n".join(AG_NEWS) + "\n")
    refused(prepared(columns=["label", "text"]), 3, "line 1: expected 2 fields (data.columns: label, text), found 3")


def test_mistakes_in_data_columns_are_found_with_their_place(here: Path, config: Callable[..., Path]) -> None:
    from tests.bad_inputs.in_process import finetune

    file = config(columns=["label", "title", "title"])
    line = next(n for n, text in enumerate(file.read_text().splitlines(), start=1) if "- title" in text) + 1
    said = finetune("validate", file)
    refused(said, 2, f"config.yaml:{line}:5  data.columns.2: 'title' is in the list twice")
    assert "data.text: 'text' is not in data.columns. Allowed: label, title" in said.stderr


OTHERS = {
    "quoted semicolons": ("a.csv", '"text";"label"\n"a, b";"x"\n', "separated by semicolons, not commas"),
    "quoted tabs": ("a.csv", '"text"\t"label"\n"a"\t"x"\n', "separated by tabs, not commas. Name it .tsv."),
    "bars": ("a.csv", "text|label\na|x\n", "separated by vertical bars, not commas"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_separator_is_named(tmp_path: Path, case: str) -> None:
    name, content, message = OTHERS[case]
    with pytest.raises(DataError) as caught:
        rows_of(put(tmp_path / name, content))
    assert message in str(caught.value)


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
@pytest.mark.parametrize(("ending", "separator"), [("csv", ","), ("tsv", "\t")])
def test_any_line_end_will_do(tmp_path: Path, end: str, ending: str, separator: str) -> None:
    lines = [f"text{separator}label", f"a{separator}x", f"b{separator}y", ""]
    path = put(tmp_path / f"a.{ending}", end.join(lines))
    assert rows_of(path) == [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]


def test_json_lines_with_carriage_returns(tmp_path: Path) -> None:
    content = "\r".join(json.dumps({"n": n}) for n in range(5_000))
    assert [row["n"] for row in rows_of(put(tmp_path / "a.jsonl", content))] == list(range(5_000))


# ---- lines that are no rows


@pytest.mark.parametrize(("ending", "separator"), [("csv", ","), ("tsv", "\t")])
def test_a_header_in_the_middle_is_a_bad_row_and_no_class(tmp_path: Path, ending: str, separator: str) -> None:
    """`cat a.csv b.csv > all.csv` made a class called label."""
    lines = [["text", "label"], ["a", "x"], ["text", "label"], ["b", "y"]]
    path = put(tmp_path / f"a.{ending}", "".join(f"{separator.join(cells)}\n" for cells in lines))
    with pytest.raises(DataError, match=r"line 3: this row is the header again\. Are several files in one\?"):
        rows_of(path)
    assert rows_of(put(tmp_path / "b.csv", "text\na\ntext\n")) == [{"text": "a"}, {"text": "text"}]


@pytest.mark.parametrize("content", ["sep=;\ntext;label\na;x\n", "sep=,\ntext,label\na,x\n", "SEP=\t\ntext\tlabel\n"])
def test_the_line_that_excel_puts_first_is_named(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match=r"line 1: found Excel's line about the separator, not a header\. Take it out"):
        rows_of(put(tmp_path / "a.csv", content))


# ---- TSV that shows late whose its quotation marks are

PLAIN = "".join(f"a plain text, number {n}, of some length\tx\n" for n in range(30_000))  # more than is looked at


def test_quotes_of_a_program_far_below_are_an_error_not_text(tmp_path: Path) -> None:
    """`"I went."` could be either; a doubled mark a megabyte below shows that it was a program's."""
    path = put(tmp_path / "a.tsv", 'text\tlabel\n"I went."\tx\n' + PLAIN + '"say ""hi"""\ty\n')
    with pytest.raises(DataError, match=r"line 30003: quotation marks as a program puts them .* data\.quoting: csv"):
        rows_of(path)
    assert rows_of(path, form=TableForm(quoting="csv"))[-1]["text"] == 'say "hi"'
    assert rows_of(path, form=TableForm(quoting="none"))[-1]["text"] == '"say ""hi"""'


@pytest.mark.parametrize("proof", ['a 15" screen', '"open', '"Yes," he said'])
def test_marks_that_no_program_writes_settle_it(tmp_path: Path, proof: str) -> None:
    """Wherever they come, what is below is text, as in GLUE's files."""
    last = '"say ""hi"""\ty\n'
    early = put(tmp_path / "a.tsv", f"text\tlabel\n{proof}\tx\n{PLAIN}{last}")
    assert rows_of(early)[-1]["text"] == '"say ""hi"""'
    late = put(tmp_path / "b.tsv", f'text\tlabel\n"I went."\tx\n{PLAIN}{proof}\tx\n{last}')
    assert [row["text"] for row in rows_of(late)[-2:]] == [proof, '"say ""hi"""']


def test_marks_of_a_text_far_below_in_a_quoted_file_name_the_setting(tmp_path: Path) -> None:
    path = put(tmp_path / "a.tsv", 'text\tlabel\n"say ""hi"""\tx\n' + PLAIN + '"Yes," he said\ty\n')
    with pytest.raises(DataError, match=r"line 30003: text after a closing .* data\.quoting: none"):
        rows_of(path)
