"""Does `--fit abstain` keep its promise, and how many rows does it give up?

python -m scripts.simulations.abstaining
"""

from __future__ import annotations

import numpy as np

from finetune_cli.errors import DataError
from finetune_cli.evaluation.abstaining import fit_abstention
from scripts.simulations.worlds import worlds

ROWS_OF_TRUTH = 400_000


def main() -> None:
    print("accuracy  max-error   rows  broken  refused  kept of what an oracle keeps")
    for accuracy, max_error in ((0.95, 0.05), (0.9, 0.05), (0.85, 0.05), (0.98, 0.01)):
        for num_rows in (408, 1000, 2000, 10_000):
            broken, refused, kept = promise(accuracy, max_error, num_rows, simulations=1000)
            print(
                f"{accuracy:8} {max_error:10} {num_rows:6,} {broken:7.1%} {refused:8.1%} {kept:8.1%}",
                flush=True,
            )


def promise(accuracy: float, max_error: float, num_rows: int, *, simulations: int) -> tuple[float, float, float]:
    """With 90 % confidence: how often more answers are wrong than promised, how often none is given, and the mean share
    of the rows that an oracle would have answered which are (a refusal answers none)."""
    world = worlds(accuracy)[0]
    confidence, right = _answers(*world.draw(ROWS_OF_TRUTH, np.random.default_rng(1)))
    order = np.argsort(-confidence)
    ordered, risk = confidence[order], np.cumsum(~right[order]) / np.arange(1, ROWS_OF_TRUTH + 1)
    oracle = int(np.flatnonzero(risk <= max_error)[-1]) + 1
    generator = np.random.default_rng(2)
    broken, kept = 0, []
    for _ in range(simulations):
        try:
            found = fit_abstention(*_answers(*world.draw(num_rows, generator)), max_error=max_error, level=0.9)
        except DataError:
            kept.append(0.0)
            continue
        answered = int(np.searchsorted(-ordered, -found.below, side="right"))
        broken += risk[answered - 1] > max_error
        kept.append(min(1.0, answered / oracle))
    return broken / simulations, float(np.mean(np.array(kept) == 0)), float(np.mean(kept))


def _answers(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return scores.max(axis=1), scores.argmax(axis=1) == labels


if __name__ == "__main__":
    main()
