"""What the commands have in common: where their settings come from, and what they say beside their result."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from graphql_prod.client import ProductionClient
from graphql_prod.errors import ConfigurationError
from graphql_prod.header_files import headers_from_files
from graphql_prod.settings.variables import PREFIX
from graphql_prod.sources import Loaded, load

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from graphql_prod.credentials import HeadersProvider


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the settings."""
    parser.add_argument("--config", metavar="FILE", help="a .toml, .json or .yaml file")
    parser.add_argument(
        "--env-prefix",
        metavar="PREFIX",
        default=PREFIX,
        help="what the names of the environment's variables begin with (default: %(default)s)",
    )
    parser.add_argument("--secrets-dir", metavar="DIRECTORY", help="a directory with one setting a file")


def add_headers(parser: argparse.ArgumentParser) -> None:
    """Add the options that name files with credentials."""
    parser.add_argument(
        "--header-file",
        metavar="NAME=FILE",
        action="append",
        default=[],
        help="a header whose value is in a file, as mounted secrets are; may be given several times",
    )
    parser.add_argument(
        "--header-format",
        metavar="TEXT",
        default="{}",
        help='what makes a header of a file\'s value, as "Bearer {}" (default: the value as it is)',
    )


def provider_of(options: argparse.Namespace) -> HeadersProvider | None:
    """What reads the headers' files; None where none is named.

    :raises ConfigurationError: a file cannot be used.
    """
    files: dict[str, Path] = {}
    for given in options.header_file:
        name, equals, path = given.partition("=")
        if not equals or not path:
            raise ConfigurationError("--header-file takes NAME=FILE, as Authorization=/run/secrets/token")
        files[name] = Path(path)
    return headers_from_files(files, format=options.header_format) if files else None


def loaded(options: argparse.Namespace, required: str | None = None) -> Loaded:
    """The settings that the options name.

    :param required: a setting that must not be missing.
    :raises ConfigurationError: they cannot work.
    """
    return load(options.config, required, env_prefix=options.env_prefix, secrets_dir=options.secrets_dir)


def client_of(options: argparse.Namespace) -> ProductionClient:
    """The client that the options name.

    :raises ConfigurationError: it cannot work.
    """
    return ProductionClient.from_config(
        options.config,
        env_prefix=options.env_prefix,
        secrets_dir=options.secrets_dir,
        headers_provider=provider_of(options),
    )


@contextlib.contextmanager
def no_warnings() -> Iterator[None]:
    """Keeps Python's last resort from printing our warnings where nobody has set logging up.

    Those of the settings come before: a misspelt variable is what somebody looks for.
    """
    silent = logging.NullHandler()
    logger = logging.getLogger("graphql_prod")
    logger.addHandler(silent)
    try:
        yield
    finally:
        logger.removeHandler(silent)
