"""What pages of the site need beside their text: files from elsewhere, links that lead to them, drawings.

A hook of mkdocs, called by it. The pages themselves read as well in a checkout as on the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
DRAWING = re.compile(r"!\[(?P<text>[^\]]*)\]\((?P<file>diagrams/[\w-]+\.svg)\)")
ROLE = re.compile(r":(?:class|meth|func|data|mod|attr|exc):(?:`~?([^`]+)`|<code>~?([^<]+)</code>)")

# Pages that stand elsewhere in the project, by their names on the site.
ELSEWHERE = {
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
    "contributing.md": "CONTRIBUTING.md",
    "benchmarks.md": "benchmarks/README.md",
    "frameworks/fastapi.md": "examples/fastapi_service/README.md",
    "frameworks/aiohttp.md": "examples/aiohttp_service/README.md",
}
# Where what a link names in the project is on the site.
PLACES = {source: page for page, source in ELSEWHERE.items()} | {
    "README.md": "index.md",
    "examples": "examples.md",
    "examples/fastapi_service": "frameworks/fastapi.md",
    "examples/aiohttp_service": "frameworks/aiohttp.md",
    "docs/operations": "operations/README.md",
    "docs/upstreams": "throttling.md",
    "graphql_prod/integrations/starlette.py": "reference/integrations.md",
    "graphql_prod/integrations/aiohttp_web.py": "reference/integrations.md",
}
SERVICES = ("frameworks/fastapi.md", "frameworks/aiohttp.md")
_sources: dict[str, str] = {}
"""The project's path of each page."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that stand elsewhere, and one with all examples."""
    for page, source in ELSEWHERE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if page in SERVICES:
            folder = (ROOT / source).parent
            text += "".join(_shown(folder / name) for name in ("app.py", "kubernetes.yaml"))
        _sources[page] = source
        files.append(File.generated(config, page, content=text))
    _sources["examples.md"] = "examples/README.md"
    files.append(File.generated(config, "examples.md", content=_examples()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links at the site, and put drawings into the page, where they take its colours."""
    here = page.file.src_uri
    source = _sources.get(here, f"docs/{here}")
    text = LINK.sub(lambda found: _link(found, source, here), markdown)
    return DRAWING.sub(lambda found: _drawing(found, page.file), text)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Docstrings name classes as Sphinx does."""
    return ROLE.sub(lambda found: f"<code>{found[1] or found[2]}</code>", html)


def _link(found: re.Match[str], source: str, here: str) -> str:
    target, hash_sign, anchor = found["target"].partition("#")
    if not target or "://" in target or target.startswith("mailto:"):
        return found[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path.startswith("examples/") and path not in PLACES:
        name = path.removeprefix("examples/")
        place, hash_sign, anchor = "examples.md", "#", re.sub(r"[^a-z0-9_]", "", name.lower())
    elif path in PLACES:
        place = PLACES[path]
    elif path.startswith("docs/"):
        place = path.removeprefix("docs/")
    else:
        return f"{found['text']} (`{path}`)"  # a file of the project that is no page
    relative = posixpath.relpath(place, posixpath.dirname(here) or ".")
    return f"[{found['text']}]({relative}{hash_sign}{anchor})"


def _drawing(found: re.Match[str], file: Any) -> str:
    text = (ROOT / "docs" / found["file"]).read_text(encoding="utf-8")
    return f'<figure class="drawing" role="img" aria-label="{found["text"]}">{text}</figure>'


def _shown(file: Path) -> str:
    language = {".py": "python", ".toml": "toml"}.get(file.suffix, "yaml")
    return f"\n\n## {file.name}\n\n```{language}\n{file.read_text(encoding='utf-8').rstrip()}\n```\n"


def _examples() -> str:
    folder = ROOT / "examples"
    text = "# Examples\n\nEach runs as it is: `python examples/<name>` from a checkout.\n"
    return text + "".join(
        _shown(file) for file in sorted(folder.iterdir()) if file.suffix in (".py", ".toml")
    )
