"""Hooks of MkDocs: pages of the repository's root and folders become pages of the site."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

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
    sys.path.insert(0, str(Path(__file__).parent))
    from reference import commands_page, settings_page  # beside this file, which MkDocs loads by its path

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
