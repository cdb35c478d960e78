"""JSON as servers write it: what orjson refuses and the standard library reads is read."""

from __future__ import annotations

import json
from typing import Any

import orjson
from aiographql.client.serializer import OrjsonSerializer

# The standard library takes its time for what is longer.
_LONG = 1 << 20


class TolerantSerializer(OrjsonSerializer):
    """The stock's default serializer, which also reads a byte order mark, NaN and half a surrogate pair.

    A text that orjson reads costs nothing more.
    """

    def loads(self, data: str | bytes) -> Any:
        """The value of a JSON text.

        :raises json.JSONDecodeError: neither library reads it.
        """
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            if _is_cut(error):
                raise  # no other library reads it either, and it may be long
            try:
                return read(data)
            except (ValueError, TypeError, RecursionError):
                raise error from None


def read(data: str | bytes) -> Any:
    """As the standard library reads it; bytes are UTF-8, with or without a byte order mark.

    :raises ValueError: it is no JSON, or no UTF-8.
    :raises RecursionError: it is nested too deeply.
    """
    text = data if isinstance(data, str) else bytes(data).decode("utf-8-sig")
    return json.loads(text.removeprefix("\ufeff"))


def flaw_of(body: bytes) -> str | None:
    """What is wrong with a text that should be JSON, and where; continues "a body …". None: it is JSON.

    Quotes nothing of it.
    """
    if not body.strip():
        return "that is empty"
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if _is_cut(error):
            return f"of JSON that ends in the middle ({_place(error)})"
        if len(body) > _LONG:
            return f"that is no JSON ({_place(error)})"
    else:
        return None
    return _flaw_beside_orjson(body)


def _flaw_beside_orjson(body: bytes) -> str | None:
    try:
        read(body)
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return f"of JSON that ends in the middle (byte {error.start})"
        return f"that is no UTF-8 (byte {error.start})"
    except json.JSONDecodeError as error:
        if _is_cut(error):
            return f"of JSON that ends in the middle ({_place(error)})"
        return f"that is no JSON: {error.msg} ({_place(error)})"
    except RecursionError:
        return "of JSON that is nested too deeply"
    except ValueError:
        return "of JSON with a number that is too long"
    return None


def _is_cut(error: json.JSONDecodeError) -> bool:
    return error.pos > 0 and (error.pos >= len(error.doc) or error.msg.startswith("Unterminated string"))


def _place(error: json.JSONDecodeError) -> str:
    return f"line {error.lineno}, column {error.colno}"
