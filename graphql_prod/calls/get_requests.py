"""What a GET needs that a POST does not: no header of a body, and the endpoint's own query."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiographql.client import GraphQLRequest
    from aiographql.client.serializer import GraphQLSerializer

# Apollo Server refuses a GET that a web page could make another's browser send: one with neither a
# Content-Type nor this header, which its documentation names for clients that are no browsers.
PREFLIGHT = "Apollo-Require-Preflight"


def as_get(request: GraphQLRequest, named: Iterable[str]) -> GraphQLRequest:
    """The request without the Content-Type that every request of a client has, unless the call has named it.

    There is no body that it could be said of, and servers that read it look for one, or refuse.

    :param named: the names of the call's own headers.
    """
    if any(name.lower() == "content-type" for name in named):
        return request
    headers = {name: value for name, value in request.headers.items() if name.lower() != "content-type"}
    if all(name.lower() != PREFLIGHT.lower() for name in headers):
        headers[PREFLIGHT] = "true"
    return dataclasses.replace(request, operation=request.operationName, headers=headers)


def params_of(request: GraphQLRequest, serializer: GraphQLSerializer) -> dict[str, str]:
    """The parameters of a GET; an empty document is left out: to a server it would be one to be hashed."""
    payload = request.payload()
    params = {}
    for name in ("query", "operationName", "variables", "extensions"):
        value = payload.get(name)
        if value:
            text = value if isinstance(value, str) else serializer.dumps(value)
            params[name] = text.decode() if isinstance(text, bytes) else str(text)
    return params


def query_of(endpoint: str, request: GraphQLRequest, serializer: GraphQLSerializer) -> str:
    """The query of a GET: the endpoint's own, and the parameters."""
    own, params = urlsplit(endpoint).query, urlencode(params_of(request, serializer))
    return f"{own}&{params}" if own and params else own or params
