"""What went wrong, for logs and probes: in our own words, never in a server's."""

from __future__ import annotations

import re

from aiographql.client import GraphQLIntrospectionException

from graphql_prod.calls.outcomes import reason_of
from graphql_prod.errors import (
    ClientClosedError,
    ConfigurationError,
    HTTPStatusError,
    InvalidResponseError,
    RequestTimeoutError,
    TransportError,
)


def what_failed(error: BaseException, host: str) -> str:
    """The failure of a query to a host, without anything that the server said."""
    if isinstance(error, HTTPStatusError):
        return f"{host} answered {reason_of(error.status)}"
    if isinstance(error, InvalidResponseError):
        media = (error.content_type or "").partition(";")[0].strip()
        shown = f" ({media})" if re.fullmatch(r"[\w.+-]{1,40}/[\w.+-]{1,40}", media) else ""
        return f"{host} answered {error.status or 'a success'} with a body{shown} that is no GraphQL answer"
    if isinstance(error, RequestTimeoutError | TransportError | ConfigurationError):
        return str(error)  # all of it are our own words
    if isinstance(error, ClientClosedError):
        return f"the client for {host} is closing"
    if isinstance(error, GraphQLIntrospectionException):
        return f"{host} answered without a schema"
    return f"the query to {host} failed with {type(error).__name__}"
