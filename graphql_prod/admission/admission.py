"""Counts what becomes of calls, and rejects calls while the upstream is ill."""

from __future__ import annotations

import logging
import random
from math import inf
from typing import TYPE_CHECKING, Literal

from graphql_prod import clock
from graphql_prod.admission.decision import Health, admits, closes, opens, rejection
from graphql_prod.errors import AdmissionRejectedError, ConfigurationError
from graphql_prod.runtime import forks, logs
from graphql_prod.texts.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphql_prod.admission.policy import AdmissionPolicy

logger: logging.Logger = logging.getLogger("graphql_prod")

AdmissionState = Literal["closed", "open", "isolated"]
"""As of a circuit breaker: closed lets calls pass, open rejects some, isolated rejects all."""

_SLOTS = 10


class Admission:
    """Which calls of a client and its views are sent.

    :ivar on: whether a call has to ask. False costs a call nothing.
    :ivar state: see :data:`AdmissionState`.
    :ivar rejected: calls and retries that were not sent, since the client was made.
    """

    def __init__(self, policy: AdmissionPolicy, host: str, tell: Callable[[str], None] | None) -> None:
        self.policy = policy
        self.host = host
        self.on: bool = policy.mode != "off"
        self.state: AdmissionState = "closed"
        self.rejected: int = 0
        self.reason: str | None = None
        self._tell = tell
        self._begin()
        forks.follow(self)

    def begin_anew(self) -> object:
        """In a child that was forked: it finds out by itself; what was isolated stays so."""
        if self.state == "open":
            self.state = "closed"
        self._begin()
        return None

    def _begin(self) -> None:
        self._slot = 0
        self._offered = [0] * (_SLOTS + 1)
        self._sent = [0] * (_SLOTS + 1)
        self._ok = [0] * (_SLOTS + 1)
        self._streak = 0
        self._last = -inf

    # What a call asks.

    def admits(self) -> bool:
        """Whether to send a call, or its next attempt, now; one that is rejected is counted."""
        if self.state == "isolated":
            self.rejected += 1
            return False
        now = clock.monotonic()
        at = self._at(now)
        self._offered[at] += 1
        if self.state == "closed":
            return True
        if admits(self.policy, self.health(now), random.random()):  # noqa: S311 -- no secret
            self._last = now  # whoever asks at the same moment does not come as a second probe
            return True
        self.rejected += 1
        return False

    def sent(self) -> None:
        """A call is sent."""
        now = clock.monotonic()
        self._sent[self._at(now)] += 1
        self._last = now

    def succeeded(self) -> None:
        """The upstream has answered, well or with a refusal: it is there. Returns None: the call is told."""
        self._streak = 0
        now = clock.monotonic()
        self._ok[self._at(now)] += 1
        if self.state == "open" and closes(self.policy, self.health(now), success=True):
            self._begin()
            self._become("closed")

    def failed(self, *, first: bool) -> None:
        """The upstream has failed a call.

        :param first: whether it is the first attempt of its call that fails: those after it count once.
        """
        self._streak += first
        if self.state == "closed" and opens(self.policy, self.health(clock.monotonic())):
            self._become("open")

    def abandoned(self) -> None:
        """A call was sent, and its caller left before the answer: that says nothing of the upstream."""
        at = self._at(clock.monotonic())
        if self._sent[at]:
            self._sent[at] -= 1

    def health(self, now: float) -> Health:
        """What is known of the upstream."""
        self._at(now)
        return Health(
            offered=sum(self._offered),
            sent=sum(self._sent),
            ok=sum(self._ok),
            streak=self._streak,
            since=now - self._last if now >= self._last else inf,
            open=self.state != "closed",
        )

    @property
    def isolated(self) -> str | None:
        """Why it was isolated by hand; None where it was not."""
        return self.reason if self.state == "isolated" else None

    @property
    def rejection(self) -> float:
        """The probability with which a call would be rejected now."""
        if self.state == "isolated":
            return 1.0
        return rejection(self.policy, self.health(clock.monotonic())) if self.state == "open" else 0.0

    def _at(self, now: float) -> int:
        """The slot of this moment; those of more than a window ago are emptied. A clock may jump."""
        slot = int(now * _SLOTS / self.policy.window)
        if slot != self._slot:
            passed = slot - self._slot
            if not 0 < passed <= _SLOTS:
                passed = _SLOTS + 1
            for each in range(slot - passed + 1, slot + 1):
                at = each % (_SLOTS + 1)
                self._offered[at] = self._sent[at] = self._ok[at] = 0
            self._slot = slot
        return slot % (_SLOTS + 1)

    # By hand, and what is said of it.

    def isolate(self, reason: str) -> None:
        """Send nothing from here on."""
        text: object = reason
        if not (isinstance(text, str) and text.strip()):
            raise ConfigurationError("isolate() needs a reason: a text that errors and the log will show")
        self.reason = quoted(reason.strip(), 200)
        self.on = True
        self._become("isolated")

    def restore(self) -> None:
        """Let all calls pass again, whatever was counted; without effect where they do."""
        if self.state == "closed":
            return
        self.reason = None
        self.on = self.policy.mode != "off"
        self._begin()
        self._become("closed")

    def error(self, consequence: str) -> AdmissionRejectedError:
        """Why a call is not sent.

        :param consequence: what a person should know of a mutation.
        """
        if self.state == "isolated":
            return AdmissionRejectedError(
                f"Not sent to {self.host}: it was isolated by hand ({self.reason}). {consequence} "
                "client.restore() lets calls pass again.",
                state="isolated",
            )
        health = self.health(clock.monotonic())
        return AdmissionRejectedError(
            f"Not sent to {self.host}: of the {health.sent} calls of the last {self.policy.window:g} s "
            f"{health.ok} went well, and most further ones are held back (admission). {consequence} "
            "Calls pass again by themselves when it answers.",
            state="open",
        )

    def _become(self, state: AdmissionState) -> None:
        before, self.state = self.state, state
        if before == state == "open":
            return
        text = {
            "closed": "%s is well again: all calls are sent",
            "open": "%s is ill: most calls are held back until it answers",
            "isolated": "%s is isolated by hand: no call is sent",
        }[state]
        level = logging.INFO if state == "closed" else logging.WARNING
        logger.log(
            level,
            text + (" (%s)" if self.reason else ""),
            self.host,
            *((self.reason,) if self.reason else ()),
            extra=logs.facts(host=self.host, state=state, reason=self.reason),
        )
        if self._tell is not None:
            self._tell(f"admission {state}")
