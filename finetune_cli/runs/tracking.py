"""The lines of history.jsonl on their way to TensorBoard, Weights & Biases, MLflow or Trackio.

Accelerate's trackers do the talking. Both loops report to one listener, so a tracker gets the same numbers from both.
What a tracker writes to files lies in `tracking/` of the run directory. history.jsonl stays the record: a tracker that
fails is left out with a warning.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from finetune_cli.config.dump import leaves
from finetune_cli.config.fields import TRACKERS, RunConfig
from finetune_cli.errors import MissingError, first_line
from finetune_cli.records.training import EvalRecord, Listener, StepRecord, TrainingEvent
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.system.files import remove_directory, write_json
from finetune_cli.system.launching import is_main_process

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

    from finetune_cli.runs.context import RunContext

logger = logging.getLogger(__name__)

PROJECT = "finetune"
Series = tuple[str, str]  # the type of a history line, and its split


def require_trackers(names: Sequence[str]) -> None:
    """Raise MissingError, which says what to install, for a tracker whose package is not there."""
    if absent := [name for name in names if importlib.util.find_spec(TRACKERS[name]) is None]:
        packages = " ".join(TRACKERS[name] for name in absent)
        raise MissingError(
            f"tracking: not installed: {', '.join(absent)}. Install with `pip install {packages}`, or take "
            f"{'it' if len(absent) == 1 else 'them'} out of tracking."
        )


@contextmanager
def tracked(context: RunContext, *, going_on: bool) -> Iterator[Listener]:
    """The run's listener; in the main process, while the block runs, the trackers of the config hear each event first.

    going_on: the run continues from a checkpoint, and so do its curves: no point is sent twice. A tracker that does
    not start then is left out with a warning, so that the run is not held up; in a new run it is a MissingError.
    """
    if not is_main_process():
        yield context.listen
        return
    run = context.run
    if not going_on:
        remove_directory(run.tracking)
    feed = _Feed(context.listen, sent=_last_steps(run) if going_on else {})
    try:
        for name in context.config.tracking:
            try:
                with redirect_stdout(sys.stderr):
                    feed.trackers[name] = _start(name, run, context.config, offline=context.offline)
            except Exception as err:  # each tracker has its own
                reason = f"{name} does not start: {first_line(err)}"
                if not going_on:
                    raise MissingError(f"tracking: {reason}. Log in or set it up, or take it out of tracking.") from err
                logger.warning("%s. The run goes on without it.", reason)
        yield feed
    finally:
        for started in list(feed.trackers):
            feed.ask(started, lambda tracker: tracker.finish())


class _Feed:
    """Gives each record to all trackers, and drops one that fails; then tells `listen`.

    sent: the last step of each series that the trackers have.
    """

    def __init__(self, listen: Listener, *, sent: dict[Series, int]) -> None:
        self.listen = listen
        self.sent = sent
        self.trackers: dict[str, GeneralTracker] = {}

    def __call__(self, event: TrainingEvent) -> None:
        if isinstance(event, StepRecord | EvalRecord):
            self._send(event)  # first: what history.jsonl has, the trackers have, too
        self.listen(event)

    def _send(self, record: StepRecord | EvalRecord) -> None:
        series = _series(record.to_json())
        if record.step <= self.sent.get(series, 0):
            return
        self.sent[series] = record.step
        values = scalars(record)
        for name in list(self.trackers):
            self.ask(name, lambda tracker: _log(tracker, values, record.step))

    def ask(self, name: str, action: Callable[[GeneralTracker], None]) -> None:
        try:
            with redirect_stdout(sys.stderr):  # stdout is for the result
                action(self.trackers[name])
        except Exception as err:  # each tracker has its own
            del self.trackers[name]
            logger.warning(
                "%s failed and gets nothing more of this run (history.jsonl has it all): %s", name, first_line(err)
            )


def scalars(record: StepRecord | EvalRecord) -> dict[str, float]:
    """The numbers of a record by name, such as train/loss and validation/f1; those that are not finite are left out."""
    if isinstance(record, StepRecord):
        values = {name: getattr(record, name) for name in ("loss", "grad_norm", "learning_rate", "epoch")}
        prefix = "train"
    else:
        values, prefix = {"loss": record.loss, **record.metrics}, record.split
    return {f"{prefix}/{name}": value for name, value in values.items() if math.isfinite(value)}


def _series(line: dict[str, Any]) -> Series:
    return line["type"], line.get("split", "")


def _last_steps(run: RunDir) -> dict[Series, int]:
    """How far each series got before the stop, what came after the checkpoint included: the trackers have it."""
    return {_series(line): line["step"] for line in run.read_history()}


def _start(name: str, run: RunDir, config: RunConfig, *, offline: bool) -> GeneralTracker:
    tracker = _STARTERS[name](run, config, offline)
    tracker.start()
    if name == "wandb":  # by update, not by call: W&B takes no second line for a step that it has closed
        tracker.tracker.define_metric("*", step_metric="update")
    if name == "mlflow":
        _remember(run, name, tracker.tracker.info.run_id)
        if tracker.run_id is None:
            tracker.store_init_configuration(dict(leaves(config)))
    return tracker


def _log(tracker: GeneralTracker, values: dict[str, float], step: int) -> None:
    if tracker.name == "wandb":
        tracker.log({**values, "update": step})
    elif tracker.name == "mlflow":
        tracker.log(values, step=step, synchronous=False)  # a database takes up to a tenth of a second for each
    else:
        tracker.log(values, step=step)


def _tensorboard(run: RunDir, config: RunConfig, offline: bool) -> GeneralTracker:
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker("tensorboard", logging_dir=run.tracking)


def _wandb(run: RunDir, config: RunConfig, offline: bool) -> GeneralTracker:
    import wandb
    from accelerate.tracking import WandBTracker

    mode = "offline" if offline else os.environ.get("WANDB_MODE", "online")
    if mode == "online" and not wandb.login(prompt=False):  # left to itself, it would ask for a key, and wait
        raise ValueError("nobody is logged in (`wandb login`, or WANDB_API_KEY; WANDB_MODE=offline needs neither)")
    run.tracking.mkdir(parents=True, exist_ok=True)
    return WandBTracker(
        os.environ.get("WANDB_PROJECT", PROJECT),
        id=_run_id(run, "wandb"),
        name=config.output_dir,
        resume="allow",
        dir=str(run.tracking),
        config=dict(leaves(config)),
        mode=mode,
        settings={"console": "off", "silent": True},
    )


def _mlflow(run: RunDir, config: RunConfig, offline: bool) -> GeneralTracker:
    import mlflow
    from accelerate.tracking import MLflowTracker

    if offline or "MLFLOW_TRACKING_URI" not in os.environ:
        run.tracking.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(f"sqlite:///{(run.tracking / 'mlflow.db').absolute()}")
    return MLflowTracker(PROJECT, run_id=_remembered(run).get("mlflow"), run_name=config.output_dir)


def _trackio(run: RunDir, config: RunConfig, offline: bool) -> GeneralTracker:
    from accelerate.tracking import TrackioTracker

    if offline and os.environ.get("TRACKIO_SPACE_ID"):
        raise ValueError("TRACKIO_SPACE_ID names a Space of the Hub, and offline mode is on")
    name = f"{config.output_dir} {_run_id(run, 'trackio')}"  # a name is all that tells runs apart
    return TrackioTracker(PROJECT, name=name, resume="allow", config=dict(leaves(config)))


_STARTERS = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio}


def _run_id(run: RunDir, name: str) -> str:
    """The name of this run at a tracker: drawn once, found again when the run goes on."""
    return _remembered(run).get(name) or _remember(run, name, secrets.token_hex(4))


def _remembered(run: RunDir) -> dict[str, str]:
    path = run.tracking / "runs.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _remember(run: RunDir, name: str, run_id: str) -> str:
    write_json(run.tracking / "runs.json", {**_remembered(run), name: run_id})
    return run_id
