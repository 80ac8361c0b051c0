"""Whole families: the rows of docs/models.md, each made anew. A dozen always, the others with -m slow."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.models.checks import CHECKS, verdicts
from scripts.models.families import FAMILIES

ALWAYS = {
    "albert", "bart", "bert", "fnet", "gpt2", "llama", "nomic_bert", "qwen2", "roberta", "t5", "xlnet", "deberta-v2",
}  # fmt: skip
QUICK = ("loops", "answers")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries; what they mean is checked in numbers


@pytest.mark.parametrize("name", sorted(ALWAYS))
def test_both_loops_and_all_answers_agree(name: str, tmp_path: Path) -> None:
    found = verdicts(name, tmp_path / name, only=QUICK)
    assert {check: verdict.holds for check, verdict in found.items()} == dict.fromkeys(QUICK, True), found


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_does_all_it_can_and_refuses_the_rest(name: str, tmp_path: Path) -> None:
    found = verdicts(name, tmp_path / name)
    assert found.keys() == CHECKS.keys()
    wrong = {check: verdict for check, verdict in found.items() if verdict.holds is False}
    assert not wrong, wrong
    assert all(found[check].holds for check in (*QUICK, "pair", "resume")), found
    for verdict in found.values():
        assert "bug" not in verdict.reason
        assert verdict.holds or verdict.reason.endswith((".", "anyway."))
