"""YAML 1.2 core: what each form means, where it stands, and what is refused without stopping the reading."""

from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from finetune_cli.config.yaml_core import is_plain_text
from finetune_cli.config.yaml_source import parse_value, parse_yaml
from finetune_cli.errors import ConfigError


def value_of(written: str) -> object:
    return parse_yaml(f"key: {written}\n", "c.yaml").data["key"]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("5e-5", 5e-5),
        ("1e-5", 1e-5),
        ("5E-5", 5e-5),
        ("1.0e5", 1e5),
        (".5", 0.5),
        ("-3", -3),
        ("0", 0),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("[1, 2]", [1, 2]),
        ("{a: 1}", {"a": 1}),
        ("|\n  two\n  lines", "two\nlines\n"),
        ("695e05", 69_500_000.0),
    ],
)
def test_reads_yaml_1_2_values(written: str, value: object) -> None:
    found = value_of(written)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "written",
    ["no", "on", "Yes", "off", "NO", "012", "010", "0x10", "0o17", "1_000", "12:30", "2026-11-20", "1e", "1.2.3"],
)
def test_what_yaml_1_1_would_change_stays_text(written: str) -> None:
    assert value_of(written) == written


def test_the_global_loader_of_pyyaml_is_left_alone() -> None:
    assert yaml.safe_load("no") is False


def test_every_key_and_value_has_its_line_and_column() -> None:
    document = parse_yaml("a:\n  b: 12\n  c: [x,\n    y]\n", "c.yaml")
    spots = {
        path: (spot.key.line, spot.key.column, spot.value.line, spot.value.column)
        for path, spot in document.spots.items()
    }
    assert spots == {
        ("a",): (1, 1, 2, 3),
        ("a", "b"): (2, 3, 2, 6),
        ("a", "c"): (3, 3, 3, 6),
        ("a", "c", 0): (3, 7, 3, 7),
        ("a", "c", 1): (4, 5, 4, 5),
    }
    assert document.spots["a", "b"].text == "12"


@pytest.mark.parametrize(
    ("text", "line", "column", "key", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "a", "duplicate key (first on line 1)"),
        ("s:\n  a: 1\n  a: 2\n", 3, 3, "s.a", "duplicate key (first on line 2)"),
        ("s: {a: 1, a: 2}\n", 1, 11, "s.a", "duplicate key (first on line 1)"),
        ("a: &x 1\n", 1, 4, "a", "anchors (&) are not read here"),
        ("a: &x [*x]\n", 1, 4, "a", "anchors (&) are not read here"),
        ("a: *x\n", 1, 4, "a", "aliases (*) are not read here"),
        ("s:\n  <<: {a: 1}\n", 2, 3, "s", "merge keys (<<) are not read here"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, 4, "a", "tags (!) are not read here"),
        ("a: !!int 3\n", 1, 4, "a", "tags (!) are not read here"),
        ("1: a\n", 1, 1, "", "the key 1 is not text"),
        ("true: a\n", 1, 1, "", "the key true is not text"),
        ("labels: {0: no}\n", 1, 10, "labels", "class names are given as a list"),
        ("? [a]\n: b\n", 1, 3, "", "a key is not text"),
        ("a: .nan\n", 1, 4, "a", ".nan is not a number here"),
        ("a: -.inf\n", 1, 4, "a", "-.inf is not a number here"),
        ("a: 695e0514\n", 1, 4, "a", "695e0514 is too large for a number. Allowed: a finite number; quote it"),
        ("a: 1e999\n", 1, 4, "a", "1e999 is too large for a number"),
        ("a: " + "9" * 5000 + "\n", 1, 4, "a", "is too large for a number"),
    ],
)
def test_notes_what_is_refused_and_reads_on(text: str, line: int, column: int, key: str, message: str) -> None:
    document = parse_yaml(f"{text}last: 7\n", "c.yaml")
    problem = document.problems[0]
    assert (problem.source, problem.line, problem.column, problem.key) == ("c.yaml", line, column, key)
    assert message in problem.message
    assert document.data["last"] == 7


def test_aliases_are_not_expanded() -> None:
    bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n"
    document = parse_yaml(bomb, "c.yaml")
    assert document.data == {}
    assert {path[0] for path in document.unusable} == {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: 1\n\tb: 2\n", 2, 1, "a tab stands here. Allowed: spaces"),
        ("a:\t1\n", 1, 3, "a tab stands here. Allowed: spaces"),
        ("", 1, 1, "the file is empty"),
        ("# only a comment\n", 1, 1, "the file is empty"),
        ("- a\n- b\n", 1, 1, "the file holds a list"),
        ("# x\nhello\n", 2, 1, "the file holds a single text"),
        ("a: 1\n---\nb: 2\n", 2, 1, "One config a file"),
        ("a: [1\nb: 2\n", 2, 2, "A bracket or a comma is missing"),
        ("path: C:\\x: y\n", 1, 11, "Quote a text that has ': ' in it"),
        ("glob: *.csv\n", 1, 8, "Quote a text that begins with * or &"),
        ("a: @x\n", 1, 4, "Quote a text that begins with this character"),
        ("a: 'x\n", 2, 1, "(what began on line 1). A closing quote is missing"),
        ('a: "\\d"\n', 1, 6, "use single quotes"),
        ("a: " + "[" * 3000, 1, 35, "nested deeper than 32 levels"),
    ],
)
def test_broken_syntax_is_one_problem_with_a_hint(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "c.yaml")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (line, column)
    assert message in problem.message
    assert str(caught.value) == f"c.yaml:{line}:{column}  {problem.message}"


def test_thirty_levels_are_read() -> None:
    assert parse_yaml("a: " + "[" * 30 + "]" * 30, "c.yaml").problems == []


@given(st.text(alphabet="ab:- \n\t[]{},&*!|>'\"#%@<?~.0e", max_size=40))
def test_no_text_gets_past_as_another_exception(text: str) -> None:
    with suppress(ConfigError):
        assert isinstance(parse_yaml(text, "c.yaml").data, dict)


def test_a_single_value_keeps_the_source_it_came_from() -> None:
    document = parse_value("[a, 2]", "--set x.y=[a, 2]", ("x", "y"))
    assert document.data == {"y": ["a", 2]}
    assert document.spots["x", "y", 1].value.source == "--set x.y=[a, 2]"
    assert document.spots["x", "y", 1].value.line is None


@pytest.mark.parametrize(("text", "plain"), [("1e5", False), ("true", False), ("", False), ("no", True), ("012", True)])
def test_knows_which_texts_need_quotes(text: str, plain: bool) -> None:
    assert is_plain_text(text) is plain
