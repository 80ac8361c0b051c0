"""`model:` of the config: the pretrained model, and what of it is trained."""

from typing import Annotated, Literal

from pydantic import Field

from finetune_cli.config.types import Allowed, Count, Section, Share, Text, TextList


class FromScratchConfig(Section):
    """A small BERT with random weights and a WordPiece vocabulary trained from the data: for trials and tests."""

    vocab_size: Annotated[int, Field(ge=100), Allowed("a whole number from 100")] = Field(
        2000, description="Entries of the vocabulary, special tokens included, at most."
    )
    hidden_size: Count = Field(64, description="Width of the model; a multiple of num_attention_heads.")
    num_hidden_layers: Count = Field(2, description="Transformer layers.")
    num_attention_heads: Count = Field(2, description="Attention heads in each layer.")
    intermediate_size: Count = Field(128, description="Width of the feed-forward layers.")
    max_position_embeddings: Annotated[int, Field(ge=8), Allowed("a whole number from 8")] = Field(
        128, description="Longest input in tokens; data.max_length cannot exceed it."
    )


class LoraConfig(Section):
    """Low-rank adapters (LoRA); the names are those of peft's LoraConfig."""

    r: Count = Field(8, description="Rank of the adapters.")
    lora_alpha: Count = Field(16, description="The adapters' share is scaled by lora_alpha / r.")
    lora_dropout: Share = Field(0.0, description="Dropout of the adapters' input.")
    target_modules: (
        Annotated[TextList, Field(min_length=1), Allowed("a list of names of linear layers")]
        | Literal["all-linear"]
        | None
    ) = Field(None, description="Layers that get an adapter, by the end of their name; null: query and value.")


class ModelConfig(Section):
    """The pretrained model."""

    name_or_path: Text | None = Field(
        None,
        description="Hub id, directory, or package:NAME/FOLDER (model files inside an installed Python package).",
    )
    revision: Text | None = Field(None, description="Branch, tag or commit on the Hub; null: the newest.")
    dropout: Share | None = Field(None, description="Dropout of the hidden layers; null: the model's own.")
    attention_dropout: Share | None = Field(None, description="Dropout inside attention; null: the model's own.")
    from_scratch: FromScratchConfig | None = Field(
        None, description="Sizes of a new model with random weights, in place of name_or_path."
    )
    lora: LoraConfig | None = Field(
        None, description="Train low-rank adapters and the head alone; they are merged into the saved model."
    )
    freeze: Annotated[
        Literal["none", "embeddings", "body"] | Count,
        Allowed("none, embeddings, body, or a number of layers from 1"),
    ] = Field(
        "none",
        description="Weights left as they are: the embeddings, those and the lowest N layers, or all but the head.",
    )
    dtype: Literal["fp32", "bf16", "nf4"] = Field(
        "fp32",
        description="Format of frozen weights, with lora or freeze: body. bf16: half the memory; nf4: 4 bits (QLoRA).",
    )
    trust_remote_code: bool = Field(False, description="Run the Python code that comes with a model of the Hub.")
