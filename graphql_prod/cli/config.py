"""``python -m graphql_prod config``: the effective settings, redacted, with where each came from."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from graphql_prod.cli.listing import show
from graphql_prod.cli.source import add_source, loaded
from graphql_prod.errors import ConfigurationError
from graphql_prod.settings.base import Policy
from graphql_prod.urls import redacted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from graphql_prod.settings.variables import Key


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to its parser."""
    about = "print the effective settings, redacted, with where each came from"
    parser = commands.add_parser("config", help=about, description=about)
    add_source(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print them; exit status 2 if they cannot work."""
    try:
        found = loaded(options)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    rows = [(key, shown, found.origin(key)) for key, shown in _rows(found.config)]
    rows.sort(key=lambda row: row[0][0] == "schema")  # the model's first field, which nobody looks for first
    if sys.stdout is not None and sys.stdout.isatty():
        show(rows)
    else:
        _print_table([(".".join(key), shown, origin) for key, shown, origin in rows])
    return 0


def _print_table(rows: list[tuple[str, str, str]]) -> None:
    """One line a setting, whole, for other programs."""
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, value, origin in rows:
        print(f"{name:{first}}  {value:{min(second, 40)}}  # {origin}")


def _rows(policy: Policy, path: Key = ()) -> Iterator[tuple[Key, str]]:
    for name in type(policy).model_fields:
        yield from _row((*path, name), getattr(policy, name))


def _row(key: Key, value: Any) -> Iterator[tuple[Key, str]]:
    if isinstance(value, Policy):
        yield from _rows(value, key)
    elif isinstance(value, dict) and value:
        for name, below in value.items():
            yield from _row((*key, name), below)
    else:
        yield key, _text(key, value)


def _text(key: Key, value: Any) -> str:
    if isinstance(value, SecretStr):
        return "**********"
    if key in (("endpoint",), ("proxy",)) and value:
        return redacted(value)
    if isinstance(value, frozenset):
        return ",".join(str(member) for member in sorted(value)) or "-"
    return "none" if value is None else str(value) or "-"
