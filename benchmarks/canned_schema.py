"""A canned GraphQL server that can be introspected, and where GitHub's SDL comes from."""

from __future__ import annotations

import asyncio
import multiprocessing
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import graphql
import orjson

from benchmarks.canned import ANSWER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

PACKAGE = "@octokit/graphql-schema"
VERSION = "15.26.1"
CACHE = Path(__file__).parent.parent / "build" / "github-schema"
SMALL = "type Query { user(id: ID!): User } type User { id: ID! name: String! tags: [String!]! }"


def _answer(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


class _Server:
    """What it says, and how often it was introspected."""

    def __init__(self, sdl: str) -> None:
        # GitHub's own SDL breaks rules that graphql-core looks after.
        schema = graphql.build_schema(sdl, assume_valid=True, assume_valid_sdl=True)
        data = graphql.introspection_from_schema(schema, descriptions=False)
        self.introspection = _answer(orjson.dumps({"data": data}))
        self.introspections = 0

    def answer(self, head: bytes, body: bytes) -> bytes:
        """To one request; a GET asks for the count."""
        if head.startswith(b"GET"):
            return _answer(b"%d" % self.introspections)
        if b"__schema" in body:
            self.introspections += 1
            return self.introspection
        return ANSWER


class _Connection(asyncio.Protocol):
    def __init__(self, server: _Server) -> None:
        self._server = server
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end])
            _, _, length = head.lower().partition(b"content-length:")
            size = end + 4 + int(length.split(b"\r\n", 1)[0] or 0)
            if len(self._buffer) < size:
                return
            self._transport.write(self._server.answer(head, bytes(self._buffer[end + 4 : size])))
            del self._buffer[:size]


async def _serve(ready: Connection, sdl: str) -> None:
    upstream = _Server(sdl)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(upstream), "127.0.0.1", 0, backlog=1024)
    ready.send(server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


def _run(ready: Connection, sdl: str) -> None:
    asyncio.run(_serve(ready, sdl))


def introspections(url: str) -> int:
    """How often a canned server was introspected."""
    with urllib.request.urlopen(url) as answer:
        return int(answer.read())


@contextmanager
def canned_schema(sdl: str = SMALL) -> Iterator[str]:
    """The URL of one in a process of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(there, sdl), daemon=True)
    process.start()
    there.close()  # one that cannot start shall not be waited for
    try:
        yield f"http://127.0.0.1:{here.recv()}/graphql"
    finally:
        process.terminate()
        process.join()


def github(given: Path | None) -> str | None:
    """GitHub's SDL: as given, as fetched before, or as npm fetches it; None when it cannot be had."""
    kept = CACHE / f"{VERSION}.graphql"
    if given is None and not kept.exists():
        if shutil.which("npm") is None:
            print("GitHub's schema is skipped: there is no npm to fetch it with, and no --sdl FILE.")
            return None
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            command = ["npm", "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", folder, "--silent"]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=120)
                [archive] = Path(folder).glob("*.tgz")
                with tarfile.open(archive) as files:
                    sdl = files.extractfile("package/schema.graphql")
                    assert sdl is not None
                    kept.write_bytes(sdl.read())
            except (subprocess.SubprocessError, OSError, ValueError, KeyError) as error:
                print(
                    f"GitHub's schema is skipped: npm could not fetch {PACKAGE} ({error}), and no --sdl FILE."
                )
                return None
    return (given or kept).read_text(encoding="utf-8")
