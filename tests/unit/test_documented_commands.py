"""What README and docs tell people to type exists, and so do the files, modules and pages that they name."""

import importlib.util
import json
import re
import runpy
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
import yaml
from mkdocs.exceptions import PluginError

from botify.core.settings import Settings
from botify.services.cli import build_cli
from botify.services.gateway import GatewayOptions

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile", *(ROOT / "docs").rglob("*.md")])
NOTEBOOKS = sorted((ROOT / "analytics/notebooks").glob("*.ipynb"))
NAMING_FILES = [*PAGES, ROOT / ".ci/run", ROOT / "services/experiments/course.toml", *ROOT.glob("docker-compose*.yml")]
FILE = re.compile(r"(?<![\w./:{-])((?:[\w-]+/)+[\w-]+\.(?:py|md|toml|yml|lua|ipynb))\b")
MODULE = re.compile(r"python3? -m ([\w.]+)")
TARGET = re.compile(r"(?:`|^)make ([a-z]+)\b", re.MULTILINE)
SERVICE = re.compile(r"--scale ([\w-]+)=")


@cache
def cli() -> Any:  # typer may bring a click of its own
    return typer.main.get_command(build_cli())


@cache
def tracked_files() -> frozenset[str]:
    listed = subprocess.run(("git", "ls-files"), cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    return frozenset(listed.stdout.splitlines())


def commands_in(text: str) -> Iterator[list[str]]:
    """Yield the arguments of each `botify` command that stands in backticks or begins a line of a code block."""
    quoted = re.findall(r"`((?:[A-Z_]+=\S+ )*botify [^`]+)`", text)
    typed = re.findall(r"^(?: {4}|\$ |)((?:[A-Z_]+=\S+ )*botify .+)$", text, re.MULTILINE)
    for command in [*quoted, *typed]:
        words = shlex.split(re.split(r"\s#|\s{2,}", re.sub("[…[\\]]", "", command))[0].rstrip(".,;:"))
        yield words[words.index("botify") + 1 :]


def refusal_of(words: list[str]) -> str | None:
    """Say what the command line would refuse; a mention without all arguments is a name, and may be short."""
    command, path = cli(), "botify"
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name, *words = words
        if name not in command.commands:
            return f"{path} has no {name!r}"
        command, path = command.commands[name], f"{path} {name}"
    try:
        given, surplus, _ = command.make_parser(command.context_class(command)).parse_args(list(words))
    except Exception as error:  # noqa: BLE001 - of that click
        return f"{path}: {error}"
    if surplus:
        return f"{path}: takes no {surplus}"
    required = [one.name for one in command.params if one.required and one.param_type_name == "option"]
    missing = [name for name in required if words and name not in given]
    return f"{path}: {missing} must be given" if missing else None


def prose_of(page: Path) -> str:
    """Return the text of a page, of a notebook without its code."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: page.name)
def test_commands_are_there_with_their_flags(page: Path) -> None:
    text = prose_of(page)
    refused = {" ".join(words): why for words in commands_in(text) if (why := refusal_of(words))}
    assert refused == {}
    assert [module for module in MODULE.findall(text) if importlib.util.find_spec(module) is None] == []
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(TARGET.findall(text)) <= set(targets)
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert set(SERVICE.findall(text)) <= set(compose["services"])


@pytest.mark.parametrize("page", NAMING_FILES, ids=lambda page: page.name)
def test_files_that_are_named_are_there(page: Path) -> None:
    known = tracked_files()
    named = set(FILE.findall(page.read_text(encoding="utf-8")))
    unknown = {name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in known)}
    assert unknown <= {"sim/envs/user.py"}  # of the course's repository


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_whole(page: Path) -> None:
    """A blank line in a table ends it: the rows behind it are shown as text."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"^\|.*\n[ \t]*\n(\|.*)\n(?!\| ---)", text, re.MULTILINE) == []


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_all_blocks_of_commands_are_run_in_the_suite(page: str) -> None:
    """Those marked `sh` are, by tests/e2e/test_tutorial.py; others install, or need Docker."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert any(language == "sh" for language, _ in blocks)
    others = [block for language, block in blocks if language != "sh" and not block.startswith(("git clone", "docker"))]
    assert [block for block in others if re.search(r"^(botify|python3?|pip|make|curl) ", block, re.MULTILINE)] == []


def test_an_installation_runs_no_test() -> None:
    command = ("make", "--dry-run", "--always-make", "install")
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S603
    assert "pip install" in planned
    assert "requirements-test" not in planned
    assert "pytest" not in planned


@pytest.fixture(scope="module")
def hooks() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "docs/site/hooks.py")))


@pytest.mark.parametrize("page", sorted((ROOT / "docs/api").glob("*.md")), ids=lambda page: page.stem)
def test_the_reference_names_modules_that_are_there(page: Path) -> None:
    modules = re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert modules
    places = [ROOT / name.replace(".", "/") for name in modules]
    assert [one for one in places if not one.with_suffix(".py").is_file() and not (one / "__init__.py").is_file()] == []


def test_every_package_that_is_imported_has_a_page() -> None:
    packages = {path.name for path in (ROOT / "botify").iterdir() if path.is_dir() and path.name != "__pycache__"}
    pages = {page.stem for page in (ROOT / "docs/api").glob("*.md")}
    assert pages == packages - {"bench"} | {"botify"}  # bench is run


def test_the_reference_has_every_setting_and_every_command(hooks: SimpleNamespace) -> None:
    variables = re.findall(r"^\\| `([A-Z_]+)`", hooks.settings_page(), re.MULTILINE)
    own = Settings().to_env()
    assert set(own) <= {*variables, "BOTIFY_HOME"}
    assert {f"BOTIFY_GATEWAY_{field.name.upper()}" for field in fields(GatewayOptions)} <= set(variables)
    commands = re.findall(r"^## (botify .+)$", hooks.commands_page(), re.MULTILINE)
    assert {"botify up", "botify experiment results", "botify models publish"} <= set(commands)
    assert str(ROOT) not in hooks.commands_page()


@pytest.mark.parametrize("page", ["docs", "docs/adr", "docs/api"])
def test_every_page_is_in_the_navigation(page: str) -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / page).glob("*.md")]
    assert pages
    assert not [path for path in pages if f"- {path}\n" not in navigation]


def test_a_link_that_leads_nowhere_is_refused(hooks: SimpleNamespace) -> None:
    with pytest.raises(PluginError, match=r"README.md: the link to docs/no.md leads nowhere"):
        hooks.in_site("[x](docs/no.md)", "README.md", ROOT)
