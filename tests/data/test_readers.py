"""Files and standard input as rows: what is taken literally, what is a bad row, what is a bad file."""

import io
import json
from pathlib import Path

import pytest

from finetune_cli.data.formats.row import BadRow, good_rows
from finetune_cli.data.readers import read_rows, read_stream
from finetune_cli.errors import DataError


def rows_of(path: Path) -> list:
    return [row[1] for row in good_rows(read_rows(path))]


def write(tmp_path: Path, name: str, content: bytes | str) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


LITERAL = ["NA", "None", "null", "nan", "N/A", "123", "4.5", "001", "true", "", " spaces ", "naïve 雪 👍🏽 é"]


@pytest.mark.parametrize("text", LITERAL)
def test_texts_stay_as_they_are_in_every_format(tmp_path, text):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    csv = write(tmp_path, "a.csv", f'text,label\n"{text}",x\n')
    tsv = write(tmp_path, "a.tsv", f"text\tlabel\n{text}\tx\n")
    jsonl = write(tmp_path, "a.jsonl", json.dumps({"text": text, "label": "x"}) + "\n")
    parquet.write_table(pa.table({"text": [text], "label": ["x"]}), tmp_path / "a.parquet")
    for path in (csv, tsv, jsonl, tmp_path / "a.parquet"):
        assert rows_of(path) == [{"text": text, "label": "x"}]


def test_csv_takes_bom_crlf_blank_lines_quoted_newlines_and_doubled_quotes(tmp_path):
    path = write(tmp_path, "a.csv", b'\xef\xbb\xbftext,label\r\n"one\r\ntwo",0\r\n\r\n"say ""hi"", you",1\r\n')
    assert list(read_rows(path)) == [
        (0, {"text": "one\r\ntwo", "label": "0"}),
        (1, {"text": 'say "hi", you', "label": "1"}),
    ]


def test_tsv_keeps_quotation_marks_as_text(tmp_path):
    path = write(tmp_path, "a.tsv", 'text\tlabel\n"He said\t0\nno "quoting" here\t1\n')
    assert [row["text"] for row in rows_of(path)] == ['"He said', 'no "quoting" here']


def test_json_values_keep_their_types_and_blank_lines_are_no_rows(tmp_path):
    path = write(tmp_path, "a.jsonl", b'\xef\xbb\xbf{"t": "a", "n": 1}\r\n\n{"t": null, "n": 0.5}')
    assert list(read_rows(path)) == [(0, {"t": "a", "n": 1}), (1, {"t": None, "n": 0.5})]


def test_a_cell_of_two_megabytes_is_read(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\n" + "x" * 2_000_000 + ",0\n")
    assert len(rows_of(path)[0]["text"]) == 2_000_000


def test_parquet_reads_only_the_columns_asked_for(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["a", "b"], "label": [0, 1], "big": ["x", "y"]}), path)
    assert list(read_rows(path, ["label", "text"])) == [(0, {"text": "a", "label": 0}), (1, {"text": "b", "label": 1})]
    assert set(next(read_rows(path, ["text", "lable"]))[1]) == {
        "text",
        "label",
        "big",
    }  # so that a message can list them


