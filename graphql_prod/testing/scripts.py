"""The answers that a test has lined up: which one a request takes, and which are left."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from .answers import Answer

if TYPE_CHECKING:
    from .exchange import ReceivedRequest

Scripted = Answer | Mapping[str, Any] | Callable[["ReceivedRequest"], Answer | Mapping[str, Any]]
"""An answer, the data of one, or a function of the request that returns either."""
Variables = Mapping[str, Any] | Callable[[dict[str, Any]], bool]
"""Variables that a request has to have, among others; or a predicate over all of its variables."""


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One scripted answer, and who may take it."""

    name: str | None
    variables: Variables | None
    answer: Scripted

    def fits(self, variables: dict[str, Any] | None) -> bool:
        """Whether a request with these variables may take it."""
        given = variables or {}
        if self.variables is None:
            return True
        if callable(self.variables):
            return bool(self.variables(given))
        return all(key in given and given[key] == value for key, value in self.variables.items())

    def __str__(self) -> str:
        whose = f'script("{self.name}")' if self.name else "script()"
        if self.variables is None:
            return whose
        wanted = "a predicate" if callable(self.variables) else dict(self.variables)
        return f"{whose} with the variables {wanted}"


class Scripts:
    """Answers in the order in which they were scripted."""

    def __init__(self) -> None:
        self._choosy: defaultdict[str | None, list[Line]] = defaultdict(list)
        """Those that look at variables, by operation."""
        self._lines: defaultdict[str | None, deque[Line]] = defaultdict(deque)
        self._standing: dict[str | None, Scripted] = {}

    def __len__(self) -> int:
        return len(self._waiting())

    def __str__(self) -> str:
        counts = Counter(str(line) for line in self._waiting())
        return "\n".join(f"  {count} x {text}" for text, count in counts.items())

    @property
    def names(self) -> set[str]:
        """The operations that answers wait for."""
        return {line.name for line in self._waiting() if line.name is not None}

    def add(self, name: str | None, answers: tuple[Scripted, ...], variables: Variables | None) -> None:
        """Line up answers. Raises TypeError for what is none."""
        lines = [Line(name, variables, checked(answer)) for answer in answers]
        (self._lines if variables is None else self._choosy)[name].extend(lines)

    def stand(self, name: str | None, answer: Scripted | None) -> None:
        """Answer all others so; None takes it back."""
        if answer is None:
            self._standing.pop(name, None)
        else:
            self._standing[name] = checked(answer)

    def take(self, name: str | None, variables: dict[str, Any] | None) -> Scripted | None:
        """The next answer of this request: those for its variables first, then for its name, then for all."""
        for key in (name, None) if name else (None,):
            for line in self._choosy[key]:
                if line.fits(variables):
                    self._choosy[key].remove(line)
                    return line.answer
            if self._lines[key]:
                return self._lines[key].popleft().answer
        found = self._standing.get(name)
        return self._standing.get(None) if found is None else found

    def take_all(self, name: str, variables: dict[str, Any] | None) -> list[Scripted]:
        """All answers that were scripted for this operation by its name."""
        fitting = [line for line in self._choosy[name] if line.fits(variables)]
        for line in fitting:
            self._choosy[name].remove(line)
        fitting += self._lines.pop(name, ())
        return [line.answer for line in fitting]

    def _waiting(self) -> list[Line]:
        kinds = (*self._choosy.values(), *self._lines.values())
        return [line for lines in kinds for line in lines]


def checked(answer: Any) -> Scripted:
    """The answer itself. Raises TypeError for what is none."""
    if isinstance(answer, Answer | Mapping) or callable(answer):
        return cast("Scripted", answer)
    raise TypeError(
        f"a scripted answer is an Answer, a mapping of data, or a function of the request; not {answer!r}"
    )


def answer_of(scripted: Scripted, received: ReceivedRequest) -> Answer:
    """The answer that is meant."""
    found = scripted(received) if not isinstance(scripted, Answer | Mapping) else scripted
    if isinstance(found, Answer):
        return found
    if isinstance(found, Mapping):
        return Answer.graphql(data=found)
    raise TypeError(f"a function that was scripted returned {found!r}: no Answer, and no mapping of data")
