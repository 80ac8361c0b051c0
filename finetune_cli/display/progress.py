"""What a person sees while a model trains: a live bar on a terminal, lines in a pipe or a log file."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from finetune_cli.display.loss_plot import LossCurve
from finetune_cli.display.terminal import is_terminal, write_error
from finetune_cli.records.training import (
    EvalRecord,
    Listener,
    MemberStarted,
    StepRecord,
    TrainingEvent,
    TrainingStarted,
)

if TYPE_CHECKING:
    from rich.console import Console

RECENT_UPDATES = 20  # the mean of the loss over these is shown: that of one small batch varies too much
LINES_PER_RUN = 20
SECONDS_BETWEEN_LINES = 10
MIN_SECONDS_BETWEEN_LINES = 1  # a run of a few seconds needs less than twenty lines
BEST = "  * best"
BAR_REFRESHES_PER_SECOND = 4
MAX_CURVE_WIDTH = 100  # characters


class View:
    """One way to show progress. This one shows nothing: for --quiet, and in all processes but the main one."""

    def started(self, event: TrainingStarted) -> None: ...

    def updated(self, record: StepRecord, pace: Pace) -> None: ...

    def evaluated(self, text: str) -> None: ...

    def trained(self, curve: LossCurve) -> None: ...

    def close(self) -> None: ...


class TrainingDisplay:
    """Listens to a training run and shows it; a context manager, so that the bar is gone when an error is shown."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.pace = Pace(0, 0)
        self.curve: LossCurve | None = None

    def __enter__(self) -> Listener:
        return self.show

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self.view.close()
        if kind is None:
            self._show_curve()

    def show(self, event: TrainingEvent) -> None:
        if isinstance(event, MemberStarted):
            self._show_curve()
        elif isinstance(event, TrainingStarted):
            self.pace = Pace(event.first_step, event.num_updates)
            self.curve = self.curve or LossCurve(event.num_updates)  # kept when memory ran out and training goes on
            self.view.started(event)
        elif isinstance(event, StepRecord):
            self.pace.add(event)
            if self.curve:
                self.curve.add(event.step, event.loss, event.rows)
            self.view.updated(event, self.pace)
        else:
            if self.curve and event.split == "validation":
                self.curve.add_evaluation(event.step, event.loss)
            self.view.evaluated(evaluation_text(event))

    def _show_curve(self) -> None:
        """The curve of the training that has ended, if there was one."""
        if self.curve:
            self.view.trained(self.curve)
        self.curve = None


class Pace:
    """The speed of the updates, and their mean loss."""

    def __init__(self, first_step: int, num_updates: int) -> None:
        self.first_step = first_step
        self.num_updates = num_updates
        self.recent: deque[StepRecord] = deque(maxlen=RECENT_UPDATES)
        self.first: StepRecord | None = None

    def add(self, record: StepRecord) -> None:
        self.first = self.first or record
        self.recent.append(record)

    @property
    def loss(self) -> float:
        """Mean over the rows of the recent updates."""
        return sum(record.loss * record.rows for record in self.recent) / sum(record.rows for record in self.recent)

    @property
    def rows_per_second(self) -> float | None:
        """None before the second update: the first one also has the time of the start."""
        seconds = self.recent[-1].seconds - self.recent[0].seconds
        return sum(record.rows for record in list(self.recent)[1:]) / seconds if seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """By the mean time of an update in this process, with the evaluations between them."""
        if self.first is None or self.recent[-1].step == self.first.step:
            return None
        last = self.recent[-1]
        return (last.seconds - self.first.seconds) / (last.step - self.first.step) * (self.num_updates - last.step)


def evaluation_text(record: EvalRecord) -> str:
    scores = {"loss": record.loss, **record.metrics}
    parts = [f"update {record.step}", f"epoch {record.epoch:.4g}", record.split]
    parts += [f"{name} {value:.3f}" for name, value in scores.items()]
    return "  ".join(parts) + (BEST if record.best else "")


def duration(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def numbers(record: StepRecord, pace: Pace) -> list[str]:
    """The numbers beside the bar. Each has a constant width, so that the others do not move."""
    rate, left = pace.rows_per_second, pace.seconds_left
    return [
        f"loss {pace.loss:.4f}",
        f"lr {record.learning_rate:.1e}",
        f"{rate:.0f} rows/s" if rate else "- rows/s",
        f"{duration(left)} left" if left is not None else "",
    ]


class Lines(View):
    """One line at a time: at each twentieth of the run and at least every 10 seconds, and one for each evaluation."""

    def __init__(self, write: Callable[[str], None] = write_error) -> None:
        self.write = write
        self.last_step = 0
        self.last_seconds: float | None = None
        self.every = 1

    def started(self, event: TrainingStarted) -> None:
        self.last_step = event.first_step
        self.every = max(1, event.num_updates // LINES_PER_RUN)

    def updated(self, record: StepRecord, pace: Pace) -> None:
        if self.last_seconds is None:
            self.last_seconds = record.seconds
        waited = record.seconds - self.last_seconds
        twentieth = record.step - self.last_step >= self.every and waited >= MIN_SECONDS_BETWEEN_LINES
        if not (twentieth or waited >= SECONDS_BETWEEN_LINES or record.step == pace.num_updates):
            return
        self.last_step, self.last_seconds = record.step, record.seconds
        parts = [f"update {record.step}/{pace.num_updates}", f"epoch {record.epoch:.2f}", *numbers(record, pace)]
        self.write("  ".join(part for part in parts if part))

    def evaluated(self, text: str) -> None:
        self.write(text)


class Bar(View):
    """A bar in the last line of the terminal, evaluations above it, and a plot of the loss at the end."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.progress = Progress(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=console or Console(stderr=True, highlight=False),
            expand=True,
            refresh_per_second=BAR_REFRESHES_PER_SECOND,
            redirect_stdout=sys.stdout.isatty(),
        )
        self.task = self.progress.add_task("", total=None, numbers="starting")

    def started(self, event: TrainingStarted) -> None:
        self.progress.update(self.task, total=event.num_updates, completed=event.first_step)
        self.progress.start()

    def updated(self, record: StepRecord, pace: Pace) -> None:
        self.progress.update(self.task, completed=record.step, numbers="  ".join(numbers(record, pace)))

    def evaluated(self, text: str) -> None:
        self.progress.console.print(text, markup=False, style="bold" if text.endswith(BEST) else None)

    def trained(self, curve: LossCurve) -> None:
        console = self.progress.console
        if not console.options.ascii_only:
            lines = curve.lines(min(console.width, MAX_CURVE_WIDTH))
            console.print(*lines, sep="\n", markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self.progress.stop()


def training_display(*, shown: bool) -> TrainingDisplay:
    """A bar on a terminal, lines elsewhere, nothing when not shown."""
    if not shown:
        return TrainingDisplay(View())
    return TrainingDisplay(Bar() if is_terminal(sys.stderr) else Lines())
