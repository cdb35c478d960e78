"""Every Python block of the README and of the pages runs as pasted, after those above it on its page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from running_page import blocks

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
WITH_BLOCKS = [page for page in PAGES if any(blocks(page))]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FRAMEWORKS = {"celery", "django", "litestar", "quart"}


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run(page: Path) -> None:
    """In order, in one namespace, against a server; tests of a tutorial run as a project elsewhere."""
    if page.stem in FRAMEWORKS:
        pytest.importorskip(page.stem, reason=f"{page.stem} is not installed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OTEL_SDK_DISABLED": "true"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "running_page.py"), str(page)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_is_short() -> None:
    """At most 1,500 words."""
    assert len(README.read_text(encoding="utf-8").split()) <= 1500


def test_links_of_the_readme_work_everywhere() -> None:
    """They lead to parts of itself or to whole addresses: a package index shows it without the checkout."""
    text = README.read_text(encoding="utf-8")
    heads = [re.sub(r"[^\w -]", "", head).lower() for head in re.findall(r"^#+ (.*)$", text, re.M)]
    parts = {f"#{head.replace(' ', '-')}" for head in heads}
    assert [to for to in LINK.findall(text) if not to.startswith("https://") and to not in parts] == []


def test_files_that_the_readme_names_are_there() -> None:
    """What stands in backticks and looks like a path is one."""
    text = README.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:docs|examples|benchmarks|tests)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path
