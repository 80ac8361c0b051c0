"""`finetune export`: what it writes, that it answers as the model does, and what it refuses."""

from __future__ import annotations

import itertools
import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    RobertaConfig,
)
from transformers.models.bert.modeling_bert import BertPooler

from finetune_cli.commands import export as export_command
from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.export import export
from finetune_cli.commands.predict import predict
from finetune_cli.errors import ConfigError, GateFailedError, MissingError
from finetune_cli.models import runtimes
from finetune_cli.models.resolving import require_present
from tests.commands.run_files import Answer, Trained
from tests.conftest import write_rows
from tests.models.damages import COMPANION_DAMAGES, ONNX_DAMAGES

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
openvino = pytest.importorskip("openvino", reason="the extra openvino is not installed")

FORMS = [
    ("onnx", "fp32"),
    ("onnx", "fp16"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "fp16"),
    ("safetensors", "fp32"),
    ("safetensors", "fp16"),
]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
ONE_LAYER = {
    **SIZES,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "max_position_embeddings": 64,
}
DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
WORDS = ("good", "bad", "film", "room")
ROWS = [
    {"text": "a good film", "label": 1},
    {"text": "the room was awful and we were very sad", "label": 0},
    {"text": "it was a really lovely talk", "label": 1},
    {"text": "poor", "label": 0},
]


def make_model(directory: Path, tokenizer: Path, config_class: type, sizes: dict[str, Any], **more: Any) -> Path:
    """A classifier with random weights and the tokenizer of tiny_bert."""
    vocabulary = len(AutoTokenizer.from_pretrained(tokenizer))
    labels = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
    torch.manual_seed(0)
    config = config_class(**{"vocab_size": vocabulary, "pad_token_id": 0, **sizes, **labels, **more})
    model = AutoModelForSequenceClassification.from_config(config)
    for weight in model.parameters():
        weight.data.mul_(2)  # so that answers differ by more than rounding
    model.save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, directory / name)
    return directory


