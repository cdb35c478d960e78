"""How a connection was lost: what each kind of end means, and what to do about it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphql_prod.calls.faults import classify, is_plain
from graphql_prod.calls.outcomes import reason_of
from graphql_prod.calls.response import GraphQLResponse
from graphql_prod.errors import (
    CallError,
    HTTPStatusError,
    RequestTimeoutError,
    SubscriptionClosedError,
    TransportError,
)
from graphql_prod.headers import copied
from graphql_prod.resilience.retry.decision import SendStatus
from graphql_prod.resilience.retry.retry_after import retry_after
from graphql_prod.sessions.bodies import TooManyValuesError
from graphql_prod.subscriptions.endings import (
    AskedToReconnectError,
    CredentialsRefusedError,
    HandshakeError,
    RejectedError,
    RestartAskedError,
    SilenceError,
    SocketClosed,
    UpgradeRefusedError,
)
from graphql_prod.subscriptions.protocol import LEGACY, MODERN, UNREADABLE, UnofferedError, UnreadableError
from graphql_prod.subscriptions.refusals import DEFAULT, Refusals
from graphql_prod.subscriptions.send_queue import UnreadError
from graphql_prod.texts.quoting import quoted
from graphql_prod.urls import target_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphql_prod.errors import Phase


_REFUSED_STATUSES = (401, 403)
# What is worth a second try when the first connection of a subscription is refused.
TRANSIENT_STATUSES = (408, 425, 429)
BY_GET = (
    "aiohttp asks a proxy for ws:// with GET, which most proxies refuse: make the endpoint one of wss:// "
    '(https://), or use backend="httpx", which asks for a tunnel.'
)
OVERSIZED = 1009
# Characters below which a message of ours is not taken for too large.
_SMALL = 1000
_CREDENTIALS = "Check the credentials and what they allow."

CREDENTIALS_REFUSED = "the credentials were refused"
"""Our reason for a gap where the server closed nothing."""


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """Why a connection has ended, or did not come about.

    ``what`` continues "<host> …" in a sentence, ``hint`` says what to do.
    """

    what: str
    hint: str
    close_code: int | None = None
    close_reason: str | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    phase: Phase | None = None
    refused: bool = False
    """Whether it was the credentials that were refused."""
    evidence: str = ""
    """What says that they were, in our words."""
    final: bool = False
    """Whether a first connection that fails so is not tried again."""
    fatal: bool = False
    """Whether the next connection would end so too, at first as later."""
    ours: bool = False
    """Whether it was we who ended it."""
    closed: bool = False
    """Whether the server ended it in so many words."""
    cause: Exception | None = field(default=None, repr=False)
    own: Exception | None = field(default=None, repr=False)
    """An error that says all of this better."""
    at_once: bool = False
    """Whether the next connection need not wait."""
    blamed: str | None = None
    """The subscription whose message ended it; the others are subscribed anew."""
    logged: str | None = None
    """``what`` without the server's words, which may quote a secret; None: there are none in it."""

    @property
    def to_send(self) -> int | None:
        """The code to close with where it is up to us to say why."""
        ours = isinstance(self.cause, UnreadableError | TooManyValuesError)
        return self.close_code if ours else None

    @property
    def retry_after(self) -> float:
        """Seconds that the server asked us to wait, 0 if it did not."""
        return retry_after(self.headers) or 0.0

    def error(self, host: str, spent: str, *, established: bool) -> Exception:
        """What is raised when this is the end; ``spent`` tells the attempts and the time."""
        if self.own is not None and (not established or isinstance(self.own, SubscriptionClosedError)):
            return self.own
        text = f"{host} {self.what}, {spent}. {self.hint}"
        error: Exception
        if established or self.closed or self.refused:
            error = SubscriptionClosedError(
                text, close_code=self.close_code, close_reason=self.close_reason or self.what
            )
            error.__cause__ = self._refusal(text) if self.status is not None else self.own or self.cause
            return error
        if self.phase is not None:
            error = RequestTimeoutError(text, phase=self.phase)
        else:
            error = TransportError(text) if self.status is None else self._refusal(text)
        error.__cause__ = self.cause
        return error

    def _refusal(self, text: str) -> Exception:
        return HTTPStatusError(
            text,
            response=GraphQLResponse(request="", json={}, status=self.status),
            status=self.status or 0,
            headers=copied(self.headers),
            retry_after=retry_after(self.headers),
        )


