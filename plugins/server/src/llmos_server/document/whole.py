"""The OpenAPI document of the whole application (spec.openapis.org/oas/v3.1.0)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from llmos_server.document.parts import Answer
from llmos_server.failures import OLLAMA

KEY = "key"
"""How the document calls the way to show a key."""
ERRORS: Mapping[int, str] = {
    400: "A field is wrong: the error names it and says what would be right.",
    401: "No key, or one that is wrong, expired or revoked.",
    403: "Not allowed by a policy, or asked from a page or by a name of another origin.",
    404: "There is no such model, task or response.",
    405: "Not by this method.",
    408: "The request did not come in time.",
    413: "The request is too large.",
    429: "Too much at once, or a quota is used up; Retry-After says when to try again.",
    499: "The task was cancelled.",
    500: "The server could not do it; nothing is told of the machine.",
    503: "What would do it is not there, or the server stops; Retry-After says when to try again, where that is known.",
    504: "It took too long.",
}
"""What each status of an error means; any route may answer with each."""
WAITING = frozenset((429, 503))
"""Statuses that may come with Retry-After."""


class ErrorFacts(Answer):
    """What is wrong, of what kind that is, and which field it is about."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(Answer):
    """An error in OpenAI's form."""

    error: ErrorFacts


class OllamaErrorAnswer(Answer):
    """An error in Ollama's form."""

    error: str


def describe(app: FastAPI, *, keys: bool, unlocked: frozenset[str]) -> dict[str, Any]:
    """Return the document of *app*; *keys* says whether one is needed, except for the paths *unlocked*."""
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    parts = made.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)  # FastAPI's own form of errors, which is never sent
    for model in (ErrorAnswer, OllamaErrorAnswer):
        found = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= found.pop("$defs", {}) | {model.__name__: found}
    parts["responses"] = {
        f"{form}{status}": _error(status, f"{form}Answer") for status in ERRORS for form in ("Error", "OllamaError")
    }
    parts["securitySchemes"] = {KEY: {"type": "http", "scheme": "bearer", "description": "llmos keys create NAME"}}
    for path, methods in made["paths"].items():
        for operation in methods.values():
            _complete(operation, "OllamaError" if path.startswith(OLLAMA) else "Error")
            operation["security"] = [] if path in unlocked else [{KEY: []}, *([] if keys else [{}])]
    return made


def _error(status: int, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    headers: dict[str, Any] = {}
    if status in WAITING:
        headers["Retry-After"] = {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
    if status == 401:
        headers["WWW-Authenticate"] = {"schema": {"const": "Bearer"}, "required": True}
    return {"description": ERRORS[status], "content": content, "headers": headers}


def _complete(operation: dict[str, Any], form: Literal["Error", "OllamaError"]) -> None:
    """Put in what any route may answer, where it does not say itself what that status is."""
    answers = operation["responses"]
    answers.pop("422", None)
    for status in ERRORS:
        answers.setdefault(str(status), {"$ref": f"#/components/responses/{form}{status}"})
    operation["responses"] = dict(sorted(answers.items()))
