"""Models and tokenizers: what is built, what is kept, what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune_cli.errors import ConfigError, MissingError
from finetune_cli.models import building, resolving

NAMES = ("no", "yes")
CPU = torch.device("cpu")


def classifier(directory: Path, **options):
    return building.build_classifier(directory, **{"kind": "classification", "label_names": NAMES, **options})


def test_a_classifier_has_the_body_and_a_new_seeded_head(tiny_bert: Path) -> None:
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(classifier(tiny_bert))
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    body = load_file(tiny_bert / "model.safetensors")
    assert all(torch.equal(first[f"bert.{name}"], value) for name, value in body.items())
    config = models[0].config
    assert (config.id2label, config.problem_type) == ({0: "no", 1: "yes"}, "single_label_classification")
    assert {parameter.dtype for parameter in models[0].parameters()} == {torch.float32}


def test_regression_has_one_output_and_dropout_is_set_everywhere(tiny_bert: Path) -> None:
    model = classifier(tiny_bert, kind="regression", label_names=None, dropout=0.3, attention_dropout=0.2)
    assert (model.config.num_labels, model.config.problem_type) == (1, "regression")
    assert model.config.hidden_dropout_prob == 0.3
    assert model.config.attention_probs_dropout_prob == 0.2
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.3, 0.2}


def test_half_precision_weights_are_trained_in_full(model_copy: Path) -> None:
    weights = load_file(model_copy / "model.safetensors")
    save_file(
        {n: v.bfloat16() for n, v in weights.items()}, model_copy / "model.safetensors", metadata={"format": "pt"}
    )
    assert {parameter.dtype for parameter in classifier(model_copy).parameters()} == {torch.float32}


def test_a_model_without_a_trained_head_is_not_used_for_answers(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="has no trained classification head"):
        building.load_trained(tiny_bert, CPU)
    classifier(tiny_bert).save_pretrained(tmp_path)
    assert not building.load_trained(tmp_path, CPU).training


def test_weights_that_do_not_fit_their_config_are_refused(model_copy: Path) -> None:
    config = json.loads((model_copy / "config.json").read_text())
    (model_copy / "config.json").write_text(json.dumps(config | {"hidden_size": 16}))
    with pytest.raises(MissingError, match=r"do not fit its config\.json"):
        classifier(model_copy)
    (model_copy / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(MissingError, match=r"do not fit its config\.json: 16 tensors"):
        classifier(model_copy)


def test_places_without_a_model_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="there is no directory"):
        resolving.resolve_model(str(tmp_path / "nowhere"))
    with pytest.raises(MissingError, match=r"no config\.json"):
        resolving.resolve_model(str(tmp_path))
    with pytest.raises(MissingError, match="which is not installed here"):
        resolving.resolve_model("package:no_such_package_here/model")
    with pytest.raises(MissingError, match="no folder 'models'"):
        resolving.resolve_model("package:json/models")
    with pytest.raises(MissingError, match="not in the local cache"):
        resolving.resolve_model("some-org/some-model", offline=True)


def test_a_revision_belongs_to_the_hub_alone(tiny_bert: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.revision"):
        resolving.resolve_model(str(tiny_bert), revision="main")
