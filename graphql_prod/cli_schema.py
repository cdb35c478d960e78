"""``python -m graphql_prod schema``: save the upstream's schema, for ``schema.file``."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aiographql.client import GraphQLClientException
from graphql import print_schema

from graphql_prod.cli_source import add_source, client_of, no_warnings
from graphql_prod.config import host_of
from graphql_prod.schema.building import introspected, no_schema
from graphql_prod.schema.store import introspection

if TYPE_CHECKING:
    import argparse

    from graphql import GraphQLSchema

    from graphql_prod.client import ProductionClient


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to its parser."""
    about = "ask the server for its schema and save it as SDL, for schema.file"
    parser = commands.add_parser("schema", help=about, description=about)
    add_source(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="where to; default: standard output")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Introspect; exit status 0 when the schema is saved, else 1 with the reason on standard error."""
    try:
        client = client_of(options)
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
        print(f"no schema saved: {error}", file=sys.stderr)
        return 1
    return 0


async def _introspected(client: ProductionClient) -> GraphQLSchema:
    async with client:
        answer = await client.query(introspection(None, descriptions=True))
    try:
        return introspected(answer.data)[0]
    except Exception as error:
        raise no_schema(answer, error, host_of(client.endpoint)) from error


def _print(text: bytes) -> None:
    """In UTF-8, which is what ``schema.file`` is, whatever the terminal's encoding."""
    if sys.stdout is None:
        raise OSError("standard output is closed")
    sys.stdout.flush()
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def _save(path: Path, text: bytes) -> None:
    """Write a file at once: a program that reads it meanwhile finds the old one or the new one, whole."""
    if path.exists() and not path.is_file():
        path.write_bytes(text)
        return
    path = path.resolve()
    draft = path.with_name(f".graphql_prod.{os.getpid()}")
    try:
        draft.write_bytes(text)
        if path.exists():
            shutil.copymode(path, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
