"""What makes an update cheaper trains the same model: fewer embedding rows, faster dropout masks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, RobertaConfig, RobertaForSequenceClassification

from finetune_cli.models.on_cpu import (
    MOST_BF16_TOKENS,
    FastDropout,
    attention_on_cpu,
    fast_dropout,
    use_attention_for_cpu,
    use_fast_dropout,
)
from finetune_cli.models.used_rows import train_used_rows_only
from finetune_cli.training.objective import Objective, row_losses

VOCABULARY = 60
USED = torch.tensor([0, 3, 5, 7, 11, 13, 20, 21, 22, 40])
PAD = 0


def small_bert(**options: float) -> BertForSequenceClassification:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return BertForSequenceClassification(
        BertConfig(vocab_size=VOCABULARY, max_position_embeddings=16, pad_token_id=PAD, **sizes, **options)
    )


def batches(count: int) -> list[dict[str, torch.Tensor | int]]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for _ in range(count):
        ids = USED[1:][torch.randint(len(USED) - 1, (4, 9), generator=generator)]
        mask = torch.ones_like(ids)
        mask[0, 5:], ids[0, 5:] = 0, PAD
        labels = torch.randint(2, (4,), generator=generator)
        made.append({"input_ids": ids, "attention_mask": mask, "labels": labels, "num_valid": 4, "update_rows": 4})
    return made


def trained(model: nn.Module, updates: int = 12) -> tuple[dict[str, torch.Tensor], torch.optim.Optimizer]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    objective = Objective(row_losses("classification"))
    model.train()
    for batch in batches(updates):
        objective(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return {name: values.clone() for name, values in model.state_dict().items()}, optimizer


NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
WORDS = "bert.embeddings.word_embeddings.weight"


def test_training_the_used_rows_alone_gives_the_weights_of_training_all() -> None:
    whole, _ = trained(small_bert(**NO_DROPOUT))
    model = small_bert(**NO_DROPOUT)
    untouched = model.state_dict()[WORDS].clone()
    assert train_used_rows_only(model, USED)
    few, optimizer = trained(model)
    assert whole.keys() == few.keys()
    for name in whole:  # the clipping norm adds up in another order, which Adam carries along
        torch.testing.assert_close(few[name], whole[name], rtol=1e-4, atol=1e-5)
    unused = [row for row in range(VOCABULARY) if row not in USED.tolist()]
    assert torch.equal(few[WORDS][unused], untouched[unused])
    assert not torch.allclose(few[WORDS][USED[1:]], untouched[USED[1:]])
    assert torch.equal(few[WORDS][PAD], untouched[PAD])  # as nn.Embedding's padding_idx
    assert sum(state["exp_avg"].shape[0] == len(USED) for state in optimizer.state.values()) == 1


def test_words_that_training_never_saw_are_read_from_the_pretrained_table() -> None:
    model = small_bert().eval()
    unseen = {"input_ids": torch.arange(VOCABULARY).view(6, 10), "attention_mask": torch.ones(6, 10, dtype=torch.long)}
    before = model(**unseen).logits
    train_used_rows_only(model, USED)
    model.eval()
    assert torch.equal(model(**unseen).logits, before)


def test_a_saved_model_has_the_whole_table_and_loads_without_the_package(tmp_path: Path) -> None:
    model = small_bert(**NO_DROPOUT)
    train_used_rows_only(model, USED)
    weights, _ = trained(model, updates=3)
    model.save_pretrained(tmp_path, state_dict=dict(weights))  # it empties what it is given
    loaded = BertForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded.state_dict()[WORDS], weights[WORDS])
    again = small_bert(**NO_DROPOUT)
    train_used_rows_only(again, USED)
    again.load_state_dict(weights)
    torch.testing.assert_close(again.state_dict(), weights, rtol=0, atol=0)


def _frozen(model: nn.Module) -> None:
    model.get_input_embeddings().weight.requires_grad_(False)


def _tied(model: nn.Module) -> None:
    model.decoder = nn.Linear(16, VOCABULARY, bias=False)
    model.decoder.weight = model.get_input_embeddings().weight


def _sparse(model: nn.Module) -> None:
    model.get_input_embeddings().sparse = True


@pytest.mark.parametrize("change", [_frozen, _tied, _sparse])
def test_embeddings_for_which_it_would_not_be_exact_stay_whole(change: Callable[[nn.Module], None]) -> None:
    model = small_bert()
    change(model)
    assert not train_used_rows_only(model, USED)
    assert type(model.get_input_embeddings()) is nn.Embedding


def test_all_rows_in_use_leaves_the_embedding_as_it_is() -> None:
    assert not train_used_rows_only(small_bert(), torch.arange(VOCABULARY))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_fast_mask_drops_the_asked_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    values = torch.ones(1_000_001, requires_grad=True)  # odd: the last draw is used in part
    result = fast_dropout(values, p)
    result.sum().backward()
    # Five standard deviations of a share over a million draws.
    assert (result == 0).float().mean().item() == pytest.approx(p, abs=5 * (p * (1 - p) / 1e6) ** 0.5)
    assert result.max().item() == pytest.approx(1 / (1 - p), rel=1e-3)
    assert torch.equal(values.grad, result.detach())  # the mask of the forward pass, scaled alike


def test_neighbours_in_one_draw_are_dropped_independently() -> None:
    torch.manual_seed(0)
    lanes = (fast_dropout(torch.ones(400_000), 0.5) == 0).view(-1, 4).float()
    correlation = torch.corrcoef(lanes.T) - torch.eye(4)
    assert correlation.abs().max().item() < 5 / 100_000**0.5
    assert lanes.mean(dim=0).sub(0.5).abs().max().item() < 5 * 0.5 / 100_000**0.5


def test_the_mask_follows_the_seed_and_evaluation_has_none() -> None:
    layer = FastDropout(0.3)
    values = torch.randn(5, 7)
    torch.manual_seed(3)
    first = layer(values)
    torch.manual_seed(3)
    assert torch.equal(layer(values), first)
    assert torch.equal(layer.eval()(values), values)


@pytest.mark.parametrize("kind", [BertForSequenceClassification, RobertaForSequenceClassification])
def test_every_dropout_of_a_model_becomes_fast_and_its_outputs_stay(kind: type[nn.Module]) -> None:
    config_class = BertConfig if kind is BertForSequenceClassification else RobertaConfig
    torch.manual_seed(0)
    config = config_class(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    model = kind(config)
    inputs = {name: values for name, values in batches(1)[0].items() if name in ("input_ids", "attention_mask")}
    before = model.eval()(**inputs).logits
    use_attention_for_cpu(model)
    use_fast_dropout(model)
    assert not [module for module in model.modules() if type(module) is nn.Dropout]
    torch.testing.assert_close(model.eval()(**inputs).logits, before, rtol=1e-6, atol=1e-6)


def test_attention_with_dropout_has_the_mean_and_the_gradients_of_torch() -> None:
    """Averaged over masks, dropout's attention is attention without it: E[keep / P(keep)] = 1."""
    model = small_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.2)
    inputs = {name: batches(1)[0][name] for name in ("input_ids", "attention_mask")}
    layer = model.bert.encoder.layer[0].attention.self
    outputs: list[torch.Tensor] = []
    layer.register_forward_hook(lambda module, args, output: outputs.append(output[0].detach()))
    model.eval()(**inputs)
    use_attention_for_cpu(model.train())
    for _ in range(500):
        model(**inputs)
    mean, spread = torch.stack(outputs[1:]).mean(0), torch.stack(outputs[1:]).std(0)
    assert spread.max() > 0
    assert ((mean - outputs[0]).abs() <= 6 * spread / 500**0.5 + 1e-6).all()


