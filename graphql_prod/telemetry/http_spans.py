"""HTTP spans of our own sessions: the contrib instrumentation of aiohttp, under both backends."""

from __future__ import annotations

import inspect
import logging
import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import aiohttp
from opentelemetry import context, propagate
from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.metrics import NoOpMeterProvider

from graphql_prod.registry import current_call
from graphql_prod.urls import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import Span

logger: logging.Logger = logging.getLogger("graphql_prod")

OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"


def http_trace_config(server: Mapping[str, str | int]) -> aiohttp.TraceConfig:
    """What makes one span of each attempt.

    :param server: attributes that name the upstream.

    No metrics: those of HTTP would count the attempts of traced calls alone, for only these go this way.
    """
    options: dict[str, Any] = {"sem_conv_opt_in_mode": _stability_mode()}
    if "meter_provider" in inspect.signature(create_trace_config).parameters:  # before 0.56b0 it makes none
        options["meter_provider"] = NoOpMeterProvider()

    def describe(span: Span, _: object) -> None:
        for key, value in server.items():
            span.set_attribute(key, value)
        call = current_call()
        if call is not None and call.attempts > 1:
            span.set_attribute("http.request.resend_count", call.attempts - 1)

    config = create_trace_config(url_filter=_without_secrets, request_hook=describe, **options)
    begin, reported = list(config.on_request_start), list(config.on_request_exception)

    async def carrying(session: Any, ctx: Any, params: aiohttp.TraceRequestStartParams) -> None:
        above = context.get_current()
        for start in begin:
            await start(session, ctx, params)
        if context.get_current() is above:  # no span here (suppressed, or an excluded URL), and so no headers
            propagate.inject(params.headers)

    async def discreetly(session: Any, ctx: Any, params: aiohttp.TraceRequestExceptionParams) -> None:
        # The text of aiohttp's exceptions may quote the URL, in which a query over GET has its variables.
        told_params = aiohttp.TraceRequestExceptionParams(
            params.method, params.url, params.headers, _nameless(params.exception)
        )
        for tell in reported:
            await tell(session, ctx, told_params)

    config.on_request_start[:] = [_harmless(carrying)]
    config.on_request_end[:] = [_harmless(end) for end in config.on_request_end]
    config.on_request_exception[:] = [_harmless(discreetly)]
    config.freeze()
    return config


def _harmless(hook: Any) -> Any:
    """A hook of the contrib's; what the program's SDK raises in it ends no request."""

    async def reported(session: Any, ctx: Any, params: Any) -> None:
        try:
            await hook(session, ctx, params)
        except Exception:
            logger.exception("telemetry has failed in the program's SDK; requests are not affected")

    return reported


def _without_secrets(url: object) -> str:
    text = str(url)
    return redacted(text) if "?" in text else _redacted(text)  # a GET's variables are not to be kept


_redacted = lru_cache(maxsize=64)(redacted)


def _nameless(error: BaseException) -> BaseException:
    """An exception of the same name that says nothing."""
    names = {key: getattr(type(error), key) for key in ("__module__", "__qualname__")}
    silent: type[Exception] = type(type(error).__name__, (Exception,), names)
    return silent()


def _stability_mode() -> Any:
    """What the environment asks for; the contrib's own function looks only at what it is given."""
    default = inspect.signature(create_trace_config).parameters["sem_conv_opt_in_mode"].default
    wanted = {word.strip().lower() for word in os.environ.get(OPT_IN, "").split(",")}
    for name in ("http/dup", "http"):  # both at once wins, as in the contrib
        if name in wanted:
            return type(default)(name)
    return default