def loss_of(error: Exception, refusals: Refusals = DEFAULT) -> ConnectionLost:
    """What an exception says about the connection that it ended."""
    match error:
        case SocketClosed():
            return _of_close(error, refusals)
        case UpgradeRefusedError():
            return _of_status(error)
        case HandshakeError():
            return _of_handshake(error)
        case AskedToReconnectError():
            what = f"is connected to anew: {error}"
            return ConnectionLost(what, "", close_reason=str(error), ours=True, at_once=True)
        case RestartAskedError():
            return ConnectionLost(f"is subscribed to anew: {error}", "", close_reason=str(error), ours=True)
        case SilenceError():
            hint, what = error.hint, str(error)
            return ConnectionLost(what, hint, close_reason=what, phase=error.phase)
        case UnreadError():
            hint, what = "Look at what the server, or a proxy before it, does with what we send.", str(error)
            return ConnectionLost(what, hint, close_reason=f"closed by us: {what}", closed=True, ours=True)
        case UnreadableError():
            hint = "Look at what the server, or a proxy before it, sends."
            return ConnectionLost(str(error), hint, UNREADABLE, str(error), closed=True, cause=error)
        case TooManyValuesError():
            what = f"sent an event with more than {error.args[0]:,} values, over our limit"
            hint = "Ask for less in an event, or raise max_response_values."
            reason = f"closed by us: {what}"
            return ConnectionLost(what, hint, OVERSIZED, reason, closed=True, ours=True, cause=error)
        case UnofferedError():
            return _of_unoffered(str(error))
        case RejectedError():
            logged = "refused the connection"
            what = f"{logged} ({quoted(str(error))})" if str(error) else logged
            evidence = "its connection_error says so"
            return ConnectionLost(
                what, "Check the credentials.", refused=True, closed=True, logged=logged, evidence=evidence
            )
        case CredentialsRefusedError():
            what = "refused the credentials of a subscription"
            evidence = "its answer to a subscription says so"
            return ConnectionLost(
                what,
                _CREDENTIALS,
                close_reason=CREDENTIALS_REFUSED,
                refused=True,
                closed=True,
                evidence=evidence,
            )
    return _of_fault(error)


def _of_unoffered(chosen: str) -> ConnectionLost:
    logged = "chose a WebSocket protocol that was not offered"
    hint = "Look at what the server, or a gateway before it, is set up to speak."
    if chosen in (MODERN.name, LEGACY.name):
        hint = f"Offer it: protocols={chosen!r}."
    what = f"{logged}: {quoted(chosen, 60) or 'one without a name'}"
    return ConnectionLost(what, hint, close_reason=what, fatal=True, closed=True, logged=logged)


def _of_close(closed: SocketClosed, refusals: Refusals) -> ConnectionLost:
    if closed.ours:
        return _of_own_close(closed)
    code, reason = closed.code, closed.reason
    if code is None:
        hint = "Look for a restart or a proxy in between."
        return ConnectionLost("closed the connection without a word", hint, None, reason or "connection lost")
    logged = f"closed the connection with {code}"
    what = f"{logged} ({quoted(reason)})" if reason else logged
    hint = "See what the server means by it."
    evidence = refusals.in_close(code, reason)
    if evidence:
        hint = _CREDENTIALS
    if code == OVERSIZED:
        hint = _hint_of_oversized(closed)
    refused = evidence is not None
    return ConnectionLost(
        what,
        hint,
        code,
        reason,
        refused=refused,
        closed=True,
        logged=logged,
        evidence=evidence or "",
    )


def _hint_of_oversized(closed: SocketClosed) -> str:
    """Whose message was too large for the server: ours probably, or who knows."""
    if closed.init is not None and closed.init >= _SMALL:
        return (
            f"It was our connection_init that was too large ({closed.init:,} characters): nothing else "
            "was sent. Send less in connection_init_payload and headers, or raise the server's limit."
        )
    other = "" if closed.ours is False else ", or of an event for us: then raise max_response_bytes"
    return f"A message was too large for the server, or for a proxy before it{other}."


