"""Tiny random models of every family of text classifiers, on disk as on the Hub, with the tokenizer of their kind.

A family is a model type of transformers. Its sizes are set under whatever names its configuration has for them; where
that is not enough, SPECIAL says what is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.models.tokenizers import POSITIONS, TOKENIZERS

VOCABULARY = 320  # rows of the models' tables; the tokenizers have fewer

SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size", "q_lora_rank"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_decoder_layers", "num_attention_heads", "n_head", "n_heads", "num_heads"), 2),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "num_key_value_heads"), 2),
    **dict.fromkeys(("intermediate_size", "d_inner", "hidden_dim", "encoder_ffn_dim", "decoder_ffn_dim"), 64),
    **dict.fromkeys(("d_ff", "ffn_dim", "ffn_hidden_size", "moe_intermediate_size", "expert_dim"), 64),
    **dict.fromkeys(("d_kv", "d_head", "head_dim"), 16),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), POSITIONS),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    "vocab_size": VOCABULARY,
}


@dataclass(frozen=True)
class Family:
    """tokenizer: bert (WordPiece), roberta (bytes, <s> </s>), gpt (bytes, end token alone), sentencepiece (<s> </s>),
    t5 (a </s> at the end), xlnet (on the left) or qwen (bytes, a padding token that the config does not know).
    settings: of its configuration. more_positions: that its table has beyond those of the tokens."""

    name: str
    tokenizer: str
    settings: dict[str, Any] = field(default_factory=dict)
    more_positions: int = 0


def _kind(tokenizer: str, names: str, more_positions: int = 0, **settings: Any) -> Iterator[Family]:
    for name in names.split():
        yield Family(name, tokenizer, {**settings, **SPECIAL.get(name, {})}, more_positions)


WITH_IMAGES = {  # and the family of their texts
    "gemma3": "gemma3_text",
    "qwen3_5": "qwen3_5_text",
    "modernvbert": "modernbert",
    "ultravbert": "ultrabert",
    "t5gemma2": "gemma3_text",
}
LATENT = {
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "v_head_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "head_dim"), 8),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "first_k_dense_replace"), 1),
    "num_experts_per_tok": 2,
}
COHERE_LAYERS = ["sliding_attention", "full_attention"]
SPECIAL: dict[str, dict[str, Any]] = {
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 8},
    "mobilebert": {"embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    "funnel": {"block_sizes": [1, 1], "num_decoder_layers": 1, "d_head": 16},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8},
    "lilt": {"hidden_size": 48},
    "markuplm": {"max_depth": 4, "xpath_unit_hidden_size": 8},
    "mpt": {"max_seq_len": 64},
    "squeezebert": {"embedding_size": 32},
    "convbert": {"head_ratio": 2},
    "axk1": {**LATENT, "mlp_layer_types": ["dense", "sparse"]},
    "axk2": {
        **LATENT,
        "mlp_layer_types": ["dense", "sparse"],
        "layer_types": ["indexed_attention", "indexed_attention"],
        "index_topk": POSITIONS,
        "index_head_dim": 16,
        "index_n_heads": 2,
    },
    "mistral4": {name: size for name, size in LATENT.items() if name != "head_dim"},
    "cohere_compass_text": {
        "layer_types": COHERE_LAYERS,
        "sliding_window": 8,
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in COHERE_LAYERS},
    },
    "ultrabert": {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8},
    "hunyuan_v1_moe": {"num_experts": 4, "moe_topk": 2},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4, "input_size": 32, "patch_size": 16},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 16},
    "reformer": {
        "attention_head_size": 16,
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": [8, 8],
        "axial_pos_embds_dim": [16, 16],
        "feed_forward_size": 64,
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
    },
    "zamba": {
        "attention_hidden_size": 64,
        "attention_head_dim": 32,
        "num_hidden_layers": 3,
        "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
        "mamba_dt_rank": 8,
        "mamba_d_state": 8,
    },
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"], "mamba_d_state": 8, "chunk_size": 8},
    "qwen2_moe": {"shared_expert_intermediate_size": 32, "num_experts_per_tok": 2, "decoder_sparse_step": 1},
    "qwen3_moe": {"num_experts_per_tok": 2},
    "qwen3_next": {
        "num_experts_per_tok": 2,
        "shared_expert_intermediate_size": 32,
        "layer_types": ["linear_attention", "full_attention"],
    },
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"]},
    "minicpm3": {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16},
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "mamba_d_state": 8},
    "roc_bert": {"pronunciation_vocab_size": 8, "shape_vocab_size": 8},
    "modernbert-decoder": {"global_attn_every_n_layers": 2, "local_attention": 8},
}

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        *_kind(
            "bert",
            "albert bert big_bird convbert distilbert electra ernie fnet funnel layoutlm lilt megatron-bert mobilebert "
            "nomic_bert nystromformer rembert roc_bert roformer squeezebert deberta-v2 modernbert",
        ),
        *_kind("bert", "mpnet", 2),
        *_kind("roberta", "roberta camembert xlm-roberta ibert data2vec-text roberta-prelayernorm xmod", 2),
        *_kind("roberta", "longformer", 2, attention_window=8),
        *_kind("roberta", "xlm-roberta-xl yoso markuplm", 2),
        *_kind("roberta", "deberta eurobert gte jina_embeddings_v3 bart mvp modernbert-decoder"),
        *_kind("sentencepiece", "mbart plbart bigbird_pegasus"),
        *_kind("t5", "t5 mt5 umt5"),
        *_kind("xlnet", "xlnet"),
        *_kind("bert", "esmc"),
        *_kind("roberta", "luke layoutlmv3", 2),
        *_kind("sentencepiece", "axk1 axk2 cohere_compass_text mistral4 ultrabert zamba zamba2 t5gemma2"),
        *_kind("qwen", "hunyuan_v1_moe modernvbert ultravbert"),
        *_kind("sentencepiece", "xlm flaubert"),
        *_kind(
            "gpt",
            "gpt2 gpt-sw3 gpt_bigcode gpt_neo gpt_neox gptj openai-gpt opt biogpt bloom ctrl falcon mpt phi stablelm "
            "starcoder2 persimmon",
        ),
        *_kind(
            "qwen",
            "qwen2 qwen3 qwen2_moe qwen3_moe qwen3_next qwen3_5_text olmo olmo2 olmo3 smollm3 seed_oss exaone4 glm "
            "glm4 hunyuan_v1_dense minicpm3 qwen3_5",
        ),
        *_kind(
            "sentencepiece",
            "llama arcee diffllama doge gemma gemma2 gemma3_text gpt_oss helium jetmoe ministral ministral3 mistral "
            "mixtral nemotron phi3 phimoe minimax t5gemma gemma3 deepseek_v2 deepseek_v3 jamba",
        ),
    )
}

# CANINE takes no row of three tokens, Reformer trains on rows of one length alone, MRA has attention on CUDA alone.
REFUSED = {
    family.name: family
    for family in (*_kind("bert", "canine"), *_kind("sentencepiece", "reformer"), *_kind("roberta", "mra", 2))
}


def build(name: str, directory: Path) -> Path:
    """Write a tiny model of the family with its tokenizer, and give back the directory. The same weights every time."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    family = (FAMILIES | REFUSED)[name]
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = TOKENIZERS[family.tokenizer](directory)
    known = AutoConfig.for_model(name).to_dict()
    settings = {key: value for key, value in SIZES.items() if key in known}
    if "max_position_embeddings" in settings:
        settings["max_position_embeddings"] += family.more_positions
    numbers = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id or tokenizer.cls_token_id,
        "eos_token_id": tokenizer.eos_token_id or tokenizer.sep_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
    }
    if family.tokenizer == "qwen":
        numbers["pad_token_id"] = None  # as on the Hub: the tokenizer alone knows it
    settings |= {key: value for key, value in numbers.items() if key in known or key == "decoder_start_token_id"}
    if "decoder_start_token_id" not in known and family.tokenizer != "t5":
        settings.pop("decoder_start_token_id")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = _config(name, {**settings, **family.settings}, numbers)
        model = AutoModelForSequenceClassification.from_config(config)
        for parameter in model.parameters():  # new ones are so small that a row hardly matters to its logits
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.1)
    _as_pretrained(model, directory)
    return directory


