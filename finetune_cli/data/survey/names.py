"""What a column's name says of its use. Names are compared in words: `Review Text`, `reviewText` and `row.review_text`
are one name."""

from __future__ import annotations

import re

from finetune_cli.tasks import TASKS

# In English, and in the languages that were met most often in public data sets.
TEXT_WORDS = re.compile(
    r"texts?|sentences?|reviews?|reviewtext|comments?|tweet|body|content|message|msg|document|utterance|post|transcript|"
    r"narrative|feedback|passage|paragraph|sms|email|kommentar|nachricht|bewertung|rezension|beitrag|inhalt|meldung|"
    r"texte|phrase|commentaire|avis|contenu|texto|coment[aá]rio|mensaje|rese[nñ]a|opini[oó]n|avaliação|testo|commento|"
    r"recensione|tekst"
)
SHORT_TEXT_WORDS = re.compile(  # often beside a longer text, and then not what a class depends on
    r"title|headline|subject|summary|abstract|description|question|query|input|prompt|note|titel|frage|beschreibung|"
    r"betreff|titre|t[ií]tulo|titolo|descripci[oó]n|pregunta|domanda"
)
LABEL_NAMES = re.compile(
    r"label|labels|class|classes|category|categories|target|y|sentiment|polarity|intent|topic|topics|tags?|emotion|"
    r"emotions|stars|rating|score|grade|outcome|answer|is_\w+|has_\w+|spam|toxic|gold|gold_label|annotation|type|"
    r"label_\w+|\w+_label|\w+_(?:class|category|rating)|"
    r"kategorie|klasse|note|sterne|thema|stimmung|etiqueta|clase|classe|categor[ií]a|cat[ée]gorie|nota|puntuaci[oó]n"
)
EXACT_LABEL = re.compile(r"labels?|class|target|category|y|gold_label")
PAIRS = (
    *(task.text for task in TASKS.values() if len(task.text) == 2),
    ("text_a", "text_b"),
    ("text", "text_pair"),
    ("query", "passage"),
    ("query", "document"),
    ("question", "context"),
    ("question", "answer"),
    ("claim", "evidence"),
)
SCALES = re.compile(r"stars?|rating|score|grade|points?|overall|note|nota|sterne")
SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval", "development"),
    "test": ("test", "testing"),
}
SPLIT_COLUMN = re.compile(r"split|set|fold|subset|partition")


def plain(name: str) -> str:
    """The name in lower-case words with _ between them, of a nested field its last part."""
    last = name.rpartition(".")[2] or name
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", "_", last)
    return words.strip("_").lower()


def text_rank(name: str) -> int:
    """0: called like a text; 1: like a short one; 2: neither. The last word says what a thing is."""
    word = plain(name).rpartition("_")[2]
    return 0 if TEXT_WORDS.fullmatch(word) else 1 if SHORT_TEXT_WORDS.fullmatch(word) else 2


def is_label_name(name: str) -> bool:
    return bool(LABEL_NAMES.fullmatch(plain(name)))


def is_surely_label(name: str) -> bool:
    return bool(EXACT_LABEL.fullmatch(plain(name)))


def split_of(name: str) -> str | None:
    """The split that a file or a split of the Hub is called like: `reviews_dev.csv` is validation."""
    words = re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", name)
    for split, names in SPLIT_WORDS.items():
        if any(word.lower() in names for word in words):
            return split
    return None
