"""What a server says of a refusal: in the error's text, bounded and harmless; in no log, span or metric."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphql_prod import HTTPStatusError, ProductionClient, ProductionConfig, RetryPolicy
from graphql_prod.testing import Answer, ScriptedServer
from graphql_prod.texts.quoting import quoted, words_of

if TYPE_CHECKING:
    from subscribing import Backend

JSON = "application/json"


async def refusal_of(
    server: ScriptedServer, backend: Backend, status: int, body: Any, **arguments: Any
) -> HTTPStatusError:
    server.always(Answer(status=status, body=json.dumps(body).encode(), media_type=JSON))
    config = ProductionConfig(retry=RetryPolicy(attempts=1))
    async with ProductionClient(
        server.url, validate=False, backend=backend, config=config, **arguments
    ) as client:
        with pytest.raises(HTTPStatusError) as caught:
            await client.query("mutation Add { increment }")
    return caught.value


@pytest.mark.parametrize("status", [400, 401, 403, 422, 429, 500])
async def test_graphql_errors_of_another_media_type(
    server: ScriptedServer, backend: Backend, status: int
) -> None:
    """The words are in the text, the whole of it in ``.response``."""
    errors = [{"message": 'Field "a" must not be null', "extensions": {"code": "BAD"}}, {"message": "And b"}]
    error = await refusal_of(server, backend, status, {"errors": errors})
    assert f"answered {status}" in str(error)
    assert '"Field "a" must not be null"; "And b"' in str(error)
    assert "without a GraphQL answer" not in str(error)
    assert "may have been executed" in str(error)
    assert [each.message for each in error.response.errors] == ['Field "a" must not be null', "And b"]
    assert error.response.status == status  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"errors": ["Not Authenticated"]}, '"Not Authenticated"'),
        ({"errors": ["a", {"message": "b"}, 5, None, {}]}, '"a"; "b"'),
        ({"error_code": "X", "error_message": "Bad column", "status_code": 400}, '"Bad column"'),
        ({"message": "Bad credentials"}, '"Bad credentials"'),
        ({"error": "invalid_token", "error_description": "expired"}, '"expired"; "invalid_token"'),
        ({"errors": {"message": "alone"}}, '"alone"'),
        ({"errors": "text"}, '"text"'),
    ],
)
async def test_other_shapes(server: ScriptedServer, backend: Backend, body: Any, words: str) -> None:
    """Errors as texts, one error_message: monday's, and what gateways send."""
    assert f"says: {words}." in str(await refusal_of(server, backend, 400, body))


@pytest.mark.parametrize(
    "body", [{}, {"errors": []}, {"errors": None}, {"data": None}, {"errors": [1]}, [], 1]
)
async def test_no_words(server: ScriptedServer, backend: Backend, body: Any) -> None:
    """A body that says nothing is quoted as nothing."""
    assert "without a GraphQL answer" in str(await refusal_of(server, backend, 400, body))


async def test_bounds_and_control_characters(server: ScriptedServer, backend: Backend) -> None:
    """Three messages of 200 characters; a terminal, and a log, obey none of them."""
    said = "\x1b[31mred\r\nfake log line \u202e\u200b\x9b\ud83d"
    errors = [{"message": said}, *({"message": f"{n}" + "x" * 5000} for n in range(9))]
    text = str(await refusal_of(server, backend, 400, {"errors": errors}))
    assert text.isprintable()
    assert r"\x1b[31mred\r\nfake log line \u202e\u200b\x9b\ud83d" in text
    assert "and 7 more" in text
    assert len(text) < 1200


async def test_secrets_that_a_server_repeats(server: ScriptedServer, backend: Backend) -> None:
    """Our own token is left out of its words."""
    said = {"errors": [{"message": "token s3cret-token is not valid"}]}
    error = await refusal_of(server, backend, 401, said, headers={"Authorization": "Bearer s3cret-token"})
    assert '"token … is not valid"' in str(error)
    link: BaseException | None = error
    while link is not None:
        assert "s3cret" not in f"{link} {link!r}"
        link = link.__cause__


async def test_logs_have_no_words(
    server: ScriptedServer, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """What a server says stays in the error."""
    caplog.set_level("DEBUG", "graphql_prod")
    server.always(Answer(status=503, body={"errors": [{"message": "s3cret"}]}, media_type=JSON))
    config = ProductionConfig(retry=RetryPolicy(attempts=2, wait_initial=0, jitter="none"))
    async with ProductionClient(server.url, validate=False, backend=backend, config=config) as client:
        with pytest.raises(HTTPStatusError, match="s3cret"):
            await client.query("{ hello }")
        assert "s3cret" not in str(await client.ready())
    records = [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]
    assert len(records) > 1
    assert not [each for each in records if "s3cret" in each]


@given(text=st.text(), limit=st.integers(1, 30))
def test_any_text(text: str, limit: int) -> None:
    """Printable, and never more than so many characters of it."""
    shown = quoted(text, limit)
    assert shown.isprintable()
    assert len(shown) <= 10 * limit + 1


@given(
    json=st.recursive(
        st.none() | st.integers() | st.text(max_size=300),
        lambda inner: (
            st.lists(inner, max_size=5)
            | st.dictionaries(st.sampled_from(["errors", "message", "error", "x"]), inner, max_size=3)
        ),
        max_leaves=20,
    )
)
def test_any_json(json: Any) -> None:
    """Words or none, whatever came."""
    words = words_of(json)
    assert words is None or (words.isprintable() and len(words) < 7000)
