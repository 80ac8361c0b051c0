"""Small tokenizers of every kind, on disk as on the Hub, made from the words that the tiny models are tried with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

FILLERS = ["the", "a", "this", "was", "is", "very", "and", "it", "with", "some", "really", "quite", "film", "meal"]
GOOD = ["good", "great", "lovely", "delighted", "superb", "happy"]
BAD = ["bad", "poor", "awful", "sad", "dreadful", "angry"]
WORDS = [*FILLERS, *GOOD, *BAD]
TEXTS = [" ".join(WORDS[(start + 7 * step) % len(WORDS)] for step in range(3 + start % 9)) for start in range(120)]
POSITIONS = 64


def _bert(directory: Path) -> Any:
    from finetune_cli.models.tokenizer import load_tokenizer
    from finetune_cli.models.vocabulary import train_wordpiece

    train_wordpiece(lambda: TEXTS, vocab_size=150, max_length=POSITIONS, directory=directory)
    return load_tokenizer(directory)


def _bytes(directory: Path, specials: dict[str, str], *, around: bool = False, **more: Any) -> Any:
    """Byte pairs, as GPT-2, RoBERTa and Qwen have them; around: <s> and </s> are put around a text, as RoBERTa does."""
    from tokenizers import ByteLevelBPETokenizer, processors
    from transformers import PreTrainedTokenizerFast

    pieces = ByteLevelBPETokenizer()
    pieces.train_from_iterator(TEXTS, vocab_size=300, special_tokens=list(dict.fromkeys(specials.values())))
    backend = pieces._tokenizer
    if around:
        start, end = ((token, backend.token_to_id(token)) for token in ("<s>", "</s>"))
        backend.post_processor = processors.RobertaProcessing(end, start, add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=POSITIONS,
        **specials,
        **{"model_input_names": ["input_ids", "attention_mask"], **more},
    )
    tokenizer.save_pretrained(directory)
    return tokenizer


def _roberta(directory: Path) -> Any:
    specials = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return _bytes(directory, {**specials, "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}, around=True)


def _gpt(directory: Path) -> Any:
    """As it is on the Hub: no padding token."""
    return _bytes(directory, dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>"))


def _qwen(directory: Path) -> Any:
    return _bytes(directory, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, padding_side="left")


def _sentencepiece(directory: Path, *, ends: str = "", side: str = "right", special: int = 0) -> Any:
    """A Unigram vocabulary, as SentencePiece has it. ends: what a post-processor adds."""
    from tokenizers import SentencePieceUnigramTokenizer, processors
    from transformers import PreTrainedTokenizerFast

    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<s>"}
    more = {"cls_token": "<cls>", "sep_token": "<sep>"} if special else {}
    pieces = SentencePieceUnigramTokenizer()
    pieces.train_from_iterator(
        TEXTS, vocab_size=120, special_tokens=[*names.values(), *more.values()], unk_token="<unk>", show_progress=False
    )
    backend = pieces._tokenizer
    if ends:
        tokens = [(token, backend.token_to_id(token)) for token in {*names.values(), *more.values()}]
        single, pair = ends, ends.replace("$A", "$A", 1) + " " + ends.replace("$A", "$B")
        backend.post_processor = processors.TemplateProcessing(single, pair, tokens)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=POSITIONS,
        padding_side=side,
        model_input_names=["input_ids", "attention_mask"],
        **names,
        **more,
    )
    tokenizer.save_pretrained(directory)
    return tokenizer


TOKENIZERS: dict[str, Callable[[Path], Any]] = {
    "bert": _bert,
    "roberta": _roberta,
    "gpt": _gpt,
    "qwen": _qwen,
    "sentencepiece": lambda directory: _sentencepiece(directory, ends="<s> $A </s>"),
    "t5": lambda directory: _sentencepiece(directory, ends="$A </s>"),
    "xlnet": lambda directory: _sentencepiece(directory, ends="$A <sep> <cls>", side="left", special=1),
}
