"""The proof of an export refuses each planted damage, and takes what was not damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_cli.commands.export import export
from finetune_cli.models.building import load_trained
from finetune_cli.runs.exports.proof import Reference, prove, reference_of
from finetune_cli.runs.rows import prepare_rows
from finetune_cli.runs.target import open_target
from tests.commands.run_files import Trained
from tests.models.damages import COMPANION_DAMAGES, ONNX_DAMAGES, Damage, flip_bytes, remove, truncate

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("openvino", reason="the extra openvino is not installed")

ALLOWED = {"": 0.01}
OPENVINO_DAMAGES = {
    "weights truncated": truncate("openvino_model.bin"),
    "graph truncated": truncate("openvino_model.xml"),
    "no weights": remove("openvino_model.bin"),
    "bits flipped": flip_bytes("openvino_model.bin"),
}
SAFETENSORS_DAMAGES = {
    "truncated": truncate("model.safetensors"),
    "not there": remove("model.safetensors"),
    "bits flipped": flip_bytes("model.safetensors"),
}
# In int8 the logits may differ, so these two have to be seen by the scores; a shift of 1e-3 is not seen, nor does it
# matter.
INT8_DAMAGES = {name: damage for name, damage in ONNX_DAMAGES.items() if name in ("truncated", "newer opset", "empty")}
CASES = [
    *(("onnx", "fp32", name, damage) for name, damage in {**COMPANION_DAMAGES, **ONNX_DAMAGES}.items()),
    *(("onnx", "int8", name, damage) for name, damage in {**COMPANION_DAMAGES, **INT8_DAMAGES}.items()),
    *(("openvino", "fp32", name, damage) for name, damage in OPENVINO_DAMAGES.items()),
    *(("safetensors", "fp16", name, damage) for name, damage in SAFETENSORS_DAMAGES.items()),
]


@pytest.fixture(scope="module")
def trained(learned: Callable[..., Trained]) -> Trained:
    return learned("sst2")


@pytest.fixture(scope="module")
def reference(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    found = open_target(trained.run.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        prepared = prepare_rows(trained.config)
        import torch

        return reference_of(found, load_trained(found.model_dir, torch.device("cpu")), prepared, "validation")


@pytest.fixture(scope="module")
def exports(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """exports(format, dtype) -> a proven export; once a module."""
    made: dict[tuple[str, str], Path] = {}

    def make(file_format: str, dtype: str) -> Path:
        if (file_format, dtype) not in made:
            place = tmp_path_factory.mktemp("exports") / f"{file_format}-{dtype}"
            # 12 rows, of which one more wrong answer is 0.08: what is tested here are the damages.
            export(trained.run.path, place, file_format=file_format, dtype=dtype, max_drops=["1"])
            made[file_format, dtype] = place
        return made[file_format, dtype]

    return make


@pytest.mark.parametrize(
    ("file_format", "dtype", "name", "damage"), CASES, ids=[f"{case[0]}-{case[1]}-{case[2]}" for case in CASES]
)
def test_a_damaged_export_is_refused(
    tmp_path: Path,
    exports: Callable[[str, str], Path],
    reference: Reference,
    file_format: str,
    dtype: str,
    name: str,
    damage: Damage,
) -> None:
    place = tmp_path / "export"
    shutil.copytree(exports(file_format, dtype), place)
    (place / "export.json").unlink()  # its checksums would tell everything
    proof = prove(place, reference, file_format=file_format, dtype=dtype, allowed=ALLOWED)
    assert (proof.problems, proof.equality is not None) == ([], True)
    damage(place)
    assert prove(place, reference, file_format=file_format, dtype=dtype, allowed=ALLOWED).problems != []
