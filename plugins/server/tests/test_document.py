"""The OpenAPI document: it says all, and a server does what it says for requests that nobody thought of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS
from schemathesis.config import SchemathesisConfig

from llmos_server.app import build
from llmos_server.options import ServerOptions
from plugins.server.tests.serving import PATIENCE, Site, serving

ORDINARY, NIGHTLY = 400, 10_000
"""Requests in all."""
MODES = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
ENDLESS = "/v1/llmos/events"
"""Sends until its reader goes; its own tests read it."""
UNLOAD = "/v1/llmos/models/{name}/unload"
"""Answers 503 for a model that is in use, as it should."""
LEAK = re.compile(r"Traceback|site-packages|\.py\b|File \"|/home/|/opt/|/tmp/|0x[0-9a-f]{8}")
AGREES = ("status_code_conformance", "content_type_conformance", "response_schema_conformance",
          "response_headers_conformance")  # fmt: skip


def document(**options: Any) -> dict[str, Any]:
    """Return the document of a server with those *options*."""
    ring: Any = type("Ring", (), {"listed": lambda self: [1]})()
    return build(lambda who: who, ServerOptions(**options), ring).openapi()  # type: ignore[arg-type, return-value]


OPERATIONS = [(method, path) for path, methods in document()["paths"].items() for method in methods]


def resolved(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return *part*, or what it refers to."""
    if "$ref" not in part:
        return part
    found: Any = whole
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return dict(found)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_operation_says_all(method: str, path: str) -> None:
    """What it answers when all is well, each error in the form of its API, and what it takes."""
    whole = document()
    operation = whole["paths"][path][method]
    answers = {int(status): resolved(whole, told) for status, told in operation["responses"].items()}
    form = "OllamaErrorAnswer" if path.startswith("/api/") else "ErrorAnswer"

    assert operation["summary"]
    assert {400, 401, 403, 404, 405, 408, 413, 429, 499, 500, 503, 504} <= set(answers)
    assert 422 not in answers
    for status, told in answers.items():
        for kind in told["content"].values():
            assert kind["schema"], f"nothing is said of the answer {status}"
        if status >= 400 and (status, path) != (503, "/ready"):
            schema = told["content"]["application/json"]["schema"]
            assert {"$ref": f"#/components/schemas/{form}"} == schema
    assert set(answers) - set(range(400, 600))


def test_every_number_has_a_range() -> None:
    """A client sees from the document what is too much."""
    bodies = {name: schema for name, schema in document()["components"]["schemas"].items() if "Body" in name}
    for name, schema in bodies.items():
        for field, told in schema["properties"].items():
            kinds = [told, *told.get("anyOf", ())]
            for kind in kinds:
                if kind.get("type") in ("integer", "number"):
                    low = {"minimum", "exclusiveMinimum"} & set(kind)
                    assert low, f"{name}.{field} has no least value"
                    assert {"maximum", "exclusiveMaximum"} & set(kind), f"{name}.{field} has no greatest value"


@pytest.mark.parametrize(("local", "needed"), [("open", [{"key": []}, {}]), ("keys", [{"key": []}])])
def test_who_needs_a_key(local: str, needed: list[Any]) -> None:
    """Everybody where the server asks for keys, and nobody for ``/health``."""
    whole = document(local=local)

    assert {"type": "http", "scheme": "bearer"}.items() <= whole["components"]["securitySchemes"]["key"].items()
    assert needed == whole["paths"]["/v1/chat/completions"]["post"]["security"]
    assert [] == whole["paths"]["/health"]["get"]["security"]


# --- generated requests ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Site, Any]]:
    """A server with its document as schemathesis reads it."""
    with serving() as site:
        yield site, schemathesis.openapi.from_url(f"{site.url}/openapi.json", config=SchemathesisConfig())


def ask(site: Site, case: Any) -> None:
    """Send the request; the answer must come, agree with the document and tell nothing of the machine."""
    response = case.call(timeout=PATIENCE)
    checks = [CHECKS.get_one(name) for name in AGREES]
    case.validate_response(response, checks=checks)
    if case.operation.path != UNLOAD:
        assert response.status_code < 500, response.text
    assert not LEAK.search(response.text), response.text


def known(case: Any) -> Any:
    """Return the request with a model that there is, so that more than its absence is told."""
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = "echo"
    if isinstance(case.path_parameters, dict) and "name" in case.path_parameters:
        case.path_parameters["name"] = "echo"
    return case


def requests(operation: Any) -> st.SearchStrategy[Any]:
    """Return requests that the document allows, and some that it forbids."""
    made = [operation.as_strategy(generation_mode=mode) for mode in MODES]
    return st.one_of(made[0].map(known), made[0], made[1], made[1].map(known))


def answer_all(server: tuple[Site, Any], method: str, path: str, count: int) -> None:
    """Ask *count* requests of one operation."""
    site, schema = server

    @settings(max_examples=count, deadline=None, derandomize=True, database=None, phases=(Phase.generate, Phase.shrink),
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(requests(schema[path][method.upper()]))
    def asked(case: Any) -> None:
        ask(site, case)

    asked()

    assert {"status": "ok"} == site.http.get("/health").json()


ASKED = [(method, path) for method, path in OPERATIONS if path != ENDLESS]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), ASKED)
def test_generated_requests(server: tuple[Site, Any], method: str, path: str) -> None:
    """Each has one answer that the document allows: never one of a server that failed."""
    answer_all(server, method, path, -(-ORDINARY // len(ASKED)))


@pytest.mark.nightly
@pytest.mark.parametrize(("method", "path"), ASKED)
def test_many_generated_requests(server: tuple[Site, Any], method: str, path: str) -> None:
    """The same, ten thousand times in all."""
    answer_all(server, method, path, -(-NIGHTLY // len(ASKED)))
