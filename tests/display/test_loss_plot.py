"""The plot of the loss: what it shows, that it fits, and that a terminal alone gets it."""

import io
import math

import pytest
from rich.console import Console

from finetune_cli.display.loss_plot import BRAILLE, HEIGHT, LossCurve
from finetune_cli.display.progress import Bar, Lines, TrainingDisplay
from finetune_cli.records.training import EvalRecord, MemberStarted, StepRecord, TrainingStarted


def falling(num_updates: int, *, first: int = 1) -> list[StepRecord]:
    """A loss that falls in a straight line from 1 to 0."""
    span = max(num_updates - 1, 1)
    return [
        StepRecord(step, step / num_updates, 1 - (step - 1) / span, 1.0, 5e-5, step * 0.1, 8, 80)
        for step in range(first, num_updates + 1)
    ]


def curve_of(records: list[StepRecord], num_updates: int) -> LossCurve:
    curve = LossCurve(num_updates)
    for record in records:
        curve.add(record.step, record.loss, record.rows)
    return curve


def rows_with_dots(lines: list[str]) -> list[tuple[int, int]]:
    """(line, column) of every Braille character, lines from the top of the plot."""
    plot = [line.partition("|")[2] for line in lines[1 : 1 + HEIGHT]]
    return [(row, column) for row, line in enumerate(plot) for column, cell in enumerate(line) if ord(cell) >= BRAILLE]


@pytest.mark.parametrize("num_updates", [2, 16, 273, 5000])
@pytest.mark.parametrize("width", [32, 60, 100])
def test_a_falling_loss_goes_from_top_left_to_bottom_right(num_updates: int, width: int):
    lines = curve_of(falling(num_updates), num_updates).lines(width)
    assert len(lines) == 1 + HEIGHT + 2
    assert max(map(len, lines)) <= width
    dots = rows_with_dots(lines)
    assert dots[0][0] == 0
    assert dots[-1][0] == HEIGHT - 1
    left_ends = [min(column for row, column in dots if row == line) for line in range(HEIGHT)]
    assert left_ends == sorted(left_ends)
    assert float(lines[1].split()[0]) > float(lines[HEIGHT].split()[0])
    assert lines[-1].endswith(f"update {num_updates}")


def test_a_point_is_the_mean_over_rows_and_not_over_updates():
    curve = LossCurve(32)
    for step in range(1, 33):
        curve.add(step, 4.0 if step % 2 else 1.0, 1 if step % 2 else 3)  # (4 * 1 + 1 * 3) / 4 = 1.75 in each half
    assert set(curve._means(16).values()) == {1.75}


def test_evaluations_stand_where_they_were():
    curve = curve_of(falling(100), 100)
    curve.add_evaluation(100, 0.0)
    curve.add_evaluation(1, 1.0)
    lines = curve.lines(60)
    assert lines[1].partition("|")[2].startswith("o")
    assert lines[HEIGHT].endswith("o")
    assert "validation o" in lines[0]


def test_nothing_is_drawn_of_one_update_of_nan_or_without_room():
    assert curve_of(falling(1), 1).lines(80) == []
    assert curve_of(falling(50), 50).lines(30) == []
    never_finite = LossCurve(50)
    for step in range(1, 51):
        never_finite.add(step, math.nan, 8)
    never_finite.add_evaluation(50, math.inf)
    assert never_finite.lines(80) == []


def test_a_level_loss_is_a_level_line():
    curve = LossCurve(40)
    for step in range(1, 41):
        curve.add(step, 0.5, 8)
    assert len({row for row, _ in rows_with_dots(curve.lines(60))}) == 1


def test_a_run_of_any_length_is_kept_in_the_same_space():
    curve = curve_of(falling(100_000), 100_000)
    assert len(curve.sums) == len(LossCurve(10**9).sums)


def shown_on_a_terminal(events: list[object], *, error: Exception | None = None, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    view = Bar(Console(file=file, force_terminal=True, width=60, color_system=None, highlight=False))
    try:
        with TrainingDisplay(view) as listen:
            for event in events:
                listen(event)
            if error is not None:
                raise error
    except ValueError:
        pass
    file.flush()
    return file.buffer.getvalue().decode(encoding)


EVENTS = [TrainingStarted(0, 40, "cpu", "trainer"), *falling(40), EvalRecord(40, 1.0, "validation", 0.3, {})]


def test_a_terminal_gets_the_curve_after_training():
    shown = shown_on_a_terminal(EVENTS)
    after_the_bar = shown[shown.rindex("loss, training as a line, validation o") :]
    assert rows_with_dots([line.rstrip("\r") for line in after_the_bar.splitlines()])
    assert after_the_bar.rstrip().endswith("update 40")


def test_each_seed_has_a_curve_of_its_own():
    shown = shown_on_a_terminal([MemberStarted("seed", 1, 1, 2), *EVENTS, MemberStarted("seed", 2, 2, 2), *EVENTS])
    assert shown.count("loss, training as a line") == 2


def test_a_run_that_goes_on_when_memory_ran_out_has_one_curve():
    shown = shown_on_a_terminal([*EVENTS[:20], TrainingStarted(10, 40, "cpu", "trainer"), *falling(40, first=11)])
    assert shown.count("loss, training as a line") == 1


@pytest.mark.parametrize(
    "shown",
    [
        lambda: shown_on_a_terminal(EVENTS, error=ValueError("training failed")),
        lambda: shown_on_a_terminal(EVENTS, encoding="ascii"),
        lambda: shown_on_a_terminal([]),
    ],
    ids=["after an error", "without Braille", "nothing was trained"],
)
def test_no_curve_where_there_is_nothing_to_draw_or_to_draw_with(shown):
    assert "training as a line" not in shown()


def test_a_pipe_gets_no_curve():
    said: list[str] = []
    with TrainingDisplay(Lines(said.append)) as listen:
        for event in EVENTS:
            listen(event)
    assert said
    assert not any("as a line" in line or ord(max(line)) >= BRAILLE for line in said)
