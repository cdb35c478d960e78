"""``python -m graphql_prod check``: one readiness probe, for a Kubernetes exec probe or a person."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

from graphql_prod.cli.source import add_headers, add_source, client_of, no_warnings
from graphql_prod.errors import ConfigurationError
from graphql_prod.health.probe import Readiness
from graphql_prod.urls import host_of

if TYPE_CHECKING:
    import argparse

    from graphql_prod.client import ProductionClient


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to its parser."""
    about = "ask the server once whether it answers; exit status 0 if it does, 1 if not"
    parser = commands.add_parser("check", help=about, description=about)
    add_source(parser)
    add_headers(parser)
    parser.add_argument("--timeout", metavar="SECONDS", type=float, help="wait so long at most (default: 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Probe; exit status 0 when ready, else 1, also for settings that cannot work."""
    host: str | None = None
    try:
        client = client_of(options)
        host = host_of(client.endpoint)
        with no_warnings():  # one line says it all
            found = asyncio.run(_probed(client, options.timeout))
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        found = Readiness(False, "the settings cannot work")
    _show(found, host, as_json=options.json)
    return 0 if found else 1


async def _probed(client: ProductionClient, timeout: float | None) -> Readiness:
    async with client:
        return await client.ready(timeout)


def _show(found: Readiness, host: str | None, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"ok": found.ok, "host": host, "reason": found.reason, "latency": found.latency}))
    elif found:
        print(f"ready: {host} answered in {found.latency or 0:.3f} s")
    else:
        print(f"not ready: {found.reason}")
