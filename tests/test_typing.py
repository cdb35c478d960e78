"""What a user's type checker says of us: judged from outside, by mypy's strict rules and no plugin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="mypy is not installed: pip install 'graphql-prod[dev]'")

HERE = Path(__file__).parent / "typing"
PLAIN = """
from graphql_prod import ProductionClient, ProductionConfig, RetryPolicy

config = ProductionConfig(
    endpoint="https://api.example.com/graphql",
    headers={"Authorization": "Bearer token"},
    timeout="interactive",
    retry=RetryPolicy(attempts=2, statuses={429, 503}),
)
ProductionClient("https://api.example.com/graphql", config=config)
"""


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Another process does all the work."""


def mypy(*arguments: str) -> str:
    """What mypy finds, as a user of the installed package sees it; empty if nothing."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--warn-unused-ignores",
        "--config-file=",
        *arguments,
    ]
    cache = ["--cache-dir", str(HERE.parents[1] / ".mypy_cache" / "outside")]
    done = subprocess.run([*command, *cache], cwd=HERE, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_public_surface() -> None:
    """Results, options and errors have the types that the documentation says; wrong ones are refused."""
    assert mypy("public_surface.py") == ""


@pytest.mark.timeout(300)
def test_mistakes_are_found() -> None:
    """The check above is one that can fail."""
    found = mypy("-c", "import graphql_prod; graphql_prod.ProductionClient(5); graphql_prod.Nothing")
    assert "[arg-type]" in found
    assert "[attr-defined]" in found


@pytest.mark.timeout(300)
def test_plain_values() -> None:
    """What a config accepts when it runs, its types accept: header texts, a preset's name, a set."""
    exec(PLAIN, {})
    assert mypy("-c", PLAIN) == ""
