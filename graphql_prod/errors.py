"""The errors a user meets: all of them are the stock client's, or subclasses of those.

Every error that ends a call carries ``attempts`` (how many were begun), ``elapsed`` (seconds since the
call began) and ``may_have_executed`` (True as soon as a mutation may have reached the server).
Exceptions of the stock client, of graphql-core and of a custom transport get the same three attributes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from aiographql.client import (
    GraphQLClientException,
    GraphQLIntrospectionException,
    GraphQLRequestException,
)
from aiographql.client.exceptions import GraphQLTransportException

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aiographql.client import GraphQLResponse

E = TypeVar("E", bound=BaseException)
Phase = Literal["pool", "connect", "write", "read", "attempt", "total"]


class CallError(GraphQLClientException):
    """What every error of ours is: one ``except`` clause for all of them, with the facts of the call.

    :ivar attempts: attempts that were begun.
    :ivar elapsed: seconds since the call began.
    :ivar may_have_executed: True as soon as a mutation may have reached the server.
    """

    attempts: int = 0
    elapsed: float = 0.0
    may_have_executed: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors travel between processes (task queues, pools); their constructors take more than a text.
        return _rebuild, (type(self), self.args), self.__dict__


def request_failed(response: GraphQLResponse) -> GraphQLRequestException:
    """The stock's exception for an answer, also where the stock cannot write its JSON into the text."""
    try:
        return GraphQLRequestException(response)
    except TypeError:  # half a character, an integer of over 64 bits
        error = GraphQLRequestException.__new__(GraphQLRequestException)
        error.args = (f"Request failed with response {json.dumps(response.json)}",)
        error.response = response
        return error


def renewed(error: E) -> E:
    """An error like this one, for one more who is to raise it: shared, each would add to it what is its own.

    Itself where it cannot be copied.
    """
    if getattr(type(error), "__slots__", ()):
        return error
    try:
        twin: E = _rebuild(type(error), error.args)  # type: ignore[assignment]  # it makes what it is told to
        twin.__dict__.update(error.__dict__)
    except Exception:  # noqa: BLE001 -- somebody's own kind of error
        return error
    twin.__cause__, twin.__context__ = error.__cause__, error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    return twin.with_traceback(error.__traceback__)


def _rebuild(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    return error


class TransportError(CallError, GraphQLTransportException):
    """No answer came: the connection failed, was lost, or could never have worked.

    Raised where the stock client raises a plain ``GraphQLTransportException``. ``__cause__`` is the HTTP
    library's own exception.
    """


class RequestTimeoutError(CallError, GraphQLTransportException, TimeoutError):
    """A limit of the :class:`~graphql_prod.TimeoutPolicy` was reached.

    :ivar phase: which limit: ``"pool" "connect" "write" "read" "attempt" "total"``. When the total ran
        out in mid-attempt, ``__cause__`` is the failure of the attempt before, if there was one.
    """

    def __init__(self, message: str, *, phase: Phase) -> None:
        super().__init__(message)
        self.phase: Phase = phase


class HTTPStatusError(CallError, GraphQLRequestException):
    """The server answered with a status that is not a success, and with no GraphQL answer.

    :ivar status: the HTTP status.
    :ivar headers: the answer's headers, compared without case.
    :ivar retry_after: seconds asked for by ``Retry-After``, or None.
    :ivar response: the stock response object; its ``json`` is whatever object the body held, or empty.
    """

    def __init__(
        self,
        message: str,
        *,
        response: GraphQLResponse,
        status: int,
        headers: Mapping[str, str],
        retry_after: float | None = None,
    ) -> None:
        GraphQLClientException.__init__(self, message)
        self.response = response
        self.status = status
        self.headers = headers
        self.retry_after = retry_after


class InvalidResponseError(CallError, GraphQLRequestException):
    """A success status whose body is no GraphQL answer: a login page, JSON cut short, a JSON list.

    The stock client returns such an answer as empty data without errors.

    :ivar status: the HTTP status, or None where a custom transport hides it.
    :ivar content_type: the answer's media type, or None.
    :ivar excerpt: the first 200 characters of the body (also in the text of this error).
    :ivar retry_after: seconds asked for by ``Retry-After``, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        response: GraphQLResponse,
        status: int | None,
        content_type: str | None,
        excerpt: str,
        retry_after: float | None = None,
    ) -> None:
        GraphQLClientException.__init__(self, message)
        self.response = response
        self.status = status
        self.content_type = content_type
        self.excerpt = excerpt
        self.retry_after = retry_after


class NoSchemaError(CallError, GraphQLIntrospectionException):
    """The introspection was answered, with nothing that a schema can be made of.

    ``schema.mode=off`` (``validate=False``) and ``schema.file`` do without it.

    :ivar codes: the ``extensions.code`` of the answer's errors.
    :ivar refused: what came and is not taken; None where no schema came at all.
    """

    codes: frozenset[str] = frozenset()
    refused: str | None = None


class ThrottledError(CallError):
    """Nothing was sent: throttling holds calls back, and this one's turn would not come in time.

    A call that the *server* refused is another matter: its answer is returned, or raised as
    :class:`HTTPStatusError`, with ``retry_after``.

    :ivar retry_after: seconds until its turn would come, as far as can be told.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AdmissionRejectedError(CallError):
    """Nothing was sent: the upstream is ill, and most calls are held back; or it was isolated by hand.

    :ivar state: ``"open"``: the upstream is ill; ``"isolated"``: somebody has called ``client.isolate()``.
    """

    def __init__(self, message: str, *, state: Literal["open", "isolated"] = "open") -> None:
        super().__init__(message)
        self.state = state


class ClientClosedError(CallError):
    """The client is closed or closing: the call was refused, or cut off at the shutdown's deadline."""


class SubscriptionClosedError(CallError):
    """A subscription has ended for good, and not because anybody asked for it.

    :ivar close_code: the code of the close frame that ended it; None if there was none.
    :ivar close_reason: the server's reason, or our words for what happened.
    """

    def __init__(
        self, message: str, *, close_code: int | None = None, close_reason: str | None = None
    ) -> None:
        super().__init__(message)
        self.close_code = close_code
        self.close_reason = close_reason


class SubscriptionLimitError(CallError):
    """One socket more than ``pool.subscriptions`` allows; nothing was opened."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the configuration.

    :ivar key: the setting, dotted: ``retry.attempts``.
    :ivar message: what is wrong and what is allowed; never a secret's value.
    :ivar source: where the value came from: ``code``, a file's name, an environment variable.
    """

    key: str
    message: str
    source: str = "code"

    def __str__(self) -> str:
        return f"{self.key or 'the settings'} (from {self.source}): {self.message}"


class ConfigurationError(CallError, ValueError):
    """The settings cannot work. Lists every problem, each with its key and its source.

    :ivar problems: the :class:`Problem` records behind the text.
    """

    def __init__(self, problems: Iterable[Problem] | str) -> None:
        if isinstance(problems, str):
            self.problems: tuple[Problem, ...] = ()
            super().__init__(problems)
            return
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{count} in the configuration of the client:\n{lines}")
