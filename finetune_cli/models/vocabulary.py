"""The vocabulary of a model that is trained from scratch, learned from the training texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
CONTINUING = "##"  # starts a piece that does not start a word


def train_wordpiece(texts: Callable[[], Iterable[str]], *, vocab_size: int, max_length: int, directory: Path) -> None:
    """Train a lower-casing WordPiece vocabulary and save it as a BERT tokenizer in `directory`.

    texts: called twice, for the same texts each time. The same texts give the same vocabulary, token by token. The
    library numbers the pieces inside words in the order of a hash table, which no two processes share, and breaks ties
    between merges by number. So the single characters are learned first, and then get their numbers in order.
    """
    from transformers import PreTrainedTokenizerFast  # here: `prepare` finds prepared rows again without it

    special = list(SPECIAL_TOKENS.values())
    characters = _trained(texts(), vocab_size=0, first=special).get_vocab()
    inside_words = sorted(piece for piece in characters if piece.startswith(CONTINUING))
    vocabulary = _trained(texts(), vocab_size=vocab_size, first=special + inside_words).get_vocab()

    pieces = _untrained(models.WordPiece(vocabulary, unk_token=SPECIAL_TOKENS["unk"]))
    pieces.add_special_tokens(special)
    sep, cls = SPECIAL_TOKENS["sep"], SPECIAL_TOKENS["cls"]
    pieces.post_processor = processors.BertProcessing((sep, vocabulary[sep]), (cls, vocabulary[cls]))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        model_max_length=max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in SPECIAL_TOKENS.items()},
    )
    tokenizer.save_pretrained(directory)


def _trained(texts: Iterable[str], *, vocab_size: int, first: list[str]) -> Tokenizer:
    """first: tokens that get the lowest numbers, in this order. A vocab_size of 0 learns single characters alone."""
    pieces = _untrained(models.WordPiece(unk_token=SPECIAL_TOKENS["unk"]))
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=first, continuing_subword_prefix=CONTINUING, show_progress=False
    )
    pieces.train_from_iterator(texts, trainer=trainer)
    return pieces


def _untrained(model: models.Model) -> Tokenizer:
    pieces = Tokenizer(model)
    pieces.normalizer = normalizers.BertNormalizer(lowercase=True)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.decoder = decoders.WordPiece(prefix=CONTINUING)
    return pieces
