"""A row is answered alike alone, in company, and by plain transformers: padding tokens, padding sides, leaks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from finetune_cli.errors import ConfigError
from finetune_cli.models import building, self_test
from finetune_cli.models.limits import find_limits
from finetune_cli.models.padding_independence import TRIED, require_one_pass
from finetune_cli.models.tokenizer import load_tokenizer

TEXTS = ["lovely", "the film was good and then some of it was quite awful", "it was a trip", "a </s> b </s>"]
CLOSE = 1e-6  # of logits about 1, float32


def answers(directory: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (4, 2) of TEXTS: together, alone, and by plain transformers, one unpadded row at a time."""
    torch.manual_seed(0)
    model = building.build_classifier(directory, kind="classification", label_names=("no", "yes")).eval()
    tokenizer = load_tokenizer(directory)
    plain = AutoModelForSequenceClassification.from_pretrained(directory, num_labels=2).eval()
    plain.load_state_dict(model.state_dict())
    fields = ["input_ids", "attention_mask"]
    with torch.no_grad():
        together = model(**{name: tokenizer(TEXTS, padding=True, return_tensors="pt")[name] for name in fields}).logits
        rows = [{name: tokenizer(text, return_tensors="pt")[name] for name in fields} for text in TEXTS]
        alone = torch.cat([model(**row).logits for row in rows])
        return together, alone, torch.cat([plain(**row).logits for row in rows])


@pytest.mark.parametrize(
    "name", ["qwen2", "gpt2", "gpt_neox", "llama", "xlnet", "fnet", "convbert", "big_bird", "bart", "t5"]
)
def test_a_row_is_answered_alike_in_any_company(family: Callable[[str], Path], name: str) -> None:
    """Qwen: a padding token in the tokenizer alone, on the left; GPT-2: none at all; XLNet: on the left; FNet and
    ConvBERT: padding leaks; BigBird: another attention after a short batch; BART and T5: `</s>` in a text."""
    together, alone, plain = answers(family(name))
    torch.testing.assert_close(together, alone, rtol=0, atol=CLOSE)
    torch.testing.assert_close(together, plain, rtol=0, atol=CLOSE)


def test_gradients_of_a_batch_are_those_of_its_rows(family: Callable[[str], Path]) -> None:
    """XLNet was trained on padding: its gradient norm was off by a third and more."""
    model = building.build_classifier(family("xlnet"), kind="classification", label_names=("no", "yes")).eval()
    tokenizer = load_tokenizer(family("xlnet"))
    batches = [tokenizer(TEXTS, padding=True, return_tensors="pt")]
    norms = []
    for inputs in (batches, [tokenizer(text, return_tensors="pt") for text in TEXTS]):
        model.zero_grad()
        for batch in inputs:
            model(**batch).logits[:, 0].sum().backward()
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(norms[0], norms[1], rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", sorted(TRIED))
def test_families_that_are_not_tried_at_each_load_answer_alike(family: Callable[[str], Path], name: str) -> None:
    model = building.build_classifier(family(name), kind="classification", label_names=("no", "yes"))
    pad = load_tokenizer(family(name)).pad_token_id
    assert self_test.answers_alike(model, pad_token_id=pad, padding_side="right")


def test_a_first_token_that_is_padding_is_not_read(family_copy: Callable[[str], Path]) -> None:
    """A BERT whose tokenizer pads on the left: its head would read padding."""
    directory = family_copy("bert")
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "padding_side": "left"}))
    together, alone, _ = answers(directory)
    torch.testing.assert_close(together, alone, rtol=0, atol=CLOSE)


def test_a_model_whose_answers_are_a_matter_of_chance_is_refused(
    family: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune_cli.models.padding_independence.answers_alike", lambda model, **padding: False)
    with pytest.raises(ConfigError, match="of type 'llama', which answers the same row differently"):
        building.build_classifier(family("llama"), kind="classification", label_names=("no", "yes"))


@pytest.mark.parametrize(("name", "what"), [("canine", "run"), ("reformer", "trained")])
def test_a_model_that_cannot_take_a_short_text_is_refused_in_a_sentence(
    family: Callable[[str], Path], name: str, what: str
) -> None:
    """CANINE joins four characters to one, Reformer trains on rows of one length alone."""
    with pytest.raises(ConfigError, match=rf"of type '{name}', which cannot be {what} on short texts alone \(.+\)\."):
        building.build_classifier(family(name), kind="classification", label_names=("no", "yes"))


def test_a_model_that_does_not_read_its_rows_is_refused(family: Callable[[str], Path]) -> None:
    """MRA's attention gives zeros on a CPU, so that every text gets the same answer."""
    with pytest.raises(ConfigError, match="of type 'mra', which reads nothing but the ends of a row here"):
        building.build_classifier(family("mra"), kind="classification", label_names=("no", "yes"))


def test_a_family_that_has_no_table_of_tokens_has_no_limit_of_them(family: Callable[[str], Path]) -> None:
    assert find_limits(AutoConfig.from_pretrained(family("canine"))).vocabulary is None


def test_the_padding_token_of_a_saved_model_is_the_tokenizers(family: Callable[[str], Path], tmp_path: Path) -> None:
    model = building.build_classifier(family("qwen2"), kind="classification", label_names=("no", "yes"))
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert saved["pad_token_id"] == load_tokenizer(family("qwen2")).pad_token_id


@pytest.mark.parametrize(("name", "tokens"), [("fnet", [5, 6, 7]), ("bart", [5, 2, 7])])
def test_a_model_that_needs_several_passes_is_not_sharded(
    family: Callable[[str], Path], name: str, tokens: list[int]
) -> None:
    """FNet takes rows of each length apart. BART does so with rows of different numbers of end tokens."""
    model = building.build_classifier(family(name), kind="classification", label_names=("no", "yes"))
    rows = np.array([*tokens, 5, 6, 7]), np.array([0, 3, 6])
    with pytest.raises(ConfigError, match=rf"of type '{name}' cannot be sharded here: only rows"):
        require_one_pass(model, [rows])


@pytest.mark.parametrize("name", ["bart", "bert", "qwen2"])
def test_rows_that_run_together_may_be_sharded(family: Callable[[str], Path], name: str) -> None:
    model = building.build_classifier(family(name), kind="classification", label_names=("no", "yes"))
    end = model.config.eos_token_id
    require_one_pass(model, [(np.array([5, end, 6, 7, 5, end]), np.array([0, 2, 6]))])
