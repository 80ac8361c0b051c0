"""Two classes, fifty, sets of labels and numbers: trained in both loops, scored and predicted by the commands."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands.run_files import LOOPS, Answer, history, same_weights, saved_scores

FIFTY = [f"intent {number}" for number in range(50)]
TAGS = ["film", "meal", "praise"]
KINDS: dict[str, tuple[str, Callable[[int], Any]]] = {
    "two classes": ("classification", lambda n: ("bad", "good")[n % 2]),
    "fifty classes": ("classification", lambda n: FIFTY[n % 50]),
    "sets of labels": ("multilabel", lambda n: [tag for place, tag in enumerate(TAGS) if n >> place & 1]),
    "numbers": ("regression", lambda n: (n % 7) / 2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_both_loops_train_score_and_predict_alike(
    tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer], kind: str
) -> None:
    task, label = KINDS[kind]
    rows = [{"text": f"good song number {n}", "label": label(n)} for n in range(100)]
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = {"path": str(tmp_path), "text": "text", "checks": {"overlap": "ignore"}}
    config = write_config(tmp_path, task=task, data=data, training={"num_epochs": 2})
    runs = {loop: tmp_path / loop for loop in LOOPS}
    answers = {}
    for loop, run in runs.items():
        words = ["-s", f"training.loop={loop}", "-s", f"output_dir={run}"]
        for verb in ("prepare", "train", "evaluate"):
            said = command([verb, config, *words])
            assert said.code == 0, said.stderr
        said = command(["predict", run, tmp_path / "validation.jsonl", "--probabilities"])
        assert said.code == 0, said.stderr
        answers[loop] = [json.loads(line) for line in said.stdout.splitlines()]
    trainer, accelerate = (runs[loop] for loop in LOOPS)
    assert len(history(trainer, "train")) == 26
    assert history(trainer, "train") == history(accelerate, "train")
    assert history(trainer, "eval") == history(accelerate, "eval")
    assert same_weights(trainer, accelerate)
    assert saved_scores(trainer) == saved_scores(accelerate)
    assert answers["trainer"] == answers["accelerate"]
    _check_answers(kind, answers["trainer"], saved_scores(trainer))


def _check_answers(kind: str, answers: list[dict[str, Any]], scores: dict[str, Any]) -> None:
    """One answer a row, in the words of the data; classes in natural order."""
    assert [answer["id"] for answer in answers] == list(range(100))
    if kind == "numbers":
        assert all(math.isfinite(answer["prediction"]) for answer in answers)
        return
    names = {"two classes": ["bad", "good"], "fifty classes": FIFTY, "sets of labels": TAGS}[kind]
    assert [entry["label"] for entry in scores["per_class"]] == names
    for answer in answers:
        chances = answer["probabilities"]
        assert list(chances) == names
        if kind == "sets of labels":
            assert answer["prediction"] == [name for name in names if chances[name] >= 0.5]
        else:
            assert answer["prediction"] == max(chances, key=chances.__getitem__)
            assert sum(chances.values()) == pytest.approx(1)