VISION = {
    **dict.fromkeys(("hidden_size", "out_hidden_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "depth"), 1),
    **dict.fromkeys(("num_attention_heads", "num_heads"), 2),
    "intermediate_size": 64,
    "image_size": 28,
    "patch_size": 14,
}


def _config(name: str, settings: dict[str, Any], tokens: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    if name == "t5gemma2":
        text = {**_text_sizes(name), "layer_types": ["full_attention", "full_attention"]}
        images = {"text_config": {**text, "vocab_size": VOCABULARY}, "vision_config": VISION}
        return AutoConfig.for_model(name, encoder=images, decoder=text, **_tokens(settings))
    if name in WITH_IMAGES:  # a model of texts and images, of which the texts alone are used
        text = {key: value for key, value in settings.items() if key not in ("text_config", "vision_config")}
        text = {**_text_sizes(name), **tokens, **text}
        return AutoConfig.for_model(name, text_config=text, vision_config=VISION)
    if name != "t5gemma":
        return AutoConfig.for_model(name, **settings)
    module = {**{key: value for key, value in SIZES.items() if key != "vocab_size"}, "vocab_size": VOCABULARY}
    one = {key: value for key, value in module.items() if key not in ("d_model", "n_embd", "dim")}
    one["layer_types"] = ["full_attention", "full_attention"]
    return AutoConfig.for_model(name, encoder=one, decoder=one, vocab_size=VOCABULARY, **_tokens(settings))


def _text_sizes(name: str) -> dict[str, Any]:
    from transformers import AutoConfig

    known = AutoConfig.for_model(WITH_IMAGES[name]).to_dict()
    return {key: value for key, value in {**SIZES, **SPECIAL.get(WITH_IMAGES[name], {})}.items() if key in known}


def _tokens(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key.endswith("_token_id")}


def _as_pretrained(model: Any, directory: Path) -> None:
    """The body alone, as a checkpoint of a pretrained model has it: the head is to be drawn."""
    prefix = f"{model.base_model_prefix}."
    body = {key: value for key, value in model.state_dict().items() if key.startswith(prefix)}
    model.save_pretrained(directory, state_dict=body or None)
    path = directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("id2label", "label2id", "problem_type", "architectures"):
        config.pop(key, None)
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
