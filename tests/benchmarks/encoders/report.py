"""What was found, as Markdown."""

from __future__ import annotations

from tests.benchmarks.peers.results import Comparison


def markdown(result: Comparison) -> str:
    """Return a table of all figures, one of the ratios, and what they depend on."""
    lines = ["| engine | weights | texts/s | spread | |", "|---|---|---|---|---|"]
    for one in result.measurements:
        title = result.engines[one.engine]["title"]
        lines.append(f"| {title} | {one.form} | {one.median:,.0f} | {one.spread:.0%} | {one.note} |")
    lines += ["", "| ratio | ours | theirs | ratio | must be | |", "|---|---|---|---|---|---|"]
    for goal in result.goals:
        met = "met" if goal.met else "missed"
        lines.append(f"| {goal.title} | {goal.ours} | {goal.theirs} | {goal.ratio:.2f} | ≥ {goal.must:g} | {met} |")
    facts, effort = result.machine, result.effort
    lines += [
        "",
        f"{result.model}, {effort['texts']} texts of 3 to 180 words at once, median of {effort['rounds']} rounds,",
    ]
    lines += [f"{result.threads} threads. {facts['cpu']}, {facts['cores']} cores, {facts['date']}.", ""]
    lines += [f"- {engine['title']}: {', '.join(engine['versions'])}" for engine in result.engines.values()]
    return "\n".join(lines)
