"""Words that many messages share."""

import pytest

from finetune_cli.errors import counted


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 rows"), (1, "1 row"), (1.0, "1 row"), (0.5, "0.5 rows"), (1377, "1377 rows")],
)
def test_one_is_singular(count: float, shown: str) -> None:
    assert counted(count, "row") == shown


def test_a_number_may_have_a_form_of_its_own() -> None:
    assert counted(1234567, "row", form=",") == "1,234,567 rows"
