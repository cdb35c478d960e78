"""What an answer says about whether anything ran."""

from __future__ import annotations


def is_request_error(json: object) -> bool:
    """True for a body which says that nothing ran: it has no ``data`` key, and no error of it has a path.

    That is the GraphQL specification's *request error*. ``"data": null`` proves nothing: a null parent
    erases what the fields that ran have returned, and a gateway whose second subgraph refuses sends no
    path either. A body that is no GraphQL answer at all is a refusal from before the execution.
    """
    if not isinstance(json, dict):
        return True
    errors = json.get("errors")
    listed = errors if isinstance(errors, list) else [errors]
    return "data" not in json and not any(
        isinstance(error, dict) and error.get("path") is not None for error in listed
    )
