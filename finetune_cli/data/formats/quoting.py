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
FIELD = re.compile(rf'(?:{QUOTED.pattern}|([^"\t\r\n]*))(\t|\r?\n|\r|\Z)')
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
    place = fields = quoted_fields = record = 0
    separator = ""
    while place < len(text) or separator == "\t":
        match = FIELD.match(text, place)
        if match is None:  # a mark inside a plain field, text after a closing mark, or one that is never closed
            is_open = text[place] == '"' and not QUOTED.match(text, place)
            found.is_consistent = is_open and not is_whole and record > 0
            return found
        quoted, plain, separator = match.groups()
        place = match.end()
        fields += 1
        if quoted is None:
            found.plain_with_comma += "," in plain
        else:
            quoted_fields += 1
            found.quoted += 1
            found.doubled |= '""' in quoted or "\r" in quoted  # no text has a carriage return by itself
            found.spans_fields |= any(mark in quoted for mark in "\t\n\r")
            found.quoted_with_comma += "," in quoted
        if separator == "\t":
            continue
        if fields > 1 or plain != "" or not separator:  # else a blank line
            num_columns = num_columns or fields
            if fields != num_columns:
                found.is_consistent = False
                return found
            if record == 0 and has_header:
                found.header_quoted = quoted_fields == fields
            record += 1
        fields = quoted_fields = 0
    return found
