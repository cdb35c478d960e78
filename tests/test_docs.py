"""The pages made from the settings' model say what the model says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import graphql_prod.testing
from graphql_prod import ProductionConfig
from graphql_prod.sources import load

ROOT = Path(__file__).parent.parent
OWN = {"endpoint", "headers", "operations"}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else's settings."""
    for name in [name for name in os.environ if name.upper().startswith("GRAPHQL_PROD_")]:
        monkeypatch.delenv(name)


def test_current() -> None:
    """`make docs` was run after the last change of the settings."""
    command = [sys.executable, "docs/generate.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "current"), done.stdout + done.stderr


def test_drawings_are_current() -> None:
    """`make docs` was run after the last change of what draws them."""
    command = [sys.executable, "docs/draw_diagrams.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "current"), done.stdout + done.stderr


def test_the_reference_has_every_public_name() -> None:
    """A name that can be imported stands on a page of the reference."""
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    named = set(re.findall(r"^::: graphql_prod\.(\S+)$", pages, re.MULTILINE))
    public = set(graphql_prod.__all__) - {"__version__"}
    public |= {f"testing.{name}" for name in graphql_prod.testing.__all__}
    assert public - named == set()


def test_example_file_loads() -> None:
    """examples/client.toml names an endpoint and nothing else."""
    loaded = load(ROOT / "examples" / "client.toml")
    assert set(loaded.origins) == {("endpoint",)}
    assert loaded.config == ProductionConfig(endpoint=loaded.config.endpoint)


def test_example_file_shows_the_defaults(tmp_path: Path) -> None:
    """With every setting uncommented it says what holds without it; every setting is there."""
    text = (ROOT / "examples" / "client.toml").read_text()
    full = tmp_path / "client.toml"
    full.write_text(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    loaded = load(full)
    assert loaded.config.model_dump(exclude=OWN) == ProductionConfig().model_dump(exclude=OWN)
    assert (set(loaded.config.headers), set(loaded.config.operations)) == ({"X-Client"}, {"Report"})
    named = {key[0] for key in loaded.origins}
    assert named == set(ProductionConfig.model_fields)


def test_page_names_every_variable(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Each variable on the settings' page is one that is read, under just that name."""
    page = (ROOT / "docs" / "settings.md").read_text()
    names = re.findall(r"\| `(GRAPHQL_PROD_\w+)` \|", page)
    assert len(names) == len(set(names)) > len(ProductionConfig.model_fields)
    for name in names:
        if name not in ("GRAPHQL_PROD_HEADERS", "GRAPHQL_PROD_OPERATIONS"):
            monkeypatch.setenv(name, "no such thing")
    with pytest.raises(ValueError, match="problems") as caught:
        load()
    assert not caplog.records
    named = set(re.findall(r"from (GRAPHQL_PROD_\w+)", str(caught.value)))
    texts = {
        "GRAPHQL_PROD_AUTH_ERROR_CODES",
        "GRAPHQL_PROD_RETRY__ERROR_CODES",
        "GRAPHQL_PROD_SUBSCRIPTIONS__REFUSED_WORDS",
        "GRAPHQL_PROD_THROTTLING__CODES",
        "GRAPHQL_PROD_THROTTLING__IDENTITY_HEADERS",
    }
    files = {name for name in names if name.endswith("_FILE")}
    assert set(names) - named <= {"GRAPHQL_PROD_HEADERS", "GRAPHQL_PROD_OPERATIONS"} | texts | files


def test_compatibility_was_looked_at_with_the_pinned_versions() -> None:
    """`make compatibility` was run after the last change of what servers are tried with; and all was well."""
    page = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| (\S+) \| ([\d.]+) \|$", page, re.MULTILINE))
    package = json.loads((ROOT / "tests" / "interop" / "servers" / "package.json").read_text())
    pins = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pins.update(package["dependencies"])
    known = {name: number for name, number in shown.items() if name in pins}
    assert {"strawberry-graphql", "ariadne", "@apollo/server", "graphql-ws", "aiohttp"} <= set(known)
    assert known == {name: pins[name] for name in known}
    assert "✔" in page
    assert "✘" not in page
