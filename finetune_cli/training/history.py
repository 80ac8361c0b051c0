"""history.jsonl: a line for each update and each evaluation of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import BinaryIO

from finetune_cli.errors import MissingError
from finetune_cli.records.plain import plain
from finetune_cli.records.training import EvalRecord, StepRecord


class History:
    """Written by the main process, whole lines only; until it is opened, and in other processes, nothing is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: BinaryIO | None = None

    def require(self, keep_bytes: int) -> None:
        """Raise MissingError when the file is shorter than what a checkpoint knows of it."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < keep_bytes:
            raise MissingError(
                f"{self.path} has {size} bytes, but the checkpoint that the run continues from was written after "
                f"{keep_bytes}. Bring the file back, or start anew with --overwrite."
            )

    def open(self, keep_bytes: int) -> None:
        """Go on after this many bytes, and drop what came after the checkpoint that the run continues from."""
        self.file = self.path.open("ab")
        self.file.truncate(keep_bytes)

    def append(self, record: StepRecord | EvalRecord) -> None:
        if self.file is not None:
            self.file.write(json.dumps(plain(record.to_json()), allow_nan=False).encode() + b"\n")
            self.file.flush()

    def synced_size(self) -> int:
        """Length in bytes, all of which outlives a power cut: a checkpoint must not know more than the file has."""
        if self.file is None:
            return 0
        os.fsync(self.file.fileno())
        return self.file.tell()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
