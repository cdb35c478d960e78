"""Writes docs/compatibility.md from a run of tests/interop (make compatibility).

python docs/compatibility.py build/interop.xml   # exit status 1 if a cell has failed
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
MODULES = ROOT / "tests" / "interop" / "servers" / "node_modules"

INTRO = """\
# Compatibility

Made by `make compatibility` from a run of `tests/interop`; do not edit. Servers and proxies that nobody here
wrote run on loopback. Each server is met directly, behind nginx and behind HAProxy, and with both backends:
aiohttp with its own WebSockets, httpx with websockets.
"""
MATRIX = """
## Every server

Each cell is six: directly, nginx, HAProxy, times aiohttp, httpx. Subscriptions are tried over each protocol
that the server speaks. ✔ means that all have passed.
"""
SAYS = """
## What each server says

The status and media type of its answer, and what becomes of it in the client: `errors` is an answer that is
returned with them, the others are exceptions. Close codes are those of the server, or of the proxy before it.
"""
PROXIES = """
## Proxies

Before graphql-ws on ws; the configurations are in `tests/interop/proxies`.
"""
GATEWAYS = """
## Gateways

Before two subgraphs, of which the second one asks for credentials; met directly, with both backends and with
sessions of ours and of the caller's.
"""

TOKENS = """
## Tokens that expire

A token that is stale at first or in mid-stream, at each server in the ways of its users; met directly, with
both backends. The client has a `headers_provider`. The second table tells what each server says to a client
without one: a close code, the status of the upgrade, or a message. Where it needs `refused_close_codes` the
server does not say that it was the token: name its code in `subscriptions.refused_close_codes`.
"""

PYTHON = ("aiographql-client", "aiohttp", "httpx", "httpx-aiohttp", "websockets")
SERVERS_PYTHON = ("strawberry-graphql", "ariadne", "graphql-core", "uvicorn", "starlette")
SERVERS_NODE = (
    "@apollo/gateway",
    "@apollo/server",
    "@apollo/subgraph",
    "@as-integrations/express5",
    "express",
    "graphql",
    "graphql-http",
    "graphql-ws",
    "graphql-yoga",
    "subscriptions-transport-ws",
    "ws",
)
PROGRAMS = {"node": "--version", "nginx": "-v", "haproxy": "-v"}

Notes = dict[str, dict[str, set[str]]]


class Results:
    """Cells and notes of one test module; columns in the order of their first appearance."""

    def __init__(self) -> None:
        self.cells: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
        self.notes: Notes = defaultdict(lambda: defaultdict(set))

    @property
    def failed(self) -> bool:
        return not all(all(cell) for row in self.cells.values() for cell in row.values())

    def take(self, case: ElementTree.Element, column: str) -> None:
        """Add one test case, by its properties."""
        said = [(each.get("name", ""), each.get("value", "")) for each in case.iter("property")]
        facts = dict(said)
        bad = any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
        self.cells[facts.get("rule") or case.get("name", "")][facts[column]].append(not bad)
        for name, value in said:
            if name.startswith("says: "):
                self.notes[name.removeprefix("says: ")][facts[column]].add(value)


def read(path: Path) -> tuple[Results, Results, Results, Results]:
    """The matrix, the tokens, the proxies, and the gateways of a run."""
    matrix, tokens, proxies, gateways = Results(), Results(), Results(), Results()
    for case in ElementTree.parse(path).iter("testcase"):  # noqa: S314 -- our own file
        if any(each.get("name") == "rule" for each in case.iter("property")):
            module = case.get("classname", "")
            if "test_interop_proxies" in module:
                proxies.take(case, "via")
            elif "test_interop_tokens" in module:
                tokens.take(case, "peer")
            else:
                (gateways if "test_interop_gateway" in module else matrix).take(case, "peer")
    return matrix, tokens, proxies, gateways


def columns(results: Results) -> list[str]:
    """The columns that there are, in the order in which the tests have them."""
    known = ["strawberry", "ariadne", "apollo", "yoga", "graphql-ws", "subscriptions-transport-ws"]
    known += ["nginx", "haproxy", "apollo-gateway"]
    found = {column for row in results.cells.values() for column in row}
    return [column for column in known if column in found]


def table(head: str, names: list[str], rows: dict[str, list[str]]) -> str:
    lines = [f"| {head} | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    return "\n".join(lines) + "\n"


def matrix_of(results: Results) -> str:
    names = columns(results)
    return table(
        "rule",
        names,
        {rule: [mark(cells.get(name, [])) for name in names] for rule, cells in results.cells.items()},
    )


def mark(cell: list[bool]) -> str:
    if not cell:
        return ""
    return "✔" if all(cell) else f"✘ {cell.count(False)} of {len(cell)}"


def notes_of(results: Results) -> str:
    names = columns(results)
    return table(
        "",
        names,
        {
            what: [" or ".join(sorted(said.get(name, ()))) for name in names]
            for what, said in sorted(results.notes.items())
        },
    )


def versions() -> str:
    """What has been run, by the installed packages and the programs themselves."""
    rows = {name: [version(name)] for name in (*PYTHON, *SERVERS_PYTHON)}
    for name in SERVERS_NODE:
        rows[name] = [json.loads((MODULES / name / "package.json").read_text(encoding="utf-8"))["version"]]
    for name, argument in PROGRAMS.items():
        environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}
        done = subprocess.run(  # noqa: S603 -- names of our own
            [name, argument], capture_output=True, text=True, check=True, env=environment
        )
        found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
        rows[name] = [found.group() if found else "?"]
    rows["Python"] = [".".join(map(str, sys.version_info[:3]))]
    return table("what", ["version"], rows)


def main() -> int:
    """Write the page."""
    matrix, tokens, proxies, gateways = read(Path(sys.argv[1]))
    page = [INTRO, MATRIX, matrix_of(matrix), SAYS, notes_of(matrix)]
    page += [TOKENS, matrix_of(tokens), notes_of(tokens), PROXIES]
    page += [matrix_of(proxies), notes_of(proxies), GATEWAYS, matrix_of(gateways), notes_of(gateways)]
    page += ["## Versions\n", versions()]
    (ROOT / "docs" / "compatibility.md").write_text("\n".join(page), encoding="utf-8")
    return 1 if any(each.failed for each in (matrix, tokens, proxies, gateways)) else 0


if __name__ == "__main__":
    sys.exit(main())
