"""A .netrc that does not replace the credentials that a program names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphql_prod.sessions.transport_options import environment_proxy

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp


class ExplicitFirst:
    """Two sessions as one: requests with an ``Authorization`` header do not look into .netrc for another.

    aiohttp refuses to have both, and has one switch for .netrc and for the environment's proxies.
    """

    def __init__(
        self, trusting: aiohttp.ClientSession, plain: aiohttp.ClientSession, *, looks_for_proxy: bool
    ) -> None:
        self._trusting = trusting
        self._plain = plain
        self._looks_for_proxy = looks_for_proxy

    def request(self, method: str, url: str, *, headers: Mapping[str, Any], **options: Any) -> Any:
        if not any(name.lower() == "authorization" for name in headers):
            return self._trusting.request(method, url, headers=headers, **options)
        if self._looks_for_proxy:
            options["proxy"] = environment_proxy(url)
        return self._plain.request(method, url, headers=headers, **options)
