"""finetune export: a trained model in the form of a runtime, with proof that it answers the same, or nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from finetune_cli.config.changes import changed
from finetune_cli.config.dump import to_yaml
from finetune_cli.data.batching import pad_rows
from finetune_cli.data.prepared import PreparedData
from finetune_cli.errors import ConfigError, GateFailedError, RunFailedError
from finetune_cli.evaluation.equivalence import compared_metrics
from finetune_cli.models import building
from finetune_cli.models.exported import CPU
from finetune_cli.models.exporting import write_model
from finetune_cli.models.runtimes import RUN_CONFIG, companions, write_manifest
from finetune_cli.records.export import KEPT_IN_FLOAT, ExportReport
from finetune_cli.runs.exports.card import export_card
from finetune_cli.runs.exports.proof import prove, reference_of
from finetune_cli.runs.exports.request import check_export, parse_allowed
from finetune_cli.runs.rows import prepare_file, prepare_rows
from finetune_cli.runs.scoring import require_split
from finetune_cli.runs.target import Target, model_task
from finetune_cli.system.files import publish_directory

TRACED_ROWS = 2  # enough for the tracer, which keeps both axes open


def export(
    target: str | Path,
    output: str | Path,
    *,
    file_format: str,
    dtype: str = "fp32",
    max_drops: Sequence[str] = (),
    split: str = "validation",
    data: Path | str | None = None,
    overrides: Sequence[str] = (),
    offline: bool = False,
) -> ExportReport:
    """Write the model of `target` into the new directory `output`, and prove that it answers as the model does.

    target: CONFIG, RUN or MODEL; see open_target. file_format: "onnx", "openvino" or "safetensors"; dtype: "fp32",
    "fp16" or "int8". data: a labelled file to prove it on, in place of a split of the run. In fp32 the largest
    difference of a logit decides. In fp16 and int8 the metrics of the run do: the worse end of the paired interval of
    each difference has to be within `max_drops`: "0.01" for all, "f1=0.02" for one. Of int8 the fastest form is tried
    first, and where that is not proven the one that keeps more in float32.
    Raises GateFailedError, with the report as its `report`, when that is not proven; then nothing is left behind.
    """
    allowed = parse_allowed(max_drops)
    trained, place = check_export(target, output, file_format, dtype, overrides=overrides, data=data, offline=offline)
    model = building.load_trained(trained.model_dir, CPU)
    prepared, split = _rows(trained, model, split, data, offline=offline)
    rows = prepared.splits[split]
    reference = reference_of(trained, model, prepared, split)
    _require_compared(allowed, compared_metrics(reference.rules))
    example = pad_rows(rows, np.arange(TRACED_ROWS) % rows.num_rows, pad_token_id=prepared.pad_token_id)
    form = {"file_format": file_format, "dtype": dtype}
    report = ExportReport(str(place), file_format, dtype, 0, _weight_bytes(trained.model_dir), split)
    with _directory_aside(place) as aside:
        for exact in (False, True) if dtype == "int8" else (False,):
            write_model(model, trained.model_dir, aside, **form, example=example, exact=exact)
            proof = prove(aside, reference.stricter() if exact else reference, **form, allowed=allowed)
            report = replace(
                report,
                bytes=_weight_bytes(aside),
                equality=proof.equality,
                faster_refused=report.problems,
                problems=proof.problems,
            )
            if report.proven or proof.equality is None:
                break
        if not report.proven:
            raise GateFailedError(_not_proven(report), report)
        _finish(aside, trained, report)
        place.parent.mkdir(parents=True, exist_ok=True)
        publish_directory(aside, place)
    return report


@contextmanager
def _directory_aside(place: Path) -> Iterator[Path]:
    """A directory on the disk of `place`, to be renamed to it; removed where it was not. Raises RunFailedError."""
    there = next(parent for parent in place.absolute().parents if parent.exists())
    aside = Path(tempfile.mkdtemp(prefix=f".writing-{place.name}-", dir=there))
    try:
        yield aside
    except OSError as err:
        raise RunFailedError(f"{place} cannot be written: {err.strerror or err}. Nothing of it was left.") from err
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _rows(
    trained: Target, model: Any, split: str, data: Path | str | None, *, offline: bool
) -> tuple[PreparedData, str]:
    """The rows to prove it on, and the name of their split."""
    if data is not None:
        prepared = prepare_file(Path(data), trained, model_task(model))
        return prepared, next(iter(prepared.splits))
    assert trained.config is not None, "checked by check_export"
    prepared = prepare_rows(trained.config, offline=offline, quiet=True)
    if trained.config.data.trains_on_all_rows and split == "validation":
        split = "train"  # a model of all rows has no others
    require_split(prepared, trained.config, split)
    return prepared, split


def _require_compared(allowed: dict[str, float], metrics: Sequence[str]) -> None:
    if wrong := [name for name in allowed if name and name not in metrics]:
        raise ConfigError(f"--max-drop {wrong[0]}=...: expected one of the metrics of the run: {', '.join(metrics)}.")


def _finish(aside: Path, trained: Target, report: ExportReport) -> None:
    """What users and `finetune` read beside the model: the card, the run's config, and the manifest last."""
    if trained.config is not None:
        model = {"model.name_or_path": ".", "model.from_scratch": None, "model.lora": None}
        config = changed(trained.config, {**model, "hub": None, "tracking": ()})
        (aside / RUN_CONFIG).write_text(to_yaml(config), encoding="utf-8")
    (aside / "README.md").write_text(export_card(trained.model_dir / "README.md", report), encoding="utf-8")
    weights = [path.name for path in aside.iterdir() if path.suffix in (".onnx", ".xml", ".bin", ".safetensors")]
    content = {
        "format": report.format,
        "dtype": report.dtype,
        "faster_refused": report.faster_refused,
        "split": report.split,
        "proof": None if report.equality is None else asdict(report.equality),
    }
    write_manifest(aside, content, sorted({*weights, *companions(aside)}))


def _weight_bytes(directory: Path) -> int:
    return sum(
        path.stat().st_size
        for path in directory.iterdir()
        if path.suffix in (".onnx", ".bin", ".safetensors") or path.name.startswith("openvino_model")
    )


def _not_proven(report: ExportReport) -> str:
    lines = "\n".join(f"  {problem}" for problem in report.problems)
    hint, form = "", f"{report.format} {report.dtype}"
    if report.equality is not None and report.equality.tolerance is None:
        hint = "\nAllow more with --max-drop, give more rows with --data FILE, or keep more digits with --dtype."
    if report.faster_refused:
        form += f", {KEPT_IN_FLOAT} in float32 as well,"
    return (
        f"Not proven that {form} answers as the model does ({report.split}):\n{lines}\n"
        f"Nothing was written to {report.output}.{hint}"
    )
