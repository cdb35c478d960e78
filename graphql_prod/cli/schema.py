"""``python -m graphql_prod schema``: save the upstream's schema, for ``schema.file``."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aiographql.client import GraphQLClientException
from graphql import print_schema

from graphql_prod.cli.source import add_headers, add_source, loaded, no_warnings, provider_of
from graphql_prod.client import ProductionClient
from graphql_prod.schema.building import introspected, no_schema
from graphql_prod.schema.store import introspection
from graphql_prod.texts.quoting import quoted
from graphql_prod.urls import host_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator

    from graphql import GraphQLSchema


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to its parser."""
    about = "ask the server for its schema and save it as SDL, for schema.file"
    parser = commands.add_parser("schema", help=about, description=about)
    add_source(parser)
    add_headers(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="where to; default: standard output")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Introspect; exit status 0 when the schema is saved, else 1 with the reason on standard error."""
    try:
        # Not by from_config(): a schema.file that is missing is perhaps what shall be made.
        config = loaded(options, required="endpoint").config
        client = ProductionClient(str(config.endpoint), config=config, headers_provider=provider_of(options))
        with no_warnings():  # the error says it all
            schema = asyncio.run(_introspected(client))
        text = (print_schema(schema) + "\n").encode()
        if options.output in (None, "-"):
            _print(text)
        else:
            _save(Path(options.output), text)
            saved = f"{len(schema.type_map)} types of {host_of(client.endpoint)} saved in {options.output}"
            print(saved, file=sys.stderr)
    except BrokenPipeError:
        raise
    except (GraphQLClientException, OSError, ValueError, RuntimeError) as error:
        print(f"no schema saved: {quoted(str(error), 2000)}", file=sys.stderr)
        return 1
    return 0


async def _introspected(client: ProductionClient) -> GraphQLSchema:
    async with client, _progress(host_of(client.endpoint)):
        answer = await client.query(introspection(None, descriptions=True))
    try:
        return introspected(answer.data)[0]
    except Exception as error:
        raise no_schema(answer, error, host_of(client.endpoint)) from error


@contextlib.asynccontextmanager
async def _progress(host: str) -> AsyncIterator[None]:
    """Says on a terminal what a slow server is waited for; nothing where it answers within a second."""
    telling = asyncio.create_task(_tell(host)) if sys.stderr is not None and sys.stderr.isatty() else None
    try:
        yield
    finally:
        if telling is not None:
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling


async def _tell(host: str) -> None:
    begun = time.monotonic()
    try:
        while True:
            await asyncio.sleep(1)
            waited = time.monotonic() - begun
            print(f"\rasking {host} for its schema: {waited:.0f} s", end="", file=sys.stderr, flush=True)
    finally:
        if time.monotonic() - begun >= 1:
            print(file=sys.stderr)


def _print(text: bytes) -> None:
    """In UTF-8, which is what ``schema.file`` is, whatever the terminal's encoding.

    A terminal is shown what it might obey, or turn around, escaped: descriptions are the server's words.
    """
    if sys.stdout is None:
        raise OSError("standard output is closed")
    if sys.stdout.isatty():
        lines = text.decode().split("\n")
        text = "\n".join(quoted(line, len(line)) for line in lines).encode()
    sys.stdout.flush()
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def _save(path: Path, text: bytes) -> None:
    """Write a file at once: a program that reads it meanwhile finds the old one or the new one, whole.

    No link is followed: somebody else may have put it there. A new file is readable by its owner only; one
    that is there keeps its mode.

    :raises OSError: it cannot be written; the text names the file that was asked for.
    """
    draft = None
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(text)  # a device or a pipe
            return
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link; name the file itself")  # noqa: TRY301 -- named below
        handle, draft = tempfile.mkstemp(prefix=".graphql_prod.", dir=path.parent)
        with open(handle, "wb") as file:
            file.write(text)
            if path.exists():
                os.chmod(handle, stat.S_IMODE(path.lstat().st_mode))
        os.replace(draft, path)
        draft = None
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    finally:
        if draft is not None:
            os.unlink(draft)
