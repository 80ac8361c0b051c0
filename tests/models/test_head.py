"""A checkpoint that was a classifier: its head is ours where its classes are, matched by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finetune_cli.models import building

TEXT = {"input_ids": torch.tensor([[2, 10, 11, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.int64)}


def classifier(directory: Path, names: tuple[str, ...], **options: str):
    return building.build_classifier(directory, kind=options.get("kind", "classification"), label_names=names).eval()


@pytest.fixture
def trained(tiny_bert: Path, tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """A classifier with the classes of finbert, and its logits of TEXT."""
    torch.manual_seed(5)
    model = classifier(tiny_bert, ("positive", "negative", "neutral"))
    torch.nn.init.normal_(model.classifier.weight)
    torch.nn.init.normal_(model.classifier.bias)
    model.save_pretrained(tmp_path / "model")
    for path in tiny_bert.glob("*token*"):
        (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    with torch.no_grad():
        return tmp_path / "model", model(**TEXT).logits[0]


def logits(directory: Path, names: tuple[str, ...]) -> torch.Tensor:
    with torch.no_grad():
        return classifier(directory, names)(**TEXT).logits[0]


def test_classes_in_another_order_keep_their_answers(
    trained: tuple[Path, torch.Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    directory, (positive, negative, neutral) = trained
    with caplog.at_level("INFO", "finetune_cli"):
        found = logits(directory, ("negative", "neutral", "Positive"))
    torch.testing.assert_close(found, torch.stack([negative, neutral, positive]))
    assert "its head is kept, its classes (positive, negative, neutral) put into our order" in caplog.text


def test_the_same_order_is_kept_as_it_is(trained: tuple[Path, torch.Tensor]) -> None:
    assert torch.equal(logits(trained[0], ("positive", "negative", "neutral")), trained[1])


def test_other_classes_get_a_new_head(trained: tuple[Path, torch.Tensor], caplog: pytest.LogCaptureFixture) -> None:
    directory, _ = trained
    torch.manual_seed(1)
    with caplog.at_level("INFO", "finetune_cli"):
        model = classifier(directory, ("contradiction", "neutral", "entailment"))
    assert "a new head is drawn, since its classes are others: positive, negative, neutral" in caplog.text
    assert float(model.classifier.weight.detach().std()) < 0.05  # as BERT draws it: 0.02; the trained one has 1
    assert torch.equal(model.classifier.bias, torch.zeros(3))
    torch.manual_seed(1)
    assert torch.equal(classifier(directory, ("a", "b", "c")).classifier.weight, model.classifier.weight)


def test_a_new_head_leaves_the_body_alone(trained: tuple[Path, torch.Tensor]) -> None:
    one, other = classifier(trained[0], ("a", "b", "c")), classifier(trained[0], ("positive", "negative", "neutral"))
    assert all(torch.equal(value, other.bert.state_dict()[name]) for name, value in one.bert.state_dict().items())


def test_classes_without_names_are_taken_in_their_order(tiny_bert: Path, tmp_path: Path) -> None:
    model = classifier(tiny_bert, ("LABEL_0", "LABEL_1"))
    model.save_pretrained(tmp_path)
    for path in tiny_bert.glob("*token*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    again = classifier(tmp_path, ("bad", "good"))
    assert torch.equal(again.classifier.weight, model.classifier.weight)
    assert again.config.id2label == {0: "bad", 1: "good"}


def test_another_number_of_classes_gets_a_new_head(trained: tuple[Path, torch.Tensor]) -> None:
    assert classifier(trained[0], ("a", "b")).classifier.weight.shape == (2, 32)
