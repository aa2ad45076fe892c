"""``llmos doctor``: what does not work here, and why.  Plugins' code runs in a process of its own."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import attrs
import click

from llmos._settings import Settings, default_settings
from llmos._version import __version__
from llmos.cli._common import Common, json_option, pass_common, print_json, say
from llmos.cli.models import size
from llmos_kernel import __version__ as kernel_version
from llmos_kernel.errors import ConfigError
from llmos_kernel.loader import USABLE, PluginRecord
from llmos_kernel.plugins import Plugins

PATIENCE = 120.0
"""Seconds that the whole examination may take without an answer."""
OK, BAD, OFF = "ok", "FAILS", "off"
_SECTIONS = ("System", "Plugins", "In use", "Runtimes", "Models")
_COLOURS = {OK: "green", BAD: "red", OFF: "yellow"}


@attrs.frozen
class Line:
    """One finding as it is printed."""

    section: str
    name: str
    verdict: str
    text: str = ""
    detail: Any = None


@click.command("doctor")
@click.option("--load", is_flag=True, help="Load every model as well: finds damaged weights, and takes its time.")
@json_option
@pass_common
def command(common: Common, /, load: bool, as_json: bool) -> int:
    """Say what does not work here, and why.

    Every plugin is imported, every provider is tried and every model is measured, in a process of its own.
    The exit code is 1 if something fails.
    """
    lines = list(examine(common, load=load))
    failing = sum(line.verdict == BAD for line in lines)
    if as_json:
        print_json({"failing": failing, "findings": [attrs.asdict(line) for line in lines]})
    else:
        print_lines(lines)
        click.echo(f"\n{failing} of {len(lines)} fail." if failing else "\nEverything works.")
    return 1 if failing else 0


def examine(common: Common, *, load: bool) -> Iterator[Line]:
    """Yield every finding."""
    system = f"Python {platform.python_version()} on {platform.platform()}"
    supported = "" if sys.platform.startswith("linux") else "; best effort on this platform, complete on Linux"
    yield Line("System", "python", OK, system + supported)
    yield Line("System", "llmos", OK, f"kernel {kernel_version}, SDK {__version__}")
    settings, line = _settings(common)
    yield line
    asked = {"defaults": line.verdict == BAD, "config": settings.file or None, "load": load}
    records = Plugins(settings.kernel).records()
    findings = _look(asked, common.blocked, records)
    checked = {found["name"]: found for found in findings if found["kind"] == "plugin"}
    for record in records:
        yield _plugin_line(record, checked.get(record.key, {}))
    for found in findings:
        yield from _finding_lines(found)


def _settings(common: Common) -> tuple[Settings, Line]:
    """Return the settings, or the default ones if they are wrong: the doctor examines the rest nevertheless."""
    try:
        settings = common.settings()
    except ConfigError as error:
        return default_settings(), Line("System", "settings", BAD, f"{error.message}; the defaults are used here")
    kernel = settings.kernel
    text = f"{settings.file or 'no file'}; plugins {', '.join(kernel.plugins) or 'none'}; scheduler {kernel.scheduler}"
    return settings, Line("System", "settings", OK, f"{text}; your models are listed in {settings.home}")


def _look(asked: dict[str, Any], off: tuple[str, ...], records: tuple[PluginRecord, ...]) -> list[dict[str, Any]]:
    """Run the probe; if a plugin takes it down, note that and run it again without that plugin."""
    crashed: list[dict[str, Any]] = []
    usable = {record.key for record in records if record.state in USABLE}
    while True:
        blocked = [*off, *(found["name"] for found in crashed)]
        findings, end = _probe(asked | {"blocked": blocked})
        culprit = next((found["looking"] for found in reversed(findings) if "looking" in found), "")
        findings = [*crashed, *(found for found in findings if "kind" in found)]
        if not end:
            return findings
        if culprit not in usable or culprit in blocked:
            why = f"the examination {end}"
            return [*findings, {"kind": "examination", "name": "plugins", "facts": {}, "why": why}]
        crashed.append({"kind": "plugin", "name": culprit, "state": "failed", "why": f"it {end}"})


def _probe(asked: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """Return the findings, and how the probe ended if not well."""
    # -P: what lies in the current folder is not imported.
    argv = [sys.executable, "-P", "-m", "llmos.cli._probe"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            out, err = process.communicate(json.dumps(asked), timeout=PATIENCE)
            code = process.returncode
            end = f"ended the process with {f'signal {-code}' if code < 0 else f'exit code {code}'}" if code else ""
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            end = f"did not answer within {PATIENCE:g} s"
    said = err.strip().splitlines()
    if end and said:
        end = f"{end}: {said[-1]}"
    return [json.loads(line) for line in out.splitlines() if line.endswith("}")], end


def _plugin_line(record: PluginRecord, found: dict[str, Any]) -> Line:
    state, why = found.get("state", record.state), found.get("why") or record.why
    verdict = OFF if state == "blocked" else OK if state in USABLE else BAD
    origin = f"{record.distribution} {record.version}"
    text = f"{origin}: {state}: {why}" if why else origin
    return Line("Plugins", record.key, verdict, text, {**attrs.asdict(record), "state": state, "why": why})


def _finding_lines(found: dict[str, Any]) -> Iterator[Line]:
    """Yield the lines for what the probe found besides plugins."""
    kind, name = found.get("kind"), found.get("name", "")
    facts, why = found.get("facts", {}), found.get("why", "")
    if kind in ("policy", "scheduler") and why:
        yield Line("In use", f"{kind}:{name}", BAD, why, facts)
    elif kind == "examination":
        yield Line("Plugins", name, BAD, why, facts)
    elif kind == "backend":
        yield from _runtime_lines(name, facts, why)
    elif kind == "model":
        text = why or f"{size(facts.get('nbytes', 0))} on {facts.get('device', 'unknown')}"
        yield Line("Models", name, BAD if why else OK, text, facts)


def _runtime_lines(backend: str, facts: dict[str, Any], why: str) -> Iterator[Line]:
    """Yield a line per provider of a backend, and one for its problem."""
    problem = why or facts.get("problem")
    version = facts.get("version")
    if problem or version:
        yield Line("Runtimes", backend, BAD if problem else OK, str(problem or f"version {version}"), facts)
    providers = facts.get("providers")
    for provider, state in providers.items() if isinstance(providers, dict) else ():
        runs = isinstance(state, dict) and state.get("runs")
        reason = str(state.get("why") or "") if isinstance(state, dict) else str(state)
        yield Line(
            "Runtimes", f"{backend}:{provider}", OK if runs else OFF, "runs" if runs else f"does not run: {reason}"
        )


def print_lines(lines: list[Line]) -> None:
    """Print findings, section by section."""
    width = max((len(line.name) for line in lines), default=0)
    section = ""
    for line in sorted(lines, key=lambda line: _SECTIONS.index(line.section)):
        if line.section != section:
            click.echo(f"{'' if not section else chr(10)}{line.section}")
            section = line.section
        verdict = click.style(f"{line.verdict:5}", fg=_COLOURS[line.verdict])
        say(line.text, f"  {verdict}  {line.name:{width}}  ")
