"""Texts that look wrong by themselves: empty, in another encoding, full of markup. One pass, in constant memory.

Most texts are fine, so many are looked at together; only where something is found are they taken one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from finetune_cli.data.checks.findings import Tally, excerpt

# UTF-8 that was read as Latin-1 or Windows-1252 (which has letters and quotes at 0x80 to 0x9F): the continuation bytes
# 0x80 to 0xBF become these characters.
WINDOWS = "".join(bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xA0)) + "\x80-\x9f"
CONTINUATION = f"[{WINDOWS}\xa0-\xbf]"
WRONG_ENCODING = re.compile(
    "\ufffd|\ufeff|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"  # what decoders put in place of bytes; control characters
    f"|[\xc2\xc3]{CONTINUATION}"  # accented letters; other first bytes also stand before a quote in good French
    f"|(?:[\xc4-\xdf]{CONTINUATION}){{2}}"  # Cyrillic, Greek ...
    f"|\xe2[{WINDOWS}]{CONTINUATION}"  # curly quotes, dashes, the euro
    f"|(?:[\xe3-\xe9]{CONTINUATION}{{2}}){{2}}"  # Chinese, Japanese ...
    "|\xf0[\x9f\u0178]"  # emoji
)
CONTROL_BYTES = bytes([*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F])
# Named tags only: <user> and <unk> are words of some data sets.
MARKUP = re.compile(
    r"</?(?:a|b|blockquote|body|br|center|code|div|em|font|form|h[1-6]|head|hr|html|i|iframe|img|input|li|link|meta|ol|p"
    r"|pre|script|span|strong|style|sub|sup|table|tbody|td|th|title|tr|u|ul)\b[^<>]{0,500}>"
    r"|&(?:[a-zA-Z]{2,8}|#\d{2,7}|#[xX][0-9a-fA-F]{2,6});",
    re.IGNORECASE,
)


INVISIBLE = (  # beside blanks: characters that show nothing, zero-width ones and fillers
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u200b\u200c\u200d\u200e\u200f"
    "\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\u2800\u3164"
    "\ufe0e\ufe0f\ufeff\uffa0"
)
_SHOWS_NOTHING = re.compile(f"[\\s{INVISIBLE}]*")


def is_empty(text: str) -> bool:
    """Whether nothing of a text can be seen."""
    return not text.strip() or _SHOWS_NOTHING.fullmatch(text) is not None


class TextScan:
    """The texts of one split, looked at as they stream by."""

    def __init__(self) -> None:
        self.empty, self.encoding, self.markup = Tally(), Tally(), Tally()

    def add(self, rows: Sequence[int], columns: Sequence[Sequence[str]]) -> list[int]:
        """Look at some rows: one sequence of texts for each text column. Returns the places of those with no text."""
        empty: set[int] = set()
        wrong: dict[int, str] = {}
        markup: dict[int, str] = {}
        for texts in columns:
            if not all(map(str.strip, texts)):
                empty |= {place for place, text in enumerate(texts) if not text.strip()}
            if not "".join(texts).isascii():
                empty |= {place for place, text in enumerate(texts) if not text.isascii() and is_empty(text)}
            joined = "\n".join(texts)
            if may_be_wrong(joined):
                wrong = _matches(WRONG_ENCODING, texts, where=may_be_wrong) | wrong
            if may_be_markup(joined):
                markup = _matches(MARKUP, texts, where=may_be_markup) | markup
        for place in sorted(empty):
            self.empty.add(rows[place])
        for tally, excerpts in ((self.encoding, wrong), (self.markup, markup)):
            for place in sorted(excerpts):
                tally.add(rows[place], excerpts[place])
        return sorted(empty)


def may_be_wrong(text: str) -> bool:
    """Whether a search is worth its time: much faster than the search."""
    if not text.isascii():
        return True
    encoded = text.encode()
    return len(encoded.translate(None, CONTROL_BYTES)) != len(encoded)


def may_be_markup(text: str) -> bool:
    return "<" in text or "&" in text


def _matches(pattern: re.Pattern[str], texts: Sequence[str], *, where: Callable[[str], bool]) -> dict[int, str]:
    """The places of the texts in which the pattern occurs, each with an excerpt from there."""
    excerpts = {}
    for place, text in enumerate(texts):
        if where(text) and (match := pattern.search(text)):
            excerpts[place] = excerpt(text, match.start())
    return excerpts
