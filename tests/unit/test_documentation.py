"""The documents say what is so: commands parse, files and headings exist, examples load, tables are complete."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.exceptions import TyperException

import finetune_cli
from finetune_cli.cli import app
from finetune_cli.errors import ExitCode
from tests.unit.documents import (
    DOCUMENTS,
    LINK,
    PAGES,
    PROJECT_FILE,
    ROOT,
    anchors,
    blocks,
    check_command,
    command_lines,
    prose,
    read,
    section,
    simple_commands,
    table_rows,
)


@pytest.mark.parametrize("line", [line for document in DOCUMENTS for line in command_lines(read(document))])
def test_commands_in_the_documents_are_accepted(line: str) -> None:
    check_command(line)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_commands_in_the_comments_of_the_configs_are_accepted(path: Path) -> None:
    commands = r"^#.*?(finetune [a-z]+ +(?:configs|runs)/.*?)(?:  .*)?$"
    comments = re.findall(commands, path.read_text(encoding="utf-8"), re.MULTILINE)
    assert comments
    for line in comments:
        check_command(line)


@pytest.mark.parametrize(
    "line",
    [
        "finetune trian configs/mrpc.yaml",
        "cat rows | finetune predict runs/a - --probabilites",
        "torchrun --nproc_per_node 2 -m finetune_cli train c.yaml --processes 2",
        "finetune train c.yaml --num-processes two",
        "finetune evaluate",
    ],
)
def test_a_wrong_command_is_noticed(line: str) -> None:
    assert command_lines(f"```sh\n{line}\n```\n") == [line]
    with pytest.raises(TyperException):
        check_command(line)


def test_the_reader_of_commands_sees_each_way_of_writing_them() -> None:
    text = (
        "```sh\nfinetune prepare a.yaml   # says what it found\nls\ntorchrun -m finetune_cli train a.yaml\n```\n"
        "```console\n$ finetune validate a.yaml\nfinetune is not called here\n```\nType `finetune predict RUN -`.\n"
        "```yaml\n      - run: pip install .\n      - run: finetune evaluate a\n```\n"
    )
    assert [next(simple_commands(line))[-2:] for line in command_lines(text)] == [
        ["prepare", "a.yaml"],
        ["train", "a.yaml"],
        ["validate", "a.yaml"],
        ["evaluate", "a"],
        ["RUN", "-"],
    ]
    assert list(simple_commands("cat x | finetune evaluate r --gate 'f1>=0.8' > out")) == [
        ["cat", "x"],
        ["finetune", "evaluate", "r", "--gate", "f1>=0.8"],
    ]


def test_scripts_have_the_options_that_documents_show() -> None:
    commands = {line for document in DOCUMENTS for line in re.findall(r"python (scripts/[^`#\n]+)", read(document))}
    assert len(commands) >= 5
    for line in commands:
        script, *words = line.split()
        options = {word for word in words if word.startswith("--")}
        assert {option for option in options if f'"{option}"' not in read(script)} == set(), line


def test_extras_that_documents_install_exist() -> None:
    named = {name for document in DOCUMENTS for name in re.findall(r"pip install '?\.\[(\w+)\]", read(document))}
    assert {"docs", "lora"} <= named
    assert named - tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"].keys() == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files_and_headings_that_exist(document: str) -> None:
    here = (ROOT / document).parent
    broken = []
    for path, anchor in LINK.findall(prose(read(document))):
        target = here / path if path else ROOT / document
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(f"{path}#{anchor}" if anchor else path)
    assert broken == []


def test_files_that_documents_configs_and_code_name_exist() -> None:
    places = [ROOT / name for name in DOCUMENTS]
    for pattern in ("configs/**/*.yaml", "scripts/**/*.sh", "scripts/**/*.py", "finetune_cli/**/*.py", "*.toml"):
        places += sorted(ROOT.glob(pattern))
    assert len(places) > 100
    named = {(name, place.name) for place in places for name in PROJECT_FILE.findall(place.read_text(encoding="utf-8"))}
    named = {pair for pair in named if not pair[0].startswith("finetune_cli/configs/")}  # the wheel alone has these
    assert [(name, place) for name, place in sorted(named) if not (ROOT / name).exists()] == []


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    text = read("README.md")
    assert len(text.splitlines()) <= 150
    shipped = {path.name for path in (ROOT / "configs").glob("*.yaml")}
    assert len(shipped) >= 7
    assert shipped - set(re.findall(r"\(configs/([\w.]+\.yaml)\)", text)) == set()
    assert set(PAGES) - {path for path, _ in LINK.findall(text)} == set()


def test_the_map_names_every_room_and_only_files_that_exist() -> None:
    package = ROOT / "finetune_cli"
    text = read("CONTRIBUTING.md")
    rows = blocks(section(text, "## The map"))[0].text.splitlines()
    rooms = [(line[:26].split(), re.findall(r"[a-z_]+\.py", line[26:])) for line in rows]
    entries = {f"{path.name}/" if path.is_dir() else path.name for path in package.glob("[!_.]*")} - {"py.typed"}
    assert {name for names, _ in rooms for name in names} == entries
    for names, files in rooms:
        assert [file for file in files if not any((package / name / file).exists() for name in names)] == []
    short = re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", prose(text))
    assert short
    assert [path for path in short if not (package / path).exists() and not (ROOT / path).exists()] == []


def test_the_table_of_exit_codes_is_complete() -> None:
    codes = [row[0] for row in table_rows(read("docs/exit-codes.md"))]
    assert [int(code) for code in codes if code.isdigit()] == list(ExitCode)


def test_the_commands_of_the_program_are_all_in_the_readme() -> None:
    group: Any = typer.main.get_command(app.app)
    assert re.findall(r"^\| `finetune (\w+)", section(read("README.md"), "## Commands"), re.MULTILINE) == list(
        group.commands
    )
    named = {name for document in DOCUMENTS for name in re.findall(r"`finetune (\w+)", read(document))}
    assert named - set(group.commands) - {"COMMAND"} == set()


def test_python_examples_import_what_there_is() -> None:
    examples = [block.text for document in DOCUMENTS for block in blocks(read(document), "python")]
    assert len(examples) >= 3
    imports = [node for text in examples for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if (node.module or "").startswith("finetune_cli")]
    assert {node.module for node in ours} == {"finetune_cli", "finetune_cli.errors"}
    for node in ours:
        there = finetune_cli.__all__ if node.module == "finetune_cli" else dir(import_module(str(node.module)))
        assert {alias.name for alias in node.names} - set(there) == set()


def test_the_changelog_has_the_current_version() -> None:
    assert f"## [{finetune_cli.__version__}]" in read("CHANGELOG.md")


def build_site(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", root / "mkdocs.yml"]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run([*command, "--site-dir", site], env=environment, capture_output=True, text=True, check=False)


def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    built = build_site(ROOT, tmp_path)
    assert built.returncode == 0, built.stderr
    pages = {path.relative_to(tmp_path).with_suffix(".md").as_posix(): path for path in tmp_path.rglob("*.html")}
    assert {page.removeprefix("docs/") for page in PAGES} - pages.keys() == set()
    loaded = r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?(?:https?:)?//"
    assert [page for page, path in pages.items() if re.search(loaded, path.read_text(encoding="utf-8"))] == []


def test_a_broken_link_and_a_page_without_a_way_to_it_break_the_site(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    (tmp_path / "docs" / "lost.md").write_text("# Lost\n\nSee [there](scores.md#nowhere).\n", encoding="utf-8")
    built = build_site(tmp_path, tmp_path / "site")
    assert built.returncode == 1
    assert "scores.md#nowhere" in built.stderr
    assert "lost.md" in built.stderr
