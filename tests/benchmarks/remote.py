"""``python -m tests.benchmarks.remote``: what calling a model elsewhere costs here, beside HTTP and OpenAI's client.

A server in a process of its own answers every chat with the same events at once; all ways ask it in turn, over one
connection each, and read the answer to its end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import openai

from llmos import Client
from llmos_kernel import Kernel, KernelConfig, ModelSpec
from tests.benchmarks.figures import Figure, cells, figure, load, save, table

WORDS = 20
"""Events with text in an answer."""
SERVER = """
import asyncio, json, sys

def chunk(delta, finish=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    value = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(value).encode() + b"\\n\\n"

words = b"".join(chunk({"content": " word"}) for _ in range(int(sys.argv[1])))
body = words + chunk({}, "stop") + b"data: [DONE]\\n\\n"
head = b"HTTP/1.1 200 OK\\r\\ncontent-type: text/event-stream\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body)

async def answer(reader, writer):
    while asked := await reader.readline():
        length = 0
        while (line := await reader.readline()).strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        await reader.readexactly(length)
        writer.write(head + body)
        await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""
MESSAGES = [{"role": "user", "content": "Say something."}]
IMPORTS = {
    "import llmos": "import llmos",
    "import llmos_remote.openai (before a model is loaded)": "import llmos_remote.openai",
    "import openai (while it is loaded)": "import openai",
    "import anthropic (the same)": "import anthropic",
    "import google.genai (the same)": "import google.genai",
}


@contextmanager
def far_end() -> Iterator[str]:
    """Give the address of a server that runs while the block does."""
    with subprocess.Popen([sys.executable, "-c", SERVER, str(WORDS)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        finally:
            server.terminate()


@contextmanager
def ways(url: str) -> Iterator[dict[str, Callable[[], str]]]:
    """Give the ways to ask for the same answer."""
    spec = ModelSpec(name="far", backend="openai", kinds=("chat",), options={"base_url": url, "model": "m"})
    config = KernelConfig(models=(spec,), plugins=("llmos-remote", "llmos-schedulers"))
    with (
        httpx.Client() as plain, openai.OpenAI(base_url=url, api_key="none") as maker, Kernel(config) as kernel,
        Client(kernel=kernel) as client,
    ):  # fmt: skip
        model = client.load_model("far")

        def by_hand() -> str:
            body = {"model": "m", "messages": MESSAGES, "stream": True}
            with plain.stream("POST", f"{url}/chat/completions", json=body) as answer:
                found = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {"))
                return "".join(one["choices"][0]["delta"].get("content", "") for one in found)

        def by_maker() -> str:
            create: Any = maker.chat.completions.create
            events = create(model="m", messages=MESSAGES, stream=True)
            return "".join(event.choices[0].delta.content or "" for event in events)

        yield {
            "plain httpx": by_hand, "OpenAI's client": by_maker, "llmos, whole": lambda: model.chat(MESSAGES),
            "llmos, streamed": lambda: "".join(model.stream(MESSAGES[0]["content"])),
        }  # fmt: skip


def calls(n: int) -> list[Figure]:
    """Return the time of a call by each way, asked in turn, and how much more it is than plain HTTP takes."""
    with far_end() as url, ways(url) as found:
        samples: dict[str, list[float]] = {name: [] for name in found}
        for number in range(n + 10):
            for name, ask in found.items():
                begin = time.perf_counter()
                text = ask()
                took = time.perf_counter() - begin
                if text != " word" * WORDS:
                    raise ValueError(f"{name} answered {text!r}")
                if number >= 10:  # the first ones connect, and load what is loaded late
                    samples[name].append(took)
    figures = [figure(f"a call, {name}", values, "ms") for name, values in samples.items()]
    return [figures[0], *(_beside(one, figures[0]) for one in figures[1:])]


def _beside(one: Figure, plain: Figure) -> Figure:
    return attrs.evolve(one, reference=f"{one.median - plain.median:+.2f} ms beside plain httpx")


def imports(n: int) -> list[Figure]:
    """Return the time of each import in a fresh interpreter, that of the interpreter taken off, in turn."""
    samples: dict[str, list[float]] = {name: [] for name in IMPORTS}
    code = "import time; begin = time.perf_counter(); {}; print(time.perf_counter() - begin)"
    for _ in range(n):
        for name, statement in IMPORTS.items():
            command = [sys.executable, "-c", code.format(statement)]
            samples[name].append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    return [figure(name, values, "ms") for name, values in samples.items()]


def markdown(path: Path) -> str:
    """Return the table of the figures in the file at *path*."""
    facts, figures = load(path)
    lines = ["| what | median | p99 | n | |", "|---|---|---|---|---|"]
    for one in figures:
        name, median, p99, n, _, _, reference = cells(one)
        lines.append(f"| {name} | {median} | {p99} | {n} | {reference} |")
    where = f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, {facts['date']}"
    busy = facts["load"][0] > facts["cores"]
    said = f" The machine was busy (load {facts['load'][0]}): compare the figures with each other only." if busy else ""
    return "\n".join([*lines, "", f"Answers of {WORDS} pieces; {where}.{said}"])


def main() -> None:
    """Measure, print, and save if told."""
    parser = argparse.ArgumentParser(description="Measure calls of a model elsewhere.")
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--imports", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    arguments = parser.parse_args()
    figures = [*calls(arguments.calls), *imports(arguments.imports)]
    print(table(figures))
    if arguments.json:
        save(arguments.json, figures)


if __name__ == "__main__":
    main()
