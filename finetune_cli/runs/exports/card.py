"""The README.md of an exported directory: the model's card, how to run the export, and what was proven."""

from __future__ import annotations

from pathlib import Path

from finetune_cli.errors import counted
from finetune_cli.records.export import KEPT_IN_FLOAT, ExportReport

USE = {
    "onnx": """```python
import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH")
session = onnxruntime.InferenceSession("PATH/model.onnx")
inputs = tokenizer(["..."], padding=True, truncation=True, return_tensors="np")
logits = session.run(["logits"], {one.name: inputs[one.name] for one in session.get_inputs()})[0]
```""",
    "openvino": """```python
import openvino
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH")
model = openvino.compile_model("PATH/openvino_model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
inputs = tokenizer(["..."], padding=True, truncation=True, return_tensors="np")
logits = model({one.get_any_name(): inputs[one.get_any_name()] for one in model.inputs})["logits"]
```

Without the hint OpenVINO computes in bfloat16 where the CPU has it; the proof is about float32.""",
    "safetensors": """```python
from transformers import pipeline

classify = pipeline("text-classification", "PATH")
```""",
}


def export_card(card: Path, report: ExportReport) -> str:
    """Markdown. card: the model's own card, which comes first where there is one."""
    before = (
        card.read_text(encoding="utf-8").rstrip() + "\n\n" if card.is_file() else "# An exported text classifier\n\n"
    )
    return f"{before}## This export\n\n{_proof(report)}\n\n{USE[report.format]}\n"


def _proof(report: ExportReport) -> str:
    equality = report.equality
    assert equality is not None, "only what was proven has a card"
    rows = counted(equality.n, "row")
    form = f", with {KEPT_IN_FLOAT} in float32" if report.faster_refused else ""
    facts = [
        f"`{report.format}`, `{report.dtype}`{form}. Compared with the model on {rows} of `{report.split}`: "
        f"the largest difference of a logit is {equality.largest_difference:.2g}"
    ]
    if equality.changed is not None:
        facts.append(f"{equality.num_changed} answers changed ({equality.changed})")
    scores = ", ".join(f"{drop.metric} {drop.model:.3f} to {drop.exported:.3f}" for drop in equality.drops)
    return "; ".join(facts) + f". Scores: {scores}. `export.json` has the numbers and the checksums of the files."
