"""What the display of a training run shows, from the records that it is given."""

import pytest

from finetune_cli.display.progress import Lines, Pace, TrainingDisplay, duration
from finetune_cli.records.training import EvalRecord, StepRecord, TrainingStarted


def step(number: int, seconds: float, *, loss: float = 0.5, rows: int = 8) -> StepRecord:
    return StepRecord(number, number / 100, loss, 1.0, 5e-5, seconds, rows, rows * 20)


def evaluation(number: int, score: float, *, split: str = "validation", best: bool = False) -> EvalRecord:
    return EvalRecord(number, number / 100, split, 0.4, {"accuracy": score}, best)


def lines_of(events: list[object]) -> list[str]:
    said: list[str] = []
    with TrainingDisplay(Lines(said.append)) as listen:
        for event in events:
            listen(event)
    return said


def steps_of(lines: list[str]) -> list[int]:
    return [int(line.split()[1].partition("/")[0]) for line in lines]


def test_a_slow_run_gets_a_line_every_ten_seconds():
    events = [TrainingStarted(0, 1000, "cpu", "trainer"), *(step(n, 3.0 * n) for n in range(1, 41))]
    assert steps_of(lines_of(events)) == [5, 9, 13, 17, 21, 25, 29, 33, 37]  # 12 seconds apart: the first after 10


def test_a_run_of_minutes_gets_a_line_at_each_twentieth():
    events = [TrainingStarted(0, 100, "cpu", "trainer"), *(step(n, 0.5 * n) for n in range(1, 101))]
    assert steps_of(lines_of(events)) == list(range(5, 101, 5))


def test_a_run_of_seconds_gets_few_lines_and_always_the_last_update():
    events = [TrainingStarted(0, 100, "cpu", "trainer"), *(step(n, 0.025 * n) for n in range(1, 101))]
    shown = steps_of(lines_of(events))
    assert len(shown) == 3
    assert shown[-1] == 100


def test_a_resumed_run_counts_from_its_checkpoint():
    events = [TrainingStarted(90, 100, "cpu", "trainer"), *(step(n, 2.0 * n) for n in range(91, 101))]
    assert steps_of(lines_of(events)) == [95, 100]


def test_a_line_has_progress_loss_learning_rate_speed_and_time_left():
    events = [TrainingStarted(0, 10, "cpu", "trainer"), step(1, 2.0, loss=1.0), step(2, 4.0, loss=0.5)]
    # 8 rows in the 2 seconds since the first update; 8 updates of 2 seconds are left.
    assert lines_of(events) == ["update 2/10  epoch 0.02  loss 0.7500  lr 5.0e-05  4 rows/s  0:16 left"]


def test_the_loss_is_the_mean_over_the_rows_of_the_last_twenty_updates():
    pace = Pace(0, 100)
    for number in range(1, 31):
        pace.add(step(number, float(number), loss=100.0 if number <= 10 else 1.0))
    assert pace.loss == 1.0
    pace.add(step(31, 31.0, loss=4.0, rows=152))  # as many rows as the 19 before it
    assert pace.loss == pytest.approx(2.5)


def test_speed_and_time_left_are_unknown_after_one_update():
    pace = Pace(0, 100)
    pace.add(step(1, 60.0))
    assert (pace.rows_per_second, pace.seconds_left) == (None, None)


def test_the_evaluations_that_training_calls_best_are_marked():
    """Not decided here: a continued run knows of better ones before it (tests/training/test_best.py)."""
    said = lines_of([evaluation(1, 0.5), evaluation(2, 0.7, best=True), evaluation(2, 0.9, split="validation_other")])
    assert [line.endswith("  * best") for line in said] == [False, True, False]
    assert said[1] == "update 2  epoch 0.02  validation  loss 0.400  accuracy 0.700  * best"


def test_an_evaluation_of_a_pair_task_fits_80_columns():
    record = EvalRecord(1377, 3.0, "validation", 0.4512, {"accuracy": 0.8309, "f1": 0.8801})
    assert max(map(len, lines_of([record]))) <= 80


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (754, "12:34"), (3661, "1:01:01")])
def test_durations_are_minutes_and_hours(seconds: float, text: str):
    assert duration(seconds) == text