def rows_file(directory: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    path = directory / "rows.jsonl"
    write_rows(path, rows)
    return path


def logits_of(file: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """By the runtime alone, as a user without this package would get them."""
    if file.suffix == ".onnx":
        session = onnxruntime.InferenceSession(file)
        return session.run(["logits"], {one.name: inputs[one.name] for one in session.get_inputs()})[0]
    model = openvino.compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return model({one.get_any_name(): inputs[one.get_any_name()] for one in model.inputs})["logits"]


@pytest.mark.parametrize(("file_format", "dtype"), FORMS)
def test_an_export_answers_as_the_run_does(
    tmp_path: Path, learned: Callable[..., Trained], file_format: str, dtype: str
) -> None:
    run = learned("mrpc").run
    place = tmp_path / "deep" / "export"
    report = export(run.path, place, file_format=file_format, dtype=dtype, max_drops=["1"])
    assert report.proven
    assert report.equality is not None
    assert report.equality.n == 12
    assert report.equality.largest_difference < (1e-4 if dtype == "fp32" else 1.0)
    assert {drop.metric for drop in report.equality.drops} == {"accuracy", "f1", "log_loss"}
    assert sorted(path.name for path in place.parent.iterdir()) == ["export"]
    names = {path.name for path in place.iterdir()}
    assert names >= {"config.json", "tokenizer.json", "README.md", "export.json", "finetune.yaml"}
    assert names >= set(runtimes.FORMATS[file_format].weights)
    assert stat.S_IMODE(place.stat().st_mode) & 0o500 == 0o500
    before, after = evaluate(run.path), evaluate(place)
    assert after.n == before.n
    assert after.metrics["accuracy"].value == pytest.approx(before.metrics["accuracy"].value, abs=0.1)
    texts = [("a good film", "the film was good"), ("a bad meal", "we like this book")]
    expected, found = (list(predict(target, texts, probabilities=True)) for target in (run.path, place))
    for one, other in zip(expected, found, strict=True):
        close = {"fp32": 1e-4, "fp16": 1e-2, "int8": 0.3}[dtype]  # 32 columns a scale: rough
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=close)


@pytest.mark.parametrize("file_format", ["onnx", "openvino"])
def test_the_runtime_alone_loads_what_was_exported(
    tmp_path: Path, learned: Callable[..., Trained], file_format: str
) -> None:
    run = learned("mrpc").run
    place = tmp_path / "export"
    export(run.path, place, file_format=file_format)
    tokenizer = AutoTokenizer.from_pretrained(place)
    pairs = [["a good film", "a book", "the talk was sad and angry"], ["the film", "we", "a trip"]]
    inputs = dict(tokenizer(*pairs, padding=True, return_tensors="np"))
    plain = AutoModelForSequenceClassification.from_pretrained(run.model).eval()
    with torch.no_grad():
        expected = plain(**{name: torch.from_numpy(values) for name, values in inputs.items()}).logits.numpy()
    file = place / runtimes.FORMATS[file_format].weights[0]
    np.testing.assert_allclose(logits_of(file, inputs), expected, atol=1e-4)


def test_fp16_and_int8_are_smaller(tmp_path: Path, learned: Callable[..., Trained]) -> None:
    run = learned("sst2").run
    sizes = {}
    for dtype in ("fp32", "fp16", "int8"):
        sizes[dtype] = export(run.path, tmp_path / dtype, file_format="onnx", dtype=dtype, max_drops=["1"]).bytes
    assert max(sizes["int8"], sizes["fp16"]) < sizes["fp32"]  # a tiny model's graph is most of its file


def with_an_outlier(model: Path, *, everywhere: bool) -> None:
    """One value between the products of a feed-forward part that is far from all others, and that nothing reads.

    In float32 it changes no answer. In 8 bits the others share its scale, and are lost. everywhere: also in what the
    feed-forward part gets, which no form of int8 keeps in float32.
    """
    loaded = AutoModelForSequenceClassification.from_pretrained(model)
    with torch.no_grad():
        for layer in loaded.bert.encoder.layer:
            layer.intermediate.dense.bias[0] = 3000
            layer.output.dense.weight[:, 0] = 0
            if everywhere:
                layer.attention.output.LayerNorm.bias[0] = 3000
                layer.intermediate.dense.weight[:, 0] = 0
        loaded.classifier.weight.mul_(20)
    loaded.save_pretrained(model)


def own_answers(model: Path, directory: Path) -> Path:
    """A file of rows whose labels are what the model says; its head is shifted so that it says both."""
    texts = [" ".join(words) for words in itertools.product(WORDS, repeat=3)]
    loaded = AutoModelForSequenceClassification.from_pretrained(model).eval()
    with torch.no_grad():
        logits = loaded(**AutoTokenizer.from_pretrained(model)(texts, padding=True, return_tensors="pt")).logits
        loaded.classifier.bias -= logits.median(dim=0).values
    loaded.save_pretrained(model)
    path = directory / "answers.jsonl"
    answers = predict(model, texts)
    write_rows(path, [{"text": text, "label": one["prediction"]} for text, one in zip(texts, answers, strict=True)])
    return path


def test_int8_keeps_more_in_float32_where_the_fastest_form_is_not_proven(
    tmp_path: Path, tiny_bert: Path, command: Callable[..., Answer]
) -> None:
    model = make_model(tmp_path / "model", tiny_bert, BertConfig, ONE_LAYER)
    with_an_outlier(model, everywhere=False)
    data = own_answers(model, tmp_path)
    arguments = ["--format", "onnx", "--dtype", "int8", "--data", data, "--max-drop", "0.3"]
    answer = command(["export", model, tmp_path / "out", *arguments])
    assert answer.code == 0, answer.stderr
    assert "all products in 8 bits: not proven (accuracy: " in answer.stdout
    assert "second product of each feed-forward layer was left in float32" in answer.stdout
    told = json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))
    assert any("accuracy" in problem for problem in told["faster_refused"])
    assert told["proof"]["level"] == pytest.approx(0.975)  # the second look at the same rows
    assert "second product of each feed-forward layer" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    nodes = onnx.load(tmp_path / "out" / "model.onnx").graph.node
    in_float = [node.name for node in nodes if node.op_type == "MatMul" and "output/dense" in node.name]
    assert len(in_float) == ONE_LAYER["num_hidden_layers"]
    assert [one["prediction"] for one in predict(tmp_path / "out", ["a good film"])]


