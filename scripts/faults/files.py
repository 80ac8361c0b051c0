"""What is left of a run that was hurt: files that cannot be read, and its outcome beside that of another.

Nothing is imported from the package, see scripts.faults.runs.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

RELATIVE = 1e-5  # several processes: how far two histories may be apart


def visible(folder: Path, pattern: str) -> Iterator[Path]:
    """Files under their final names: nothing below a name that starts with a dot."""
    for path in sorted(folder.rglob(pattern)):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def unreadable_files(run: Path) -> Iterator[str]:
    """What cannot be read in a run directory that may have been hurt a moment ago."""
    for path in [*visible(run, "*.json"), *visible(run, "*.safetensors"), *visible(run, "*.jsonl")]:
        try:
            READERS[path.suffix](path)
        except (ValueError, KeyError, UnicodeDecodeError) as err:
            yield f"unreadable: {path.relative_to(run)}: {err}"
    for step in visible(run, "checkpoints/step-*"):
        yield from damage_of(step)
    if (run / "model").exists():
        missing = {"config.json", "model.safetensors", "tokenizer.json"} - {
            path.name for path in (run / "model").iterdir()
        }
        yield from (f"unreadable: model/ lacks {name}" for name in sorted(missing))


def damage_of(step: Path) -> Iterator[str]:
    """Files of a checkpoint that its manifest does not describe."""
    try:
        files = json.loads((step / "manifest.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError) as err:
        yield f"unreadable: {step.name}/manifest.json: {err}"
        return
    for name, expected in files.items():
        if not (step / name).is_file() or crc32(step / name) != expected["crc32"]:
            yield f"unreadable: {step.name}/{name} is not what its manifest says"


def _read_json(path: Path) -> None:
    json.loads(path.read_text(encoding="utf-8"))


def _read_lines(path: Path) -> None:
    """history.jsonl grows line by line, so its last line may be a part; any other file must be whole."""
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines[-1] and path.name != "history.jsonl":
        raise ValueError("the last line is a part")
    for line in lines[:-1]:
        json.loads(line)


def _read_safetensors(path: Path) -> None:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    if len(content) != 8 + length + max(ends):
        raise ValueError(f"{len(content)} bytes, expected {8 + length + max(ends)}")


READERS: dict[str, Callable[[Path], None]] = {
    ".json": _read_json,
    ".jsonl": _read_lines,
    ".safetensors": _read_safetensors,
}


def crc32(path: Path) -> str:
    return f"{zlib.crc32(path.read_bytes()):08x}"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def outcome(run: Path) -> dict[str, Any]:
    """What has to be equal at the end: weights, history but for times, scores, predictions, the models that there
    were to choose from, the optimizer's state."""
    history = [json.loads(line) for line in (run / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    last = max(visible(run, "checkpoints/step-*"))
    return {
        "weights": sha256(run / "model" / "model.safetensors"),
        "history": [{key: value for key, value in line.items() if key != "seconds"} for line in history],
        "metrics": sha256(run / "eval" / "validation" / "metrics.json"),
        "candidates": sha256(run / "eval" / "validation" / "candidates.npz"),
        "predictions": sha256(run / "eval" / "validation" / "predictions.jsonl"),
        "checkpoints": sorted(path.name for path in visible(run, "checkpoints/step-*")),
        "last": {name: sha256(last / name) for name in ("model.safetensors", "optimizer.bin", "candidates.npz")},
    }


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """The parts of two outcomes that are not equal bit for bit."""
    return [name for name in first if first[name] != second[name]]


def histories_agree(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> bool:
    """Whether two histories have the same records, with numbers that differ by RELATIVE at most."""

    def close(left: Any, right: Any) -> bool:
        if isinstance(left, float) and isinstance(right, float):
            return abs(left - right) <= RELATIVE * max(abs(left), abs(right), 1e-3)
        return bool(left == right)

    return len(first) == len(second) and all(
        left.keys() == right.keys() and all(close(left[key], right[key]) for key in left)
        for left, right in zip(first, second, strict=True)
    )


def leftovers(run: Path) -> list[str]:
    """Files that only a write in progress has: none may be there when a run is over."""
    return [str(path.relative_to(run)) for path in run.rglob("*") if path.name.startswith(".") or path.suffix == ".tmp"]
