"""The proxy that the environment names for the WebSockets of an endpoint: that of its requests.

For a WebSocket aiohttp looks for ``ws_proxy`` and ``wss_proxy``, which nobody sets, and goes around
``http_proxy`` and ``https_proxy``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from graphql_prod.errors import ConfigurationError

if TYPE_CHECKING:
    from graphql_prod.sessions.transport_options import TransportOptions


def upgrade_proxy(transport_options: TransportOptions, url: str, *, socks: bool = False) -> str | None:
    """The proxy that our own upgrades go through.

    :param socks: whether ``socks_proxy`` counts, last of all.
    :raises ConfigurationError: the environment names one that cannot be used.
    """
    if transport_options.proxy is not None or not transport_options.trust_env:
        return transport_options.proxy
    return websocket_proxy(url, socks=socks)


def websocket_proxy(url: str, *, socks: bool = False) -> str | None:
    """What ``http_proxy`` or ``https_proxy`` says, unless ``no_proxy`` says that there is none.

    :raises ConfigurationError: it cannot be used. The text shows no credentials.
    """
    parts = urlsplit(url)
    secure = parts.scheme in ("https", "wss")
    if proxy_bypass(f"{parts.hostname}:{parts.port or (443 if secure else 80)}"):
        return None
    proxies = getproxies()
    names = ["wss", "https"] if secure else ["ws", "http"]
    name = next((name for name in names + ["socks"] * socks if proxies.get(name)), None)
    if name is None:
        return None
    proxy = proxies[name]
    if name == "socks":
        return f"socks5h://{proxy.removeprefix('http://')}" if proxy.startswith("http://") else proxy
    if "://" not in proxy:
        proxy = f"http://{proxy}"  # as curl reads it
    _require_usable(proxy, f"{name}_proxy", socks=socks)
    return proxy


def _require_usable(proxy: str, variable: str, *, socks: bool) -> None:
    try:
        parts = urlsplit(proxy)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            f"The proxy that {variable} in the environment names cannot be used: its host or port cannot be "
            "read. Correct it, or turn trust_env off."
        )
    if parts.scheme in ("http", "https") or (socks and parts.scheme.startswith("socks")):
        return
    raise ConfigurationError(
        f"The proxy that {variable} in the environment names is one of {parts.scheme[:20]}://, which this "
        "backend does not speak. Name one of http://, or use backend='httpx' (for SOCKS, with python-socks)."
    )
