"""``python -m graphql_prod demo``: what goes wrong between a client and a GraphQL server, and who copes."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from graphql_prod.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse

UNUSABLE = 2
"""The exit status argparse gives too: nothing was tried."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo",
        help="watch the client meet failures, beside the stock client",
        description="Watch graphql_prod meet failures on an embedded server, beside the stock client. "
        "Exit status 0: everything ended as promised.",
    )
    parser.add_argument("--endpoint", metavar="URL", help="ask this server instead: { __typename }")
    parser.add_argument("--backend", choices=["aiohttp", "httpx"], default="aiohttp", help="HTTP library")
    parser.add_argument("--no-color", action="store_true", help="no colors (as NO_COLOR=1)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demo. Exit status 0: as promised; 1: not; 2: it could not begin."""
    try:
        import rich  # noqa: F401 -- asked for here so that the rest of the package never needs it
    except ImportError:
        return _refuse("it needs rich: pip install 'graphql-prod[demo]'")

    from graphql_prod.demo.endpoint import ask
    from graphql_prod.demo.screen import Screen
    from graphql_prod.demo.show import show

    screen = Screen(color=not options.no_color)
    try:
        if options.endpoint is None:
            return asyncio.run(show(screen, options.backend))
        return asyncio.run(ask(screen, options.endpoint, options.backend))
    except ConfigurationError as error:
        return _refuse(str(error))


def _refuse(why: str) -> int:
    sys.stderr.write(f"graphql_prod demo: {' '.join(why.split())}\n")
    return UNUSABLE