def blaming(loss: ConnectionLost, sent: Mapping[str, int]) -> ConnectionLost:
    """A loss for a message too large, with the subscription named that it was probably sent for.

    :param sent: how long the messages are that asked for subscriptions and were not answered, by their ids.
    """
    key = max(sent, key=lambda each: sent[each], default=None)
    if loss.close_code != OVERSIZED or loss.ours or key is None or sent[key] < _SMALL:
        return loss
    hint = (
        f"It was probably our message that was too large, the one that asked for this subscription "
        f"({sent[key]:,} characters), for it was not answered. To be sure, subscribe with smaller variables. "
        "Send less in them, or raise the limit of the server, or of the proxy before it."
    )
    return dataclasses.replace(loss, blamed=key, hint=hint)


def _of_own_close(closed: SocketClosed) -> ConnectionLost:
    """We closed, for what the server sent."""
    code, why = closed.code, quoted(closed.reason or "")
    if code == OVERSIZED:
        cause, hint = (
            "sent a message over our limit",
            "Ask for less in an event, or raise max_response_bytes.",
        )
    else:
        cause = "broke the WebSocket protocol"
        hint = "Look at what the server, or a proxy before it, sends."
    logged = f"{cause}, so that we closed the connection with {code}"
    what = f"{logged} ({why})" if why else logged
    reason = f"closed by us: {why or cause}"
    return ConnectionLost(what, hint, code, reason, closed=True, logged=logged, ours=True)


def _of_status(error: UpgradeRefusedError) -> ConnectionLost:
    status = error.status
    what = f"answered the WebSocket upgrade with {reason_of(status)}"
    hint = "Look into the log of the server, or of the proxy before it."
    if status in _REFUSED_STATUSES:
        hint = _CREDENTIALS
        if status == 403:
            hint = (
                "Check the credentials and what they allow, the endpoint's path, and that the proxy before "
                "the server lets WebSocket upgrades through."
            )
    elif status == 407:
        hint = "Check the user and the password for the proxy."
    elif 300 <= status < 400:
        target = target_of(error.headers.get("Location", ""))
        what += f", a redirect{f' to {target}' if target else ''} that is not followed"
        hint = "Make its target the endpoint if it is right."
    elif status < 300 or status == 404:
        hint = "Check the endpoint's path, and that subscriptions are served there."
    if error.by_get and not 300 <= status < 400:
        hint = f"{hint} {BY_GET}"
    return ConnectionLost(
        what,
        hint,
        close_reason=what,
        status=status,
        headers=error.headers,
        refused=status in _REFUSED_STATUSES,
        evidence=f"the status {status} says so",
        final=(status < 500 and status not in TRANSIENT_STATUSES) or (error.by_get and status == 501),
        cause=error.__cause__ if isinstance(error.__cause__, Exception) else None,
    )


def _of_handshake(error: HandshakeError) -> ConnectionLost:
    fault = error.fault
    what = f"{fault.what} ({error.said})" if error.said else fault.what
    return ConnectionLost(
        what,
        fault.hint,
        close_reason=fault.reason,
        final=fault.send_status is SendStatus.FINAL,
        cause=error.__cause__ if isinstance(error.__cause__, Exception) else None,
        logged=fault.what,
    )


def _of_fault(error: Exception) -> ConnectionLost:
    fault = classify(error)
    final = fault.send_status is SendStatus.FINAL
    reason = fault.reason
    if isinstance(error, CallError):
        said, _, hint = str(error).partition(". ")  # ours, and so without secrets
        what = f"could not be asked: {said.removesuffix('.')}"
        return ConnectionLost(
            what, hint or fault.hint, close_reason=said, final=final, cause=error, own=error
        )
    if not is_plain(error) and not isinstance(error, OSError):
        return ConnectionLost(
            fault.what, fault.hint, close_reason=reason, final=final, cause=error, own=error
        )
    return ConnectionLost(
        fault.what, fault.hint, close_reason=reason, phase=fault.phase, final=final, cause=error
    )
