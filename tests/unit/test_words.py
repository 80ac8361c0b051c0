"""Words that many messages share."""

import pytest

from finetune_cli.errors import counted


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 rows"), (1, "1 row"), (1.0, "1 row"), (0.5, "0.5 rows"), (1234567, "1,234,567 rows")],
)
def test_one_is_singular(count: float, shown: str) -> None:
    assert counted(count, "row") == shown
