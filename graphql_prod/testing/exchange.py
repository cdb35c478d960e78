"""GraphQL over HTTP, the server's side: read a request, execute it, form the reply."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from graphql import ExecutionResult, GraphQLError, OperationType

from .answers import JSON, RESPONSE_JSON
from .delivery import Reply
from .documents import described, kind_of
from .execution import Executor


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """An HTTP request as it arrived; fields that could not be read are None."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    """Case-insensitive."""
    body: bytes = field(repr=False)
    """After decompression."""
    query: str | None
    variables: dict[str, Any] | None
    operation_name: str | None
    """As sent beside the document; None when only the document names it."""
    extensions: dict[str, Any] | None = field(repr=False)
    peer: tuple[str, int]
    """The client's host and port: equal peers are one connection kept alive."""
    at: float = field(repr=False)
    """`time.monotonic()` when the body had been read."""
    problem: tuple[int, str] | None = field(default=None, repr=False)
    """Status and reason when this is no GraphQL request; None when it is one."""

    def __str__(self) -> str:
        what = described(self.query, self.operation_name, self.variables)
        return f"{self.method} {self.path} from {self.peer[0]}:{self.peer[1]}: {what}"


async def receive(request: web.BaseRequest) -> ReceivedRequest:
    """Read a request to its end. Raises OSError or CancelledError when the client leaves."""
    body = await request.content.read()
    problem, found = None, dict[str, Any]()
    try:
        found = _parameters(request, body)
    except Unreadable as error:
        problem = (error.status, str(error))
    host, port, *_ = request.get_extra_info("peername") or ("", 0)
    return ReceivedRequest(
        method=request.method,
        path=request.path,
        headers=request.headers,
        body=body,
        query=found.get("query"),
        variables=found.get("variables"),
        operation_name=found.get("operationName"),
        extensions=found.get("extensions"),
        peer=(host, port),
        at=time.monotonic(),
        problem=problem,
    )


class Unreadable(ValueError):  # noqa: N818 - what the request is
    """No GraphQL request."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


def _parameters(request: web.BaseRequest, body: bytes) -> dict[str, Any]:
    if request.method == "GET":
        found: Any = dict(request.query)
        for name in ("variables", "extensions"):
            if name in found:
                found[name] = _json(found[name])
    elif request.method == "POST":
        if request.content_type != JSON:
            raise Unreadable(f"the body must be {JSON}", 415)
        found = _json(body)
    else:
        raise Unreadable("use GET or POST", 405)
    return _typed(found)


def _json(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise Unreadable("not JSON") from None


def _typed(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise Unreadable("a request is a JSON object")
    if not isinstance(found.get("query"), str):
        raise Unreadable("query is missing")
    for name, kind in (("variables", dict), ("operationName", str), ("extensions", dict)):
        if not isinstance(found.get(name), kind | None):
            raise Unreadable(f"{name} is of the wrong type")
    return found


def negotiated(accept: str | None) -> str | None:
    """The media type to answer in; None when the client takes neither of ours."""
    ranges = sorted((_range(item) for item in (accept or "*/*").split(",")), reverse=True)
    for quality, _, name in ranges:
        if quality > 0 and name in (RESPONSE_JSON, JSON):
            return name
        if quality > 0 and name in ("*/*", "application/*"):
            return RESPONSE_JSON
    return None


def _range(text: str) -> tuple[float, bool, str]:
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
    try:
        quality = float(weight)
    except ValueError:
        quality = 0.0
    return quality, name == RESPONSE_JSON, name


async def run(received: ReceivedRequest, executor: Executor) -> Reply:
    """Execute the request as GraphQL over HTTP says."""
    media_type = negotiated(received.headers.get("Accept"))
    if media_type is None:
        return _refusal(406, RESPONSE_JSON, [GraphQLError("no acceptable media type")])
    if received.problem is not None:
        status, text = received.problem
        return _refusal(status, media_type, [GraphQLError(text)])
    document = executor.checked(received.query or "")
    if isinstance(document, list):
        return _refusal(_invalid(media_type), media_type, document)
    kind = kind_of(document, received.operation_name)
    if kind is OperationType.MUTATION and received.method == "GET":
        return _refusal(405, media_type, [GraphQLError("a mutation needs POST")])
    if kind is OperationType.SUBSCRIPTION:
        text = "a subscription needs a WebSocket"
        return _refusal(_invalid(media_type), media_type, [GraphQLError(text)])
    context = {"request": received}
    result = await executor.execute(document, received.variables, received.operation_name, context)
    return _result(result, media_type)


def _invalid(media_type: str) -> int:
    return 200 if media_type == JSON else 400


def _result(result: ExecutionResult, media_type: str) -> Reply:
    errors = result.errors or []
    # Without a path the errors are the request's: variables, an operation nobody defined.
    if result.data is None and errors and all(error.path is None for error in errors):
        return _refusal(_invalid(media_type), media_type, errors)
    return _reply(200, media_type, dict(result.formatted))


def _refusal(status: int, media_type: str, errors: list[GraphQLError]) -> Reply:
    return _reply(status, media_type, {"errors": [error.formatted for error in errors]})


def _reply(status: int, media_type: str, body: dict[str, Any]) -> Reply:
    headers = {"Content-Type": f"{media_type}; charset=utf-8"}
    if status == 405:
        headers["Allow"] = "POST"
    return Reply(status, headers, json.dumps(body).encode())
