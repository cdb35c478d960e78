"""The front door: what it offers, that all of it is documented, and what it does not drag in."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest
from aiographql.client import GraphQLClientException

import graphql_prod

CALLABLES = [
    name
    for name in graphql_prod.__all__
    if inspect.isclass(found := getattr(graphql_prod, name)) or inspect.isroutine(found)
]
CLASSES = [name for name in CALLABLES if inspect.isclass(getattr(graphql_prod, name))]


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """These tests only look; the check would cost more than they do."""


def sorted_like_ruff(names: list[str]) -> list[str]:
    """Constants, then classes, then the rest: what ruff's RUF022 makes of a list."""
    ranks = {name: 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2 for name in names}
    return sorted(names, key=lambda name: (ranks[name], name))


def documented(thing: Any) -> bool:
    """Whether it has a text of its own; what pydantic and dataclasses make up does not count."""
    text = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    return bool(text and text.strip() and not text.startswith(f"{getattr(thing, '__name__', '')}("))


def own_members(kind: type[Any]) -> list[tuple[str, Any]]:
    """The public methods and properties that we add to a class, or change of the stock's."""
    found = []
    for name, member in vars(kind).items():
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if name.startswith("_") or name == "model_config" or not inspect.isroutine(function):
            continue
        if getattr(function, "__module__", "").startswith("graphql_prod"):
            found.append((name, function))
    return found


def test_list() -> None:
    """`__all__` is sorted and names nothing twice."""
    assert list(graphql_prod.__all__) == sorted_like_ruff(graphql_prod.__all__)
    assert len(set(graphql_prod.__all__)) == len(graphql_prod.__all__)


def test_nothing_besides() -> None:
    """Whatever public name the package has is in `__all__`; modules are reached by their own name."""
    public = {
        name
        for name, value in vars(graphql_prod).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == {name for name in graphql_prod.__all__ if not name.startswith("_")}


def test_star() -> None:
    """`from graphql_prod import *` gives all of it."""
    namespace: dict[str, Any] = {}
    exec("from graphql_prod import *", namespace)
    assert set(graphql_prod.__all__) <= set(namespace)


@pytest.mark.parametrize("name", CALLABLES)
def test_documented(name: str) -> None:
    """Each class and function has a docstring of its own."""
    assert documented(getattr(graphql_prod, name)), f"graphql_prod.{name} has no docstring"


@pytest.mark.parametrize("name", CLASSES)
def test_members_documented(name: str) -> None:
    """So has each public method and property that is ours."""
    members = own_members(getattr(graphql_prod, name))
    assert [member for member, function in members if not documented(function)] == []


@pytest.mark.parametrize("name", CLASSES)
def test_home(name: str) -> None:
    """A class is called what it is imported as, so that tracebacks and pickles name what exists."""
    kind = getattr(graphql_prod, name)
    assert kind.__name__ == name
    assert kind.__module__.split(".")[0] == "graphql_prod"


@pytest.mark.parametrize("name", [name for name in CLASSES if name.endswith("Error")])
def test_family(name: str) -> None:
    """One except clause of the stock client's catches every error of ours."""
    assert issubclass(getattr(graphql_prod, name), GraphQLClientException)


def test_version() -> None:
    """The version is a text, the same as the one installed."""
    assert graphql_prod.__version__.count(".") >= 2


def imported_by(statement: str) -> set[str]:
    """The modules in a fresh interpreter after the statement."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_light_import() -> None:
    """Importing us imports nothing optional: no httpx, no websockets, no rich, no test tools."""
    optional = {"httpx", "httpx_aiohttp", "websockets", "rich", "pytest", "trustme", "yaml"}
    found = imported_by("import graphql_prod")
    assert "graphql_prod.client" in found
    assert not found & optional
    assert not {name for name in found if name.startswith("graphql_prod.testing")}


def test_light_client() -> None:
    """Nor does making a client that talks over aiohttp."""
    found = imported_by("import graphql_prod; graphql_prod.ProductionClient('http://localhost/graphql')")
    assert not found & {"httpx", "httpx_aiohttp", "websockets", "rich", "pytest"}


SIDE_EFFECTS = """
import logging, signal, threading
state = lambda: (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), logging.root.handlers[:])
before = state()
import graphql_prod
assert state() == before
assert threading.active_count() == 1
"""


def test_no_side_effects() -> None:
    """Importing us starts no thread, installs no signal handler and leaves logging as it was."""
    command = [sys.executable, "-W", "error", "-c", SIDE_EFFECTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
