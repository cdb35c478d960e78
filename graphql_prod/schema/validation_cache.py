"""What is known of documents: each is parsed and validated once for a schema, not once a call."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from aiographql.client import GraphQLClientValidationException
from graphql import GraphQLError, GraphQLSyntaxError, Source, parse, validate

from graphql_prod.errors import renewed
from graphql_prod.runtime import logs
from graphql_prod.schema.building import fit
from graphql_prod.schema.worker import Job, ValidationWorker

if TYPE_CHECKING:
    from graphql import GraphQLSchema

logger: logging.Logger = logging.getLogger("graphql_prod")

# More documents than most services have, and what their texts may take: characters of one to four bytes.
DOCUMENTS = 1000
CHARACTERS = 4_000_000

ValidationResult = Callable[[], Exception] | None
"""None for a document that fits; else what makes the error."""


class LruSegment:
    """Documents by the time of their last use, as many as there is room for."""

    def __init__(self) -> None:
        self._results: OrderedDict[str, tuple[ValidationResult, int]] = OrderedDict()
        self._characters = 0

    def find(self, document: str) -> tuple[ValidationResult, int] | None:
        """What is known of a document; None if nothing is."""
        found = self._results.get(document)
        if found is not None:
            try:
                self._results.move_to_end(document)
            except KeyError:  # the worker's thread has just made room
                return None
        return found

    def put(self, document: str, result: ValidationResult, weight: int) -> None:
        """Remember, and forget what was not used for longest."""
        self.take(document)
        self._results[document] = (result, weight)
        self._characters += weight
        while len(self._results) > DOCUMENTS or self._characters > CHARACTERS:
            _, (_, forgotten) = self._results.popitem(last=False)
            self._characters -= forgotten

    def take(self, document: str) -> None:
        """Forget a document."""
        _, weight = self._results.pop(document, (None, 0))
        self._characters -= weight


class ValidationCache:
    """The verdicts on the documents of one schema.

    Those seen once and those seen again are kept apart: documents that never come back, however many, push
    out only each other.
    """

    def __init__(self, worker: ValidationWorker, host: str) -> None:
        self._worker = worker
        self._host = host
        self._fit: GraphQLSchema | None = None
        """For a schema that cannot be used as it is."""
        self._looked = False
        self._once = LruSegment()
        self._again = LruSegment()
        self._pending: dict[tuple[int, str], Job[ValidationResult]] = {}

    def find(self, document: str) -> tuple[ValidationResult, int] | None:
        """What is known of a document, at the price of a look-up."""
        found = self._again.find(document)
        if found is not None:
            return found
        found = self._once.find(document)
        if found is not None:
            with self._worker.lock:
                self._once.take(document)
                self._again.put(document, *found)
        return found

    def fits(self, document: str) -> bool:
        """True for a document that is known to fit."""
        found = self.find(document)
        return found is not None and found[0] is None

    async def check(self, schema: GraphQLSchema, document: str) -> None:
        """Nothing for a document that fits. Safe to cancel.

        :raises GraphQLClientValidationException: it does not fit the schema.
        :raises graphql.GraphQLSyntaxError: it is no document.
        """
        found = self.find(document)
        result = await self._validated(schema, document) if found is None else found[0]
        if result is not None:
            raise result()

    async def _validated(self, schema: GraphQLSchema, document: str) -> ValidationResult:
        with self._worker.lock:
            # The thread may have come to it since somebody looked.
            found = self._once.find(document) or self._again.find(document)
            if found is not None:
                return found[0]
            key = (self._worker.life, document)
            job = self._pending.get(key)
            begin = job is None
            if job is None:
                job = Job(partial(self._validate, schema, key), partial(self._pending.pop, key, None))
                self._pending[key] = job
            job.waiters += 1
        if begin:
            self._worker.submit(job)
        return await self._worker.result(job)

    def _validate(self, schema: GraphQLSchema, key: tuple[int, str]) -> ValidationResult:
        _, document = key
        try:
            if not self._looked:
                self._look_at(schema)
            result, weight = validated(self._fit or schema, document)
            with self._worker.lock:
                self._once.put(document, result, weight)
            return result
        finally:
            with self._worker.lock:
                self._pending.pop(key, None)

    def _look_at(self, schema: GraphQLSchema) -> None:
        found, flaws = fit(schema)
        self._looked = True
        if flaws:
            self._fit = found
            logger.warning(
                "the schema of %s breaks %d rules for schemas; documents are validated all the same",
                self._host,
                flaws,
                extra=logs.facts(host=self._host, flaws=flaws),
            )


def validated(schema: GraphQLSchema, document: str) -> tuple[ValidationResult, int]:
    """The verdict on a document, and what remembering it takes, in characters."""
    try:
        # Without locations a tree is a third smaller; they are for those who read errors.
        errors = validate(schema, parse(document, no_location=True))
        if errors:
            errors = validate(schema, parse(document))
    except RecursionError:
        refusal = GraphQLClientValidationException(GraphQLError("The document is nested too deeply."))
        return partial(renewed, refusal), len(document)
    except GraphQLSyntaxError as error:
        position = next(iter(error.positions or [0]))
        text = error.message.removeprefix("Syntax Error: ")
        return partial(GraphQLSyntaxError, error.source or Source(document), position, text), len(document)
    if not errors:
        return None, len(document)
    refusal = GraphQLClientValidationException(*errors)
    return partial(renewed, refusal), len(document) + len(str(refusal))
