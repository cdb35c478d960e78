"""What a user's type checker says of us: judged from outside, by mypy's strict rules and no plugin."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import graphql_prod

if TYPE_CHECKING:
    from collections.abc import Callable

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


@pytest.mark.timeout(300)
def test_every_public_name() -> None:
    """A user's program that touches all of them is clean; each can be imported from the top."""
    text = (HERE / "users_program.py").read_text()
    assert [name for name in graphql_prod.__all__ if not re.search(rf"\b{name}\b", text)] == []
    assert mypy("users_program.py") == ""


@pytest.fixture
def pyright(tmp_path: Path) -> Callable[..., str]:
    """What pyright says, as a user of the installed package sees it."""
    if shutil.which("node") is None or find_spec("pyright") is None:
        reason = "needs node and pyright: pip install 'graphql-prod[dev]'"
        (pytest.fail if os.environ.get("REQUIRE_PROGRAMS") else pytest.skip)(reason)

    def run(*arguments: str, cwd: Path = tmp_path) -> str:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(HERE.parents[1])}
        command = [sys.executable, "-m", "pyright", *arguments]
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=280, check=False
        )
        return done.stdout + done.stderr

    return run


@pytest.mark.timeout(300)
def test_pyright(pyright: Callable[..., str]) -> None:
    """The same programs under the other checker."""
    found = pyright("--pythonpath", sys.executable, "users_program.py", "public_surface.py", cwd=HERE)
    assert "0 errors, 0 warnings" in found, found


@pytest.mark.timeout(300)
def test_nothing_is_left_to_guess(pyright: Callable[..., str]) -> None:
    """Every name that can be imported has a type that is written down."""
    found = pyright("--verifytypes", "graphql_prod", "--ignoreexternal")
    assert "Type completeness score: 100%" in found, found[-4000:]
