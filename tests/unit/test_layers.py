"""Imports go one way, starting is light, and nothing in the project names the machine it was written on."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "finetune_cli"

# From the top: a part imports from layers below its own. Within a layer it may use its neighbours, but not in a circle.
LAYERS = (
    {"__main__"},
    {"cli"},
    {"__init__"},
    {"commands"},
    {"display", "predictions", "report"},
    {"runs"},
    {"evaluation"},
    {"data"},
    {"models", "training"},
    {"config", "records", "system"},
    {"errors", "tasks"},
)
RANK = {part: -depth for depth, parts in enumerate(LAYERS) for part in parts}
COMPONENTS = {"data", "evaluation", "models", "training"}
HEAVY = {"accelerate", "datasets", "evaluate", "numpy", "pandas", "pyarrow", "tokenizers", "torch", "transformers"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """The first name below the package: data/sources.py -> data, cli.py -> cli."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(path: Path) -> Iterator[tuple[str, str, int]]:
    """(part imported from, name, line) of every import of this package in the file, those inside functions too."""
    package = ("finetune_cli", *path.parent.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join(start + ([node.module] if node.module else []))
            targets = [(module, alias.name) for alias in node.names]
        else:
            continue
        for module, name in targets:
            parts = module.split(".")
            if parts[0] != "finetune_cli" or (module, name) == ("finetune_cli", "__version__"):
                continue
            inside = parts[1:] or ([name] if name in RANK else ["__init__"])
            yield inside[0], name, node.lineno


def edges() -> dict[tuple[str, str], str]:
    """(part, imported part) -> where, over the whole package."""
    found = {}
    for path in modules():
        for target, _, line in imports_of(path):
            if target != part_of(path):
                found.setdefault((part_of(path), target), f"{path.relative_to(ROOT)}:{line}")
    return found


def test_every_module_has_a_layer():
    assert len(modules()) > 15
    parts = {part_of(path) for path in modules()} | {part for edge in edges() for part in edge}
    assert parts - RANK.keys() == set()


def test_imports_go_down_the_layers_only():
    found = edges()
    assert len(found) > 15
    up = [f"{where}: {a} imports {b}" for (a, b), where in found.items() if RANK.get(b, 0) > RANK.get(a, 0)]
    assert up == []


def test_neighbours_do_not_import_each_other_in_a_circle():
    found = edges()
    remaining = {part for edge in found for part in edge}
    while leaves := {a for a in remaining if not any((a, b) in found for b in remaining)}:
        remaining -= leaves
    assert remaining == set()


def test_data_and_training_do_not_know_each_other():
    assert [where for edge, where in edges().items() if set(edge) == {"data", "training"}] == []


def test_components_take_plain_parameters_not_the_run_config():
    takers = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in modules()
        if part_of(path) in COMPONENTS
        for _, name, line in imports_of(path)
        if name == "RunConfig"
    ]
    assert takers == []


def test_the_import_reader_sees_each_form_of_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "sources.py"
    path.write_text(
        "import finetune_cli.cli\nfrom finetune_cli import config, train, __version__\n"
        "from . import labels\nfrom ..training.objective import loss\n"
        "def f():\n    from finetune_cli.errors import DataError\nimport json\n",
        encoding="utf-8",
    )
    assert sorted(imports_of(path)) == [
        ("__init__", "train", 2),
        ("cli", "", 1),
        ("config", "config", 2),
        ("data", "labels", 3),
        ("errors", "DataError", 6),
        ("training", "loss", 4),
    ]


def run_and_list_heavy_modules(arguments: list[str], directory: Path) -> tuple[int, str, set[str]]:
    """Runs the command line in a process of its own: (exit code, both streams, heavy modules it had loaded)."""
    program = (
        "import atexit, json, pathlib, sys\n"
        f"heavy = {sorted(HEAVY)!r}\n"
        "report = pathlib.Path('modules.json')\n"
        "atexit.register(lambda: report.write_text(json.dumps([name for name in heavy if name in sys.modules])))\n"
        "from finetune_cli.cli.app import main\n"
        "sys.argv[0] = 'finetune'\n"
        "sys.exit(main() if len(sys.argv) > 1 else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "HOME": str(directory), "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, set(json.loads((directory / "modules.json").read_text()))


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["--version"], ["train", "--help"], ["predict", "--help"]], ids=" ".join
)
def test_starting_loads_nothing_heavy(arguments: list[str], tmp_path: Path):
    code, output, heavy = run_and_list_heavy_modules(arguments, tmp_path)
    assert (code, heavy) == (0, set()), output


@pytest.mark.parametrize("command", ["validate", "prepare", "train", "evaluate", "predict"])
def test_a_config_error_loads_nothing_heavy(command: str, tmp_path: Path):
    (tmp_path / "bad.yaml").write_text("task: mrpc\nlerning_rate: 1\n", encoding="utf-8")
    code, output, heavy = run_and_list_heavy_modules([command, "bad.yaml"], tmp_path)
    assert "bad.yaml:2:1" in output
    assert (code, heavy) == (2, set()), output


def test_a_valid_config_is_validated_without_anything_heavy(tmp_path: Path, write_config: Callable[..., Path]):
    config = write_config(tmp_path, model={"name_or_path": "bert-base-uncased"})
    code, output, heavy = run_and_list_heavy_modules(["validate", str(config)], tmp_path)
    assert (code, heavy) == (0, set()), output


def test_importing_the_package_is_light_and_offers_the_verbs():
    program = (
        "import sys, finetune_cli; loaded = set(sys.modules)\n"
        "print(sorted(name for name in loaded if name.startswith('finetune_cli')))\n"
        "from finetune_cli import evaluate, load_config, predict, prepare, train\n"
        "print(all(map(callable, (evaluate, load_config, predict, prepare, train))))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['finetune_cli']", "True"]


def project_files() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listing.stdout.splitlines() if (ROOT / line).is_file()]


def test_no_project_file_names_a_path_of_the_machine_it_was_written_on():
    # Put together here, so that this file does not hold what it looks for.
    needles = ["/".join(["", *parts]).encode() for parts in (["work", ""], ["root", ""], ["tmp", "dev"])]
    files = project_files()
    assert len(files) > 15
    contents = {path: path.read_bytes() for path in files}
    assert [(p.name, needle) for p, text in contents.items() for needle in needles if needle in text] == []
