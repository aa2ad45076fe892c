"""The ratios that matter, from the measurements of one run."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.peers.pins import ENGINES, OURS
from tests.benchmarks.peers.results import Goal, Measurement, best

Found = list[Measurement]


def goals(found: Found) -> Iterator[Goal]:
    """Yield a goal for every row that both sides were measured for."""
    four = [one for one in found if ENGINES[one.engine].has_four_bits(one.form)]
    peers = "llamacpp openvino genai"
    yield from _beside(four, "decode-1", peers, 1.1, "decode, 1 stream, 4-bit weights, best of the peers")
    for peer, must in (("openvino", 1.1), ("llamacpp", 2.0), ("optimum", 4.0)):
        yield from _beside(found, "requests", peer, must, f"mixed requests, {ENGINES[peer].title}")
    yield from _beside(found, "prefill-1024", "openvino", 1.0, "prefill of 1,024 tokens, OpenVINO GenAI")
    yield from _beside(four, "load", "llamacpp", 1.0, "load to first token, llama.cpp", smallest=True)
    yield from _alone(found, "shared-prefix", 0.1, "second request with a shared prefix, over the first")
    yield from _alone(found, "outside", 5.0, "% of a 16-row step outside of the runtime")


def _beside(found: Found, work: str, peers: str, must: float, title: str, *, smallest: bool = False) -> Iterator[Goal]:
    """Yield our best figure over the best of *peers*."""
    rows = [one for one in found if one.work == work]
    ours = best((one for one in rows if one.engine == OURS.name), smallest=smallest)
    theirs = best((one for one in rows if one.engine in peers.split()), smallest=smallest)
    if ours is not None and theirs is not None:
        ratio = ours.median / theirs.median
        yield Goal(
            title=title, ours=_said(ours), theirs=_said(theirs), ratio=ratio, must=must, at_least=not smallest
        )  # fmt: skip


def _alone(found: Found, work: str, must: float, title: str) -> Iterator[Goal]:
    """Yield our own worst figure: what every format must keep."""
    worst = max((one for one in found if (one.work, one.engine) == (work, OURS.name)), key=_median, default=None)
    if worst is not None:
        yield Goal(title=title, ours=_said(worst), theirs="", ratio=worst.median, must=must, at_least=False)


def _median(one: Measurement) -> float:
    return one.median


def _said(one: Measurement) -> str:
    return f"{ENGINES[one.engine].title} {one.form}: {one.median:,.3g} {one.unit}"