def test_the_fastest_form_of_int8_is_kept_where_it_is_proven(tmp_path: Path, learned: Callable[..., Trained]) -> None:
    report = export(learned("sst2").run.path, tmp_path / "out", file_format="onnx", dtype="int8", max_drops=["1"])
    assert report.faster_refused == []
    nodes = onnx.load(tmp_path / "out" / "model.onnx").graph.node
    assert not [node.name for node in nodes if node.op_type == "MatMul" and "output/dense" in node.name]


def test_int8_that_is_proven_in_no_form_says_what_spoke_against_each(tmp_path: Path, tiny_bert: Path) -> None:
    model = make_model(tmp_path / "model", tiny_bert, BertConfig, ONE_LAYER)
    with_an_outlier(model, everywhere=True)
    data = own_answers(model, tmp_path)
    with pytest.raises(GateFailedError, match="in float32 as well") as caught:
        export(model, tmp_path / "out", file_format="onnx", dtype="int8", data=data)
    assert caught.value.report.faster_refused
    assert caught.value.report.problems
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config_class", "sizes"),
    [
        (RobertaConfig, {**SIZES, "max_position_embeddings": 66}),
        (DistilBertConfig, DISTILBERT),
        (ElectraConfig, {**SIZES, "embedding_size": 16}),
        (LlamaConfig, SIZES),
        (GPT2Config, GPT2),
    ],
    ids=["roberta", "distilbert", "electra", "llama", "gpt2"],
)
def test_other_models_are_exported(tmp_path: Path, tiny_bert: Path, config_class: type, sizes: dict[str, Any]) -> None:
    model = make_model(tmp_path / "model", tiny_bert, config_class, sizes)
    if config_class is not BertConfig:  # those that take no token types
        config = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
        config["model_input_names"] = ["input_ids", "attention_mask"]
        (model / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    for file_format in ("onnx", "openvino"):
        report = export(model, tmp_path / file_format, file_format=file_format, data=rows_file(tmp_path))
        assert report.equality is not None
        assert report.equality.largest_difference < 1e-4
    assert evaluate(tmp_path / "onnx", data=rows_file(tmp_path)).n == 4


def test_a_model_that_cannot_be_traced_is_refused_by_name(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tmp_path / "model", tiny_bert, BertConfig, {**SIZES, "max_position_embeddings": 64})

    def leave_torch(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft(hidden[:, 0]).abs()  # the tracer has no such operator

    monkeypatch.setattr(BertPooler, "forward", leave_torch)
    with pytest.raises(ConfigError, match="Models of type 'bert' cannot be exported to ONNX or OpenVINO"):
        export(model, tmp_path / "out", file_format="onnx", data=rows_file(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["finetune-cache", "model", "rows.jsonl"]


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_other_heads_are_exported(tmp_path: Path, tiny_bert: Path, kind: str) -> None:
    sizes = {**SIZES, "max_position_embeddings": 64}
    if kind == "regression":
        model = make_model(tmp_path / "model", tiny_bert, BertConfig, sizes, problem_type="regression")
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        assert len(config["id2label"]) == 2
        shutil.rmtree(model)
        sizes = {**sizes, "id2label": {0: "LABEL_0"}, "label2id": {"LABEL_0": 0}}
        torch.manual_seed(0)
        vocabulary = len(AutoTokenizer.from_pretrained(tiny_bert))
        config_of_one = BertConfig(vocab_size=vocabulary, num_labels=1, problem_type="regression", **sizes)
        AutoModelForSequenceClassification.from_config(config_of_one).save_pretrained(model)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny_bert / name, model / name)
        rows = [{**row, "label": row["label"] + place / 10} for place, row in enumerate(ROWS)]
    else:
        model = make_model(tmp_path / "model", tiny_bert, BertConfig, sizes, problem_type="multi_label_classification")
        rows = [{**row, "label": ["positive"] if row["label"] else ["negative", "positive"]} for row in ROWS]
    data = rows_file(tmp_path, rows)
    for dtype in ("fp32", "int8"):
        report = export(model, tmp_path / dtype, file_format="onnx", dtype=dtype, data=data, max_drops=["3"])
        assert report.equality is not None
        assert (report.equality.changed is None) == (kind == "regression")
    assert len(list(predict(tmp_path / "int8", ["a good film"]))) == 1


def test_the_decision_rule_goes_with_the_export(tmp_path: Path, learned: Callable[..., Trained]) -> None:
    run = tmp_path / "run"
    shutil.copytree(learned("sst2").run.path, run)
    rule = {"temperature": 2.0, "thresholds": {"positive": 0.6}, "for": "f1", "fitted_on": "validation", "n": 12}
    (run / "model" / "decision.json").write_text(json.dumps(rule), encoding="utf-8")
    export(run, tmp_path / "out", file_format="onnx")
    assert (tmp_path / "out" / "decision.json").read_bytes() == (run / "model" / "decision.json").read_bytes()
    expected, found = (evaluate(target) for target in (run, tmp_path / "out"))
    assert found.decision is not None
    assert expected.decision is not None
    assert found.decision.rule == expected.decision.rule


def test_what_is_not_proven_ends_with_4_and_leaves_nothing(
    tmp_path: Path, learned: Callable[..., Trained], command: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = export_command.write_model

    def write_and_damage(model: Any, source: Path, directory: Path, **options: Any) -> None:
        write(model, source, directory, **options)
        ONNX_DAMAGES["weight scaled by 1.05"](directory)

    monkeypatch.setattr(export_command, "write_model", write_and_damage)
    place = tmp_path / "new" / "out"
    answer = command(["export", learned("sst2").run.path, place, "--format", "onnx"])
    assert answer.code == 4
    assert "a logit differs by" in answer.stderr
    assert f"Nothing was written to {place}" in answer.stderr
    assert "not written: onnx fp32" in answer.stdout
    assert [path for path in tmp_path.iterdir() if path.name != "finetune-cache"] == []


def test_a_score_that_drops_too_far_is_not_proven(
    tmp_path: Path, learned: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In int8 the logits may differ; classes the wrong way round are seen by the scores."""
    trace = export_command.write_model

    def write_and_damage(model: Any, source: Path, directory: Path, *, exact: bool, **options: Any) -> None:
        if not exact:  # which comes second, with the same model
            model.classifier.weight.data.mul_(-1)
            model.classifier.bias.data.mul_(-1)
        trace(model, source, directory, exact=exact, **options)

    monkeypatch.setattr(export_command, "write_model", write_and_damage)
    with pytest.raises(GateFailedError, match=r"accuracy: [\d.]+ became [\d.]+, difference -"):
        export(learned("sst2").run.path, tmp_path / "out", file_format="onnx", dtype="int8")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["weight scaled by 1.05", "truncated"])
def test_an_export_that_was_changed_is_not_used(tmp_path: Path, learned: Callable[..., Trained], name: str) -> None:
    place = tmp_path / "out"
    export(learned("sst2").run.path, place, file_format="onnx")
    ONNX_DAMAGES[name](place)
    with pytest.raises(MissingError, match=r"model\.onnx is not the file that the export was proven with"):
        list(predict(place, ["a good film"]))


@pytest.mark.parametrize("name", ["wrong tokenizer", "label order swapped", "another decision rule"])
def test_labels_tokenizer_and_rule_that_were_changed_are_noticed(
    tmp_path: Path, learned: Callable[..., Trained], name: str
) -> None:
    place = tmp_path / "out"
    export(learned("sst2").run.path, place, file_format="onnx")
    COMPANION_DAMAGES[name](place)
    with pytest.raises(MissingError, match="is not the file that the export was proven with"):
        evaluate(place)


def test_a_directory_of_another_tool_is_taken(tmp_path: Path, learned: Callable[..., Trained]) -> None:
    run = learned("sst2").run
    place = tmp_path / "out"
    export(run.path, place, file_format="onnx")
    for name in ("export.json", "finetune.yaml"):
        (place / name).unlink()
    expected, found = (list(predict(target, ["a good film", "a bad meal"])) for target in (run.model, place))
    assert found == expected


def test_weights_of_torch_come_before_a_model_of_a_runtime_beside_them(
    tmp_path: Path, learned: Callable[..., Trained], caplog: pytest.LogCaptureFixture
) -> None:
    model = tmp_path / "model"
    shutil.copytree(learned("sst2").run.model, model)
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    (model / "model.onnx").write_bytes(b"of another time")
    require_present(str(model))
    with caplog.at_level("INFO", "finetune_cli"):
        found = list(predict(model, ["a good film", "a bad meal"]))
    assert found == list(predict(learned("sst2").run.model, ["a good film", "a bad meal"]))
    assert "the weights of torch are taken; model.onnx beside them is left alone" in caplog.text


def test_the_result_as_json(tmp_path: Path, learned: Callable[..., Trained], command: Callable[..., Answer]) -> None:
    arguments = ["export", learned("sst2").run.path, tmp_path / "out", "--format", "safetensors", "--dtype", "fp16"]
    answer = command([*arguments, "--json"])
    assert answer.code == 0, answer.stderr
    result = json.loads(answer.stdout)
    assert (result["proven"], result["format"], result["dtype"]) == (True, "safetensors", "fp16")
    assert result["bytes"] < 0.6 * result["bytes_before"]
    low, high = (result["equality"]["changed"][end] for end in ("low", "high"))
    assert 0 <= low < high  # never of width 0


def test_what_is_wrong_is_said_before_anything_is_loaded(
    tmp_path: Path, learned: Callable[..., Trained], command: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = learned("sst2").run.path
    there = tmp_path / "there"
    there.mkdir()
    (tmp_path / "untrained").mkdir()
    (tmp_path / "untrained" / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    (tmp_path / "file").touch()
    out = tmp_path / "out"
    cases: list[tuple[list[Any], int, str]] = [
        ([run, out, "--format", "tflite"], 2, "onnx"),
        ([run, out], 2, "--format"),
        ([run, out, "--format", "onnx", "--dtype", "int4"], 2, "int8"),
        ([run, out, "--format", "openvino", "--dtype", "int8"], 2, "--format onnx --dtype int8"),
        ([run, out, "--format", "safetensors", "--dtype", "int8"], 2, "--format onnx --dtype int8"),
        ([run, there, "--format", "onnx"], 2, "exists"),
        ([run, run / "onnx", "--format", "onnx"], 2, "lies inside"),
        ([run, tmp_path / "file" / "out", "--format", "onnx"], 2, "is a file"),
        ([run, out, "--format", "onnx", "--max-drop", "-1"], 2, "a number from 0"),
        ([run, out, "--format", "onnx", "--max-drop", "auroc=0.1"], 2, "accuracy, f1, log_loss"),
        ([run / "model", out, "--format", "onnx"], 2, "--data FILE"),
        ([tmp_path / "untrained", out, "--format", "onnx"], 5, "no finished model"),
        ([tmp_path / "nothing", out, "--format", "onnx"], 5, "does not exist"),
        ([run, out, "--format", "onnx", "--split", "tset"], 3, "validation"),
        ([run, out, "--format", "onnx", "--data", tmp_path / "no.csv"], 3, "no.csv"),
    ]
    for arguments, code, text in cases:
        answer = command(["export", *arguments])
        assert (answer.code, text in answer.stderr) == (code, True), (arguments, answer.stderr)
        assert not out.exists()
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: None)
    answer = command(["export", run, out, "--format", "openvino"])
    assert answer.code == 5
    assert "pip install 'finetune-cli[openvino]'" in answer.stderr


def test_an_export_is_not_exported_again(tmp_path: Path, learned: Callable[..., Trained]) -> None:
    export(learned("sst2").run.path, tmp_path / "out", file_format="safetensors")
    with pytest.raises(ConfigError, match="is an export itself"):
        export(tmp_path / "out", tmp_path / "again", file_format="onnx")
