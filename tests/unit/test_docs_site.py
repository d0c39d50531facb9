"""The pages of the documentation site name modules and pages that are there; `make docs` builds it strictly."""

import importlib.util
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
from mkdocs.exceptions import PluginError

from botify.core.settings import Settings
from botify.services.gateway import GatewayOptions

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/site/hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def test_the_reference_has_every_setting_and_every_command(hooks: ModuleType) -> None:
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


def test_a_link_that_leads_nowhere_is_refused(hooks: ModuleType) -> None:
    with pytest.raises(PluginError, match=r"README.md: the link to docs/no.md leads nowhere"):
        hooks.in_site("[x](docs/no.md)", "README.md", ROOT)
