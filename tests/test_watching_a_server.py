"""A server is watched from outside: its measurements, and what ``llmos ps`` shows of it."""

from __future__ import annotations

import json

from click.testing import CliRunner

import llmos
from llmos_kernel import Task
from llmos_observability.metrics import Metrics
from llmos_observability.ps import ps
from plugins.observability.tests.scraping import named, samples
from plugins.server.tests.serving import serving


def test_measurements_over_http() -> None:
    """What clients of the server asked for is under ``/metrics``, in the format that Prometheus asks for."""
    with serving(Metrics) as site:
        site.chat("one two three")
        text = site.http.get("/metrics")
        openmetrics = site.http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    found = [
        named(samples((answer.headers["content-type"], answer.content)), "vllm:generation_tokens_total", "model_name")
        for answer in (text, openmetrics)
    ]

    assert [200, 200] == [text.status_code, openmetrics.status_code]
    assert [{("echo",): 3}] * 2 == found


def test_ps_of_a_server() -> None:
    """The command talks to the server as any remote client does."""
    with serving() as site, llmos.Client(site.url) as client:
        site.echo.gate.shut()
        client.process.schedule(Task("generate", "echo", "one two"))
        site.echo.gate.wait_for_visitor()
        told = CliRunner().invoke(ps, ["--server", site.url, "--json"], catch_exceptions=False)
        page = CliRunner().invoke(ps, ["--server", site.url], catch_exceptions=False)
        site.echo.gate.open()
    facts = json.loads(told.output)

    assert [("echo", "running")] == [(task["model"], task["state"]) for task in facts["tasks"]]
    assert "running" == facts["stats"]["state"]
    assert page.output.splitlines()[-1].split()[1:4] == ["running", "echo", "generate"]
