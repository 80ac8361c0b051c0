"""Rules about the model: which one, which part of it is trained, where it is uploaded."""

import re
from collections.abc import Iterator

from finetune_cli.config.rules.mistake import Get, Mistake, mistake
from finetune_cli.config.text import shorten

REPO_ID = re.compile(r"(?!.*(--|\.\.))\w[\w.-]*/\w[\w.-]{0,95}(?<![.-])", re.ASCII)


def model_is_named_once(get: Get) -> Iterator[Mistake]:
    name, from_scratch = get("model.name_or_path"), get("model.from_scratch")
    if name is None and from_scratch is None:
        message = "is missing. Allowed: a Hub id such as bert-base-uncased, a directory, or package:NAME/FOLDER"
        yield mistake("model.name_or_path", message)
    if name is not None and from_scratch is not None:
        message = "model.name_or_path is there too. Keep one of the two (-s model.from_scratch=null drops this one)"
        yield mistake("model.from_scratch", message)
    if from_scratch is not None and get("model.revision") is not None:
        yield mistake("model.revision", "model.from_scratch has no revision. Take it out")


def trained_part_is_chosen_once(get: Get) -> Iterator[Mistake]:
    lora, freeze, scratch = get("model.lora"), get("model.freeze"), get("model.from_scratch")
    if lora is not None and freeze != "none":
        message = "model.lora freezes every pretrained weight already. Keep one of the two"
        yield mistake("model.freeze", message)
    if scratch is not None:
        message = "the weights of model.from_scratch are random, so all have to be trained. Take it out"
        if lora is not None:
            yield mistake("model.lora", message)
        if freeze != "none":
            yield mistake("model.freeze", message)


def frozen_weights_alone_are_narrow(get: Get) -> Iterator[Mistake]:
    dtype = get("model.dtype")
    if dtype == "fp32":
        return
    if get("model.lora") is None and get("model.freeze") != "body":
        message = (
            f"{dtype} is for weights that are not trained: small updates would be lost in it. Add model.lora or "
            f"model.freeze: body; to train all weights with less memory, set training.precision: bf16 instead"
        )
        yield mistake("model.dtype", message)
    if get("training.precision") == "fp16":
        message = f"weights in {dtype} compute in bf16, not in training.precision: fp16. Set that to auto, bf16 or fp32"
        yield mistake("model.dtype", message)


def from_scratch_sizes_fit(get: Get) -> Iterator[Mistake]:
    if get("model.from_scratch") is None:
        return
    hidden, heads = get("model.from_scratch.hidden_size"), get("model.from_scratch.num_attention_heads")
    if hidden % heads:
        yield mistake("model.from_scratch.hidden_size", f"{hidden} is not a multiple of num_attention_heads ({heads})")
    longest, positions = get("data.max_length"), get("model.from_scratch.max_position_embeddings")
    if longest is not None and longest > positions:
        message = f"{longest} is more than model.from_scratch.max_position_embeddings ({positions})"
        yield mistake("data.max_length", message)


def places_are_written_right(get: Get) -> Iterator[Mistake]:
    name = get("model.name_or_path")
    if name is not None and name.startswith("package:") and not re.fullmatch(r"package:[A-Za-z_][\w.]*/[^/].*", name):
        yield mistake("model.name_or_path", f"{name!r} is not of the form package:NAME/FOLDER")
    if name is not None and name.startswith("builtin:"):
        yield mistake(
            "model.name_or_path", "builtin: names data, not a model. Use model.from_scratch, or package:NAME/FOLDER"
        )


def upload_has_a_place(get: Get) -> Iterator[Mistake]:
    hub = get("hub")
    if hub is None:
        return
    repo_id = get("hub.repo_id")
    if repo_id is not None and not REPO_ID.fullmatch(repo_id):
        message = f"{shorten(repo_id)!r} is not of the form user/name. Allowed: letters, digits, - _ . on both sides"
        yield mistake("hub.repo_id", message)
    if get("training.seeds"):
        message = (
            "training.seeds makes several models, and a repository holds one. Take it out; upload the seed of your "
            "choice later: finetune train OUTPUT_DIR/seed-1/config.yaml -s hub.repo_id=user/name"
        )
        yield mistake("hub", message, at_key=True)