# name, content, and what the message must say
BAD_FILES = [
    ("a.csv", "", "is empty. Expected a line of column names"),
    ("a.csv", "\n\n", "is empty"),
    ("a.csv", "text,label\n", "has column names (text, label) but no rows"),
    ("a.csv", "text;label\nx;0\n", "separated by semicolons, not commas"),
    ("a.csv", "text\tlabel\nx\t0\n", "separated by tabs, not commas. Name it .tsv."),
    ("a.tsv", "text,label\nx,0\n", "separated by commas, not tabs. Name it .csv."),
    ("a.csv", "text,text\nx,0\n", "the column name 'text' occurs twice"),
    ("a.csv", "text, label\nx,0\n", "the column name ' label' has blanks around it"),
    ("a.csv", ",,\n0,x,0\n", "none of the 3 columns has a name"),
    ("a.csv", "text,label\nx,0,9\n", "line 2: expected 2 fields (text, label), found 3"),
    ("a.csv", "text,label\nx,0\ny\nz,1\n", "line 3: expected 2 fields (text, label), found 1"),
    ("a.csv", 'text,label\n"x,0\ny,1\n', "line 2: a quotation mark opens here and is never closed"),
    ("a.csv", 'text,label\n"x"y,0\n', "line 2: text after a closing quotation mark"),
    ("a.csv", b"text,label\ncaf\xe9,0\n", "line 2: expected UTF-8 text, found byte 0xe9 at offset 14"),
    ("a.csv", b"\xef\xbb\xbftext,label\ncaf\xe9,0\n", "offset 17"),
    ("a.csv", b"t\xe9xt,label\nx,0\n", "line 1: expected UTF-8 text"),
    ("a.csv", "text,label\nx,0\n".encode("utf-16"), "is UTF-16 text. Save it as UTF-8."),
    ("a.csv", b"text,label\nx\0y,0\n", "line 2: a NUL character"),
    ("a.tsv", "", "is empty"),
    ("a.tsv", "text\tlabel\nx\t0\t9\n", "line 2: expected 2 fields"),
    ("a.jsonl", "", "has no rows"),
    ("a.jsonl", "\n \n", "has no rows"),
    ("a.jsonl", '{"t": "a"}\n{"t": "b"\n', "line 2: expected one JSON object per line, found bad JSON"),
    ("a.jsonl", '{"t": "a"}\n\n{"t": 1, "t": 2}\n', "line 3: the key 't' occurs twice"),
    ("a.jsonl", '{"t": NaN}\n', "line 1: NaN is not JSON"),
    ("a.jsonl", '{"t": -Infinity}\n', "-Infinity is not JSON"),
    ("a.jsonl", '["a", "b"]\n', "line 1: expected one JSON object per line, found a list"),
    ("a.jsonl", '"a"\n', 'found "a"'),
    ("a.jsonl", "{}\n", "at least one key"),
    ("a.jsonl", '{"t": ["a", "b"], "l": [0, 1]}\n', "found one object of lists (a column each)"),
    ("a.jsonl", '{"t": "\\ud800"}\n', "half of a surrogate pair"),
    ("a.jsonl", b'{"t": "caf\xe9"}\n', "offset 10"),
    ("a.jsonl", b'{"t": "a"}\n{"t": "\0"}\n', "line 2: a NUL character"),
    ("a.jsonl", "[" * 100_000, "nested too deeply"),
    ("a.parquet", b"", "is not a Parquet file or is damaged"),
    ("a.parquet", b"PAR1 no", "is not a Parquet file or is damaged"),
    ("a.xlsx", b"PK", "Expected a name that ends in .jsonl, .csv, .tsv, .parquet"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_bad_files_say_where_and_what(tmp_path, name, content, message):
    path = write(tmp_path, name, content)
    with pytest.raises(DataError) as caught:
        rows_of(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_missing_file_and_a_directory_are_named(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name, problem in (("none.csv", "does not exist"), ("folder.csv", "is a directory, not a file")):
        with pytest.raises(DataError, match=problem):
            rows_of(tmp_path / name)


def test_a_parquet_file_cut_short_is_damaged(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["a"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="damaged"):
        rows_of(path)


def test_rows_after_a_bad_one_keep_their_numbers(tmp_path):
    path = write(tmp_path, "a.csv", b'text,label\na,0\nb\n"c"d,0\n\xff,0\n"e\nf",1\ng,1\n')
    rows = list(read_rows(path))
    assert [row[0] for row in rows if not isinstance(row, BadRow)] == [0, 4, 5]
    assert [(row.row, row.line) for row in rows if isinstance(row, BadRow)] == [(1, 3), (2, 4), (3, 5)]


def test_a_quotation_mark_that_is_never_closed_spoils_its_own_line_alone(tmp_path):
    lines = ["id,text,label", '0,"a, ""b""\nmore",x', '1,"open,x', "2,c,x", "3,\xff,x", "4,d,x"]
    path = write(tmp_path, "a.csv", "".join(f"{line}\n" for line in lines).encode("latin-1"))
    found = list(read_rows(path))
    bad = [row for row in found if isinstance(row, BadRow)]
    assert [(row.row, row.line) for row in bad] == [(1, 4), (3, 6)]
    assert "is never closed; the lines below are read without it" in bad[0].problem
    assert [row for row in found if not isinstance(row, BadRow)] == [
        (0, {"id": "0", "text": 'a, "b"\nmore', "label": "x"}),
        (2, {"id": "2", "text": "c", "label": "x"}),
        (4, {"id": "4", "text": "d", "label": "x"}),
    ]


def test_several_bad_rows_are_reported_together_and_no_more_than_five(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\n" + "a\n" * 9)
    with pytest.raises(DataError) as caught:
        rows_of(path)
    lines = str(caught.value).splitlines()
    assert [line.split(", ")[1].split(":")[0] for line in lines[:5]] == [f"line {number}" for number in range(2, 7)]
    assert lines[5:] == ["(there may be more)"]


def stream(text: str | bytes, columns: tuple[str, ...] = ("text",)) -> list:
    return list(read_stream(io.BytesIO(text.encode() if isinstance(text, str) else text), columns))


def test_stream_of_json_lines_is_recognised_after_blank_lines():
    assert stream('\n\n{"text": "a"}\n\n{"text": "b"}\n') == [(0, {"text": "a"}), (1, {"text": "b"})]
    bad = stream('\n{"text": "a"}\n{oops\n')[1]
    assert (bad.row, bad.line) == (1, 3)


def test_stream_of_plain_lines_is_one_text_each_and_keeps_empty_lines():
    assert stream("\na b\tc\r\n\nlast") == [(n, {"text": t}) for n, t in enumerate(["", "a b\tc", "", "last"])]


def test_stream_of_pairs_is_split_at_the_tab():
    first, bad, last = stream("a\tb\nonly one\nc\td\n", ("s1", "s2"))
    assert (first, last) == ((0, {"s1": "a", "s2": "b"}), (2, {"s1": "c", "s2": "d"}))
    assert str(bad) == "standard input, line 2: expected 2 texts with a tab between them, found 1."


def test_stream_of_one_json_list_is_recognised():
    for text in ('[{"text": "a"}, {"text": "b"}]', '\n[\n  {"text": "a"},\n  {"text": "b"}\n]\n'):
        assert stream(text) == [(0, {"text": "a"}), (1, {"text": "b"})]
    assert stream("[music] begins\n") == [(0, {"text": "[music] begins"})]


def test_stream_without_rows_is_an_error():
    for nothing in ("", "\n\n"):
        with pytest.raises(DataError, match="standard input has no rows"):
            stream(nothing)


def test_stream_gives_a_row_before_the_next_line_is_there():
    class OneLine(io.RawIOBase):
        def __iter__(self):
            yield b"first\n"
            pytest.fail("read on before the first row was taken")

    assert next(read_stream(OneLine(), ("text",))) == (0, {"text": "first"})
