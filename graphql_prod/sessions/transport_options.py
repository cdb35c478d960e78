"""What our own sessions are made with."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from graphql_prod._version import __version__
from graphql_prod.sessions.policy import MAX_RESPONSE_BYTES, MAX_RESPONSE_VALUES

if TYPE_CHECKING:
    import ssl


USER_AGENT = f"graphql_prod/{__version__} aiographql-client/{version('aiographql-client')}"


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """The part of the settings that our own sessions are made with."""

    tls: ssl.SSLContext | None = None
    proxy: str | None = field(default=None, repr=False)  # it may hold a password
    trust_env: bool = False
    max_response_bytes: int | None = MAX_RESPONSE_BYTES
    max_response_values: int | None = MAX_RESPONSE_VALUES


def environment_proxy(url: str) -> str | None:
    """The proxy that the environment names for a URL, or None."""
    parts = urlsplit(url)
    if parts.hostname and proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)
