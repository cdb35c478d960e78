"""URLs: checked when they are given, compared, and shown without credentials."""

from __future__ import annotations

import functools
import re
from urllib.parse import SplitResult, urljoin, urlsplit

from graphql_prod.errors import ConfigurationError
from graphql_prod.texts.quoting import quoted

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


def http_url(endpoint: object) -> str:
    """The URL that HTTP requests go to: of a ``ws(s)://`` endpoint the ``http(s)://`` one.

    :raises ConfigurationError: it is no URL that a client can use. The text shows no credentials.
    """
    if not isinstance(endpoint, str):
        raise ConfigurationError(f"endpoint must be a text, not {type(endpoint).__name__}")
    parts = checked_url(endpoint.strip(), "endpoint", tuple(_SCHEMES))
    return parts._replace(scheme=_SCHEMES[parts.scheme]).geturl()


def checked_url(url: str, setting: str, schemes: tuple[str, ...]) -> SplitResult:
    """The parts of a URL that a setting names.

    :raises ConfigurationError: it cannot be used. The text shows no credentials.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        problem = "its host or port cannot be read"
    else:
        if parts.scheme not in schemes:
            problem = "it must begin with " + ", ".join(f"{scheme}://" for scheme in schemes)
        elif not host or any(char.isspace() or not char.isprintable() for char in url):
            problem = "it names no host" if not host else "it contains white space or a control character"
        elif ":" not in host and not all(0 < len(label) < 64 for label in host.rstrip(".").split(".")):
            problem = "its host name has an empty part, or one of over 63 characters"
        else:
            return parts
    raise ConfigurationError(f"{setting} {redacted(url)!r} cannot be used: {problem}")


def has_credentials(url: object) -> bool:
    """Whether a URL holds a user's name or a password."""
    if not isinstance(url, str):
        return False
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return False
    return bool(parts.username or parts.password)


@functools.lru_cache(maxsize=64)  # a client asks for the same few, and each subscription keeps what it gets
def host_of(url: str) -> str:
    """``host`` or ``host:port``, for texts; never credentials."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def server_of(url: str) -> tuple[str, int]:
    """Name and port of the server, for telemetry; the scheme's port where the URL names none."""
    parts = urlsplit(url)
    return str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)


def same_upstream(one: str, other: str) -> bool:
    """Whether two endpoints are one server's, for credentials that are meant for it.

    Case of scheme and host, the default port, a slash at the end, credentials and ``ws`` for ``http`` make no
    difference; a scheme, port, path or query of its own does.
    """
    try:
        return _upstream_of(one) == _upstream_of(other)
    except ValueError:
        return one.strip() == other.strip()


def _upstream_of(endpoint: str) -> tuple[object, ...]:
    parts = urlsplit(endpoint.strip())
    scheme = _SCHEMES.get(parts.scheme, parts.scheme)
    port = parts.port or {"http": 80, "https": 443}.get(scheme)
    return scheme, (parts.hostname or "").rstrip("."), port, parts.path.rstrip("/"), parts.query


UNREADABLE = "an address that cannot be read"


def target_of(location: str) -> str | None:
    """The host that a ``Location`` names, for texts; None if it stays on the same host."""
    try:
        host = urlsplit(location).hostname
        return None if host is None else quoted(host)
    except ValueError:
        return UNREADABLE


def redirect_of(endpoint: str, location: str) -> str | None:
    """Where a redirect leads, for texts: what differs from the endpoint, of host, scheme, port and path.

    Another host is named without its path, which may be anybody's secret; never credentials or a query. None
    where it leads to the endpoint again, with another query perhaps.
    """
    try:
        target = urlsplit(urljoin(endpoint, location))
        host, port = target.hostname, target.port
        own = urlsplit(endpoint)
        address = _address(target)
    except ValueError:
        return UNREADABLE
    if not host:
        return None
    if host != own.hostname and own.hostname:
        shown = f"{host}:{port}" if port else host
        if _SCHEMES.get(target.scheme) != _SCHEMES.get(own.scheme):
            shown = f"{target.scheme}://{shown}"
        return quoted(shown)
    if address == _address(own):
        return None
    return quoted(redacted(target.geturl()))


def _address(parts: SplitResult) -> tuple[object, ...]:
    scheme = _SCHEMES.get(parts.scheme, parts.scheme)
    return scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(scheme), parts.path or "/"


def redacted(url: str) -> str:
    """A URL without credentials, query and fragment."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    after = rest[len(authority) :]
    if "@" not in authority and "@" in after and (":" in authority or not separator):
        return f"{scheme}{separator}…"  # an unescaped password, perhaps: what would be host ends within it
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{re.split('[?#]', after, maxsplit=1)[0]}"
