"""What is told while a command works: the package's own log, and silence of the libraries below it."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import TextIO

from finetune_cli.display.terminal import YELLOW, is_terminal, paint
from finetune_cli.system.logs import FILE_ONLY

# The libraries read these when they are imported. A value that the user has set stays.
QUIET_LIBRARIES = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TOKENIZERS_PARALLELISM": "true",  # unset, the library warns when data loaders fork
}
NO_PROGRESS_BARS = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the sys.stderr of the moment: a progress bar replaces it while it is shown."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.addFilter(lambda record: not getattr(record, FILE_ONLY, False))

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _Formatter(logging.Formatter):
    """Plain messages; a warning or an error begins with its level."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.levelno >= logging.WARNING:
            return f"{paint(f'{record.levelname.lower()}:', YELLOW, sys.stderr)} {text}"
        return text


def start_logging(*, quiet: bool, verbose: bool, enabled: bool = True) -> None:
    """Send the package's log to stderr; keep the libraries silent unless `verbose`.

    enabled: False in all processes but the main one, which then show nothing.
    """
    logger = logging.getLogger("finetune_cli")
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)  # run.log gets INFO under --quiet, too
    logger.propagate = False
    for handler in [handler for handler in logger.handlers if isinstance(handler, _StderrHandler)]:
        logger.removeHandler(handler)
    if enabled:
        handler = _StderrHandler()
        handler.setLevel(logging.WARNING if quiet else logging.DEBUG)
        handler.setFormatter(_Formatter("%(message)s"))
        logger.addHandler(handler)
    else:
        _drop_records_of(logger)
    if not (verbose and enabled):
        for name, value in QUIET_LIBRARIES.items():
            os.environ.setdefault(name, value)
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        _drop_records_of(logging.getLogger())  # torch, accelerate: loggers without a handler of their own
    if quiet or not enabled or not is_terminal(sys.stderr):
        for name, value in NO_PROGRESS_BARS.items():
            os.environ.setdefault(name, value)


def silence_model_loading() -> None:
    """Turn off the bars that transformers draws for reading and writing weights; those of downloads stay.

    Call it after transformers was imported. It does nothing when progress bars are off already.
    """
    if "HF_HUB_DISABLE_PROGRESS_BARS" in os.environ:
        return
    from huggingface_hub.utils import enable_progress_bars  # type: ignore[attr-defined]  # exported lazily
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # the Hub's, too
    enable_progress_bars()


def _drop_records_of(logger: logging.Logger) -> None:
    """Give the logger a handler that writes nothing: without any, Python prints its warnings on stderr."""
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
