"""Hooks of MkDocs: pages of the repository's root and folders become pages of the site, and two are made from the code.

Settings come from their classes, commands from the command line.
"""

from __future__ import annotations

import inspect
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from typer.core import TyperOption

from botify.core.settings import WITHOUT_VARIABLE, Settings
from botify.core.settings import _variable_of as variable_of
from botify.services.cli import build_cli
from botify.services.gateway import GatewayOptions

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security-policy.md",
    "examples/README.md": "examples.md",
}
"""Path in the repository to path in the site, of pages that are not in docs/."""
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    root = Path(config.config_file_path).parent
    for source, page in PAGES.items():
        content = in_site((root / source).read_text(encoding="utf-8"), source, root)
        files.append(File.generated(config, page, content=content))
    files.append(File.generated(config, "settings.md", content=settings_page()))
    files.append(File.generated(config, "commands.md", content=commands_page()))
    return files


def in_site(text: str, source: str, root: Path) -> str:
    """Rewrite the links of a page: to other pages of the site, and to plain text where they lead to source files."""

    def rewritten(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (root / path).exists():
            raise PluginError(f"{source}: the link to {target} leads nowhere")
        if path in PAGES or f"{path}/README.md" in PAGES:
            return f"[{label}]({PAGES.get(path) or PAGES[f'{path}/README.md']}{anchor})"
        if path.startswith("docs/"):
            return f"[{label}]({path.removeprefix('docs/')}{anchor})"
        return f"`{path}`" if label in path else f"{label} (`{path}`)"

    return LINK.sub(rewritten, text)


def settings_page() -> str:
    """Return the page of the settings."""
    return f"""# Settings

All settings are environment variables, read once; a bad value fails at the start, naming its variable.
`botify up` writes the addresses of its servers to `stack.json` in the data directory, from where other
commands take them, and `--dataset` and `--prefix` to `settings.json`; a variable overrides both files.

## Every process

{_table(_of_settings())}

Kafka's security has variables of its own, such as `KAFKA_SECURITY_PROTOCOL` and `KAFKA_SASL_PASSWORD`:
[security.md](security.md).

## The gateway

{_table(_of_gateway())}
"""


def _table(rows: Iterable[tuple[str, str, str]]) -> str:
    lines = [f"| `{variable}` | {default} | {meaning} |" for variable, default, meaning in rows]
    return "\n".join(["| variable | default | meaning |", "| --- | --- | --- |", *lines])


def _of_settings() -> Iterator[tuple[str, str, str]]:
    """Yield variable, default and meaning of each setting, from the class and its docstring."""
    meanings: dict[str, str] = {}
    for names, meaning in re.findall(
        r"^- (`[^:]+`): (.+\n?(?:  .+\n?)*)", inspect.getdoc(Settings) or "", re.MULTILINE
    ):
        meanings |= dict.fromkeys(re.findall(r"\w+", names), " ".join(meaning.split()))
    for field in fields(Settings):
        if field.name not in WITHOUT_VARIABLE:
            yield variable_of(field.name), _default(field), meanings[field.name].replace("|", "\\|")


def _of_gateway() -> Iterator[tuple[str, str, str]]:
    """Yield variable, default and meaning of each option, from the class and its comments."""
    source = inspect.getsource(GatewayOptions)
    for field in fields(GatewayOptions):
        same_line = re.search(rf"^    {field.name}: .*?  # (.+)$", source, re.MULTILINE)
        line_before = re.search(rf"^    # (.+)\n    {field.name}: ", source, re.MULTILINE)
        found = same_line or line_before
        if found is None:
            raise ValueError(f"GatewayOptions.{field.name} has no comment that says what it is")
        yield f"BOTIFY_GATEWAY_{field.name.upper()}", _default(field), found[1]


def _default(field: Any) -> str:
    value = field.default if field.default is not MISSING else field.default_factory()
    return "" if value is None else f"`{value}`"


def commands_page() -> str:
    """Return the page of the commands."""
    root: Any = typer.main.get_command(build_cli())
    lines = ["# Commands", "", "`botify COMMAND --help` says the same in the terminal.", ""]
    for path, command in _leaves(root, "botify"):
        lines += [f"## {path}", "", inspect.cleandoc(command.help or ""), ""]
        rows = [_parameter(one) for one in command.params if one.name != "help" and not getattr(one, "hidden", False)]
        if rows:
            lines += ["| argument or option | default | |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(lines)


def _leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name in sorted(command.commands):
        yield from _leaves(command.commands[name], f"{path} {name}")


def _parameter(one: Any) -> str:
    is_option = isinstance(one, TyperOption)
    name = "`, `".join([*one.opts, *one.secondary_opts]) if is_option else str(one.name).upper()
    shown = one.default if isinstance(one.default, str | int | float) and one.default is not False else ""
    default = "required" if one.required and is_option else f"`{shown}`" if shown != "" else ""
    return f"| `{name}` | {default} | {(one.help or '').replace('|', chr(92) + '|')} |"
