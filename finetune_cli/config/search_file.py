"""`--search search.yaml`: the section `sweep` in a file of its own, with mistakes at the lines of that file."""

from collections.abc import Mapping
from dataclasses import replace

from finetune_cli.config.bases import laid_over
from finetune_cli.config.text import read_text
from finetune_cli.config.yaml_source import Document, KeyPath, Place, Spot, parse_yaml
from finetune_cli.system.places import in_home

SECTION = "sweep"


def with_search(document: Document, name: str, environ: Mapping[str, str]) -> Document:
    """The config with the search of another file, which has the keys of `sweep`, or that section and nothing else.

    A config that has a section `sweep` itself is a mistake, and so are further keys in the file. Raises ConfigError for
    a file that cannot be read or is no YAML mapping.
    """
    search = parse_yaml(read_text(in_home(name)), name, environ)
    search.sources = [name]
    if (SECTION,) not in search.spots:
        search = _inside(search, name)
    message = f"is no part of a search. A file for --search has the section {SECTION} alone: move this to the config"
    for path, spot in search.spots.items():
        if len(path) == 1 and path != (SECTION,):
            search.problems.append(spot.key.problem(str(path[0]), message))
            search.data.pop(str(path[0]), None)
    if document.data.get(SECTION) is not None and (SECTION,) in document.spots:
        message = f"is in {name}, too (--search). Keep one of the two"
        document.problems.append(document.spots[SECTION,].key.problem(SECTION, message))
        del document.data[SECTION]
    return laid_over(document, search)


def _inside(search: Document, name: str) -> Document:
    """The same document with everything below the section."""

    def below(path: KeyPath) -> KeyPath:
        return (SECTION, *path)

    whole = Place(name, 1, 1)
    return Document(
        {SECTION: search.data},
        {(SECTION,): Spot(whole, whole, None)} | {below(path): spot for path, spot in search.spots.items()},
        [replace(problem, key=f"{SECTION}.{problem.key}".rstrip(".")) for problem in search.problems],
        {below(path) for path in search.unusable},
        {below(path): filled for path, filled in search.filled.items()},
        search.sources,
        search.is_whole,
    )
