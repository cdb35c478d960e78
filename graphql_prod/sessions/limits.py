"""A policy's time limits, as each HTTP library takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from graphql_prod.resilience.timeouts import TimeoutPolicy


def aiohttp_limits(timeout: TimeoutPolicy, named: frozenset[str]) -> dict[str, float | None]:
    limits: dict[str, float | None] = {}
    if "connect" in named:
        limits |= {"connect": timeout.connect, "sock_connect": timeout.connect}
    if "read" in named:
        limits["sock_read"] = timeout.read
    return limits


def with_limits(base: aiohttp.ClientTimeout, limits: dict[str, float | None]) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=base.total,
        connect=limits.get("connect", base.connect),
        sock_connect=limits.get("sock_connect", base.sock_connect),
        sock_read=limits.get("sock_read", base.sock_read),
        ceil_threshold=base.ceil_threshold,
    )


def httpx_limits(timeout: TimeoutPolicy, named: frozenset[str]) -> dict[str, float | None]:
    return {
        phase: getattr(timeout, phase) for phase in ("connect", "read", "write", "pool") if phase in named
    }