def heads(rows: int, count: int, tokens: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(rows, count, tokens, 8, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("tokens", [9, MOST_BF16_TOKENS + 1])
def test_attention_in_bf16_is_that_of_torch_to_its_rounding(tokens: int) -> None:
    """Step by step up to MOST_BF16_TOKENS, torch's kernel beyond. bf16 has 8 bits: scores are off by up to 1/256."""
    query, key, value = (heads(2, 3, tokens, seed, torch.bfloat16).requires_grad_() for seed in range(3))
    mask = torch.ones(2, 1, tokens, tokens, dtype=torch.bool)
    mask[0, :, :, 5:] = False
    layer = nn.Module()
    layer.is_causal = False
    output, _ = attention_on_cpu(layer, query, key, value, mask, scaling=8**-0.5)
    expected = nn.functional.scaled_dot_product_attention(query.float(), key.float(), value.float(), mask)
    torch.testing.assert_close(output.float().transpose(1, 2), expected, rtol=0.02, atol=0.02)
    (gradient,) = torch.autograd.grad(output.float().sum(), query, retain_graph=True)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), query)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0.05, atol=0.05)


def test_grouped_heads_are_left_to_torch() -> None:
    """Four query heads share two key heads; step by step their shapes would not fit."""
    layer = nn.Module()
    layer.is_causal, layer.num_key_value_groups = False, 2
    query, key, value = heads(1, 4, 5, 0, torch.float32), *(heads(1, 2, 5, seed, torch.float32) for seed in (1, 2))
    output, _ = attention_on_cpu(layer.train(), query, key, value, None, dropout=0.1, scaling=1.0)
    assert output.shape == (1, 5, 4, 8)
