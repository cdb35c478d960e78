"""``python -m graphql_prod``: one command, one function in a module of its own.

A command is a function that adds its parser to the sub-parsers and sets ``run``, which takes the parsed
options and returns the exit status. It is made known by a line in ``COMMANDS``.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from graphql_prod import __version__, demo
from graphql_prod.cli import check as cli_check
from graphql_prod.cli import config as cli_config
from graphql_prod.cli import schema as cli_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

COMMANDS: tuple[Callable[[Subparsers], None], ...] = (
    demo.add_to,
    cli_config.add_to,
    cli_check.add_to,
    cli_schema.add_to,
)
INTERRUPTED = 130
READER_GONE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. ``arguments`` None are those of the process."""
    options = _parser().parse_args(arguments)
    try:
        status = int(options.run(options))
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever reads us has had enough; the interpreter's own last flush shall not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    return status


def _called() -> str:
    """By what name it was called: the installed command's, or the module's."""
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    return name if name.startswith("graphql-prod") else "python -m graphql_prod"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_called(), description="A GraphQL client for production.")
    parser.add_argument("--version", action="version", version=f"graphql_prod {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add_to in COMMANDS:
        add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
