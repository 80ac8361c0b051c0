"""Whether the quotation marks of a tab-separated file are its writer's, as in CSV, or belong to the texts.

Spreadsheets and pandas put a text in quotation marks when it holds one (doubled then), a tab or a line end; GLUE's own
files have no quoting, and half a sentence in quotation marks is text (kor-nlu-datasets#8, csv-parse#323).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)"')
PLAIN = re.compile(r'[^"\t\r\n]*')
LINE_END = re.compile(r"\r?\n|\r")
SEVERAL = 3  # texts with a comma, all of them and no others quoted: Excel's "text (tab delimited)"


@dataclass
class Evidence:
    """What a reading with quotes finds. is_consistent: nothing in the lines speaks against it."""

    is_consistent: bool = True
    quoted: int = 0
    doubled: bool = False
    spans_fields: bool = False
    quoted_with_comma: int = 0
    plain_with_comma: int = 0
    header_quoted: bool = False


Reading = Literal["csv", "text", "either"]


def reading_of(lines: Sequence[str], *, num_columns: int | None, is_whole: bool, has_header: bool) -> Reading:
    """What the quotation marks of some lines, from the first one that has any on, are: a program's as in CSV, or text;
    "either" when nothing speaks against CSV and nothing for it.

    num_columns: fields of each row; None: the first of these lines is the header. is_whole: nothing comes after them.
    has_header: the first of them is the header.
    """
    found = _read_with_quotes("".join(lines), num_columns, is_whole=is_whole, has_header=has_header)
    if not found.is_consistent or not found.quoted:
        return "text"
    expected = num_columns or lines[0].count("\t") + 1
    ragged = any(line.strip("\r\n") and line.count("\t") + 1 != expected for line in lines)
    as_excel = found.quoted == found.quoted_with_comma >= SEVERAL and not found.plain_with_comma
    alone = expected == 1 and found.spans_fields
    return "csv" if found.doubled or found.header_quoted or ragged or as_excel or alone else "either"


def wraps_texts(lines: Sequence[str]) -> bool:
    """Whether some texts are wholly in quotation marks: written so, or put so by a program."""
    return any(
        len(field) > 2 and field[0] == '"' == field[-1] for line in lines for field in line.rstrip("\r\n").split("\t")
    )


def _read_with_quotes(text: str, num_columns: int | None, *, is_whole: bool, has_header: bool) -> Evidence:
    found = Evidence()
    place, fields, quoted_fields, record = 0, 0, 0, 0
    while place < len(text):
        match = QUOTED.match(text, place)
        if match is not None:
            found.quoted += 1
            quoted_fields += 1
            found.doubled |= '""' in match[1]
            found.spans_fields |= "\t" in match[1] or "\n" in match[1] or "\r" in match[1]
            found.doubled |= "\r" in match[1]  # no text has one by itself
            found.quoted_with_comma += "," in match[1]
        elif text[place] == '"':  # never closed
            found.is_consistent = not is_whole and record > 0
            return found
        else:
            match = PLAIN.match(text, place)
            assert match is not None, "it matches nothing, too"
            found.plain_with_comma += "," in match[0]
        fields += 1
        place = match.end()
        end = LINE_END.match(text, place)
        if end is None and place < len(text):
            if text[place] != "\t":  # a quotation mark inside a plain field, or text after a closing one
                found.is_consistent = False
                return found
            place += 1
            if place < len(text):
                continue
            fields += 1
        if fields == 1 and not quoted_fields and end is not None and match.end() == match.start():
            fields = 0  # a blank line
        else:
            num_columns = num_columns or fields
            if fields != num_columns:
                found.is_consistent = False
                return found
            if record == 0 and has_header:
                found.header_quoted = quoted_fields == fields
            record += 1
        place = end.end() if end is not None else len(text)
        fields = quoted_fields = 0
    return found
