"""Runs the Python blocks of a page, in order and in one namespace, as somebody pastes them.

python tests/running_page.py docs/calls.md

The endpoint of the examples is a server on this machine. A program that waits for its signal gets one.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from graphql_prod import ProductionClient
from graphql_prod.testing import ScriptedServer, no_waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
EXAMPLE = "https://api.example.com/graphql"
SDL = """
type Order { id: ID! status: String! }
type User { id: ID! name: String! }
type Login { token: String! }
type Query { hello(name: String): String user(id: ID!): User orders: [Order!]! }
type Mutation { setName(id: ID!, name: String!): User unregister: Boolean login: Login }
type Subscription { orders(after: ID): Order! orderPlaced: Order! }
"""
ORDER = {"id": "1", "status": "OPEN"}
RESOLVERS: dict[str, dict[str, Any]] = {
    "Query": {"hello": "Hello, world!", "user": {"id": "7", "name": "Ada"}, "orders": [ORDER]},
    "Mutation": {"setName": {"id": "7", "name": "Ada"}, "unregister": True, "login": {"token": "secret"}},
    "Subscription": {"orders": [ORDER], "orderPlaced": [ORDER]},
}


def blocks(page: Path) -> Iterator[tuple[int, str]]:
    """The line and the text of each block that is no file of a project."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        if not re.match(r"# [\w./]+\.py\b", found[1]):
            yield text[: found.start()].count("\n") + 2, found[1]


async def run(page: Path) -> None:
    """Run them all; raises what one of them raises."""
    async with ScriptedServer(schema=SDL, resolvers=RESOLVERS) as server:
        os.environ["GRAPHQL_PROD_ENDPOINT"] = os.environ["UPSTREAM"] = server.url
        _write("schema.graphql", server.sdl)
        _write("client.toml", f'endpoint = "{server.url}"\n')
        # What a Django project has.
        _write("settings.py", 'SECRET_KEY = "s3cret"\nROOT_URLCONF = "settings"\nurlpatterns = []\n')
        os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
        sys.path.insert(0, os.getcwd())
        sys.modules["pasted"] = module = ModuleType("pasted")
        namespace: dict[str, Any] = module.__dict__
        programs: list[Any] = []
        asyncio.run = programs.append  # type: ignore[assignment]  # there is a loop already
        for line, text in blocks(page):
            code = compile(
                "\n" * (line - 1) + text.replace(EXAMPLE, server.url),
                str(page),
                "exec",
                flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            )
            done = eval(code, namespace)
            async with asyncio.timeout(20):
                if inspect.isawaitable(done):
                    await done
                for program in programs:
                    await _seen_through(program)
            programs.clear()
        await _close(namespace)


def _write(name: str, text: str) -> None:
    Path(name).write_text(text, encoding="utf-8")


async def _seen_through(program: Any) -> None:
    task = asyncio.ensure_future(program)
    await asyncio.wait({task}, timeout=1)
    if not task.done():
        os.kill(os.getpid(), signal.SIGTERM)
    await task


async def _close(namespace: dict[str, Any]) -> None:
    """What a person's interpreter would leave open."""
    for each in namespace.values():
        if isinstance(each, ProductionClient):
            await each.shutdown(0)


def main() -> None:
    """Run a page in a folder of its own."""
    page = Path(sys.argv[1]).resolve()
    run_now = asyncio.run
    with tempfile.TemporaryDirectory() as folder, no_waiting():
        os.chdir(folder)
        run_now(run(page))
        os.chdir("/")


if __name__ == "__main__":
    main()
