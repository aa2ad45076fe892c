// Results of evaluations: models beside each other on the same records.

import { h } from "../dom.js";
import { Fetched } from "../fetched.js";
import * as format from "../format.js";
import { locale, t } from "../i18n.js";

const number = (value) => format.number(value, locale(), 4);
const written = (value, unit) => (unit === "%" ? `${number(value)} %` : [number(value), unit].filter(Boolean).join(" "));

export class Results {
  constructor(live) {
    this.live = live;
  }

  render() {
    this.suites = h("div", { class: "groups" });
    this.notes = h("div", { class: "groups" });
    this.fetched = new Fetched(() => "/v1/llmos/evaluations", (found) => this.#paint(found));
    this.allowed = null;
    this.limits = h("p", { class: "muted limits", role: "status", hidden: true }, t("results.limits"));
    this.tick();
    const head = h("div", { class: "row page-head" }, h("h1", {}, t("page.results")));
    return h("div", { class: "page" }, head, this.limits, this.fetched.box, this.suites, this.notes);
  }

  /** Ask as soon as it is known that the key allows it; else say what would. */
  tick() {
    const allowed = this.live.may("evaluations");
    if (allowed === this.allowed) return;
    this.allowed = allowed;
    this.limits.hidden = allowed !== false;
    for (const part of [this.fetched.box, this.suites, this.notes]) part.hidden = allowed === false;
    if (allowed) this.fetched.load();
  }

  #paint({ data, unreadable, more }) {
    const suites = Map.groupBy(data, (result) => result.digest);
    this.suites.replaceChildren(...[...suites.values()].map(suite));
    const bad = unreadable.map(({ id, why }) => h("p", { class: "why" }, t("results.unreadable", { id, why })));
    const notes = [...bad, more > 0 && h("p", { class: "muted" }, t("results.more", { n: more }))].filter(Boolean);
    if (!data.length && !notes.length) notes.push(h("p", { class: "empty" }, t("results.none"), " ", h("code", {}, "llmos eval tiny questions.jsonl --metric exact")));
    this.notes.replaceChildren(...notes);
  }
}

/** Return the card of *results* on the same suite. */
function suite(results) {
  const metrics = new Map(results.flatMap((result) => Object.entries(result.metrics)).reverse());
  const names = [...metrics.keys()].reverse();
  const column = (name) => h("th", { scope: "col" }, metrics.get(name).title || name);
  const head = h("tr", {}, h("th", { scope: "col" }, t("results.model")), names.map(column), h("th", { scope: "col", class: "num" }, t("results.records")), h("th", { scope: "col" }, t("results.when")));
  const rows = results.map((result) => row(result, names, results));
  const caption = h("caption", {}, h("h2", {}, results[0].suite), h("p", { class: "muted" }, t("results.why")));
  const table = h("table", {}, caption, h("thead", {}, head), h("tbody", {}, rows));
  return h("section", { class: "card wide", tabindex: "0", "aria-label": results[0].suite }, table);
}

function row(result, names, all) {
  const records = result.failed ? t("results.failed", { n: result.records, failed: result.failed }) : t("results.all", { n: result.records });
  const cells = names.map((name) => cell(result.metrics[name], all.map((other) => other.metrics[name]).filter(Boolean)));
  const when = format.date(Date.parse(result.finished) / 1000, locale());
  return h("tr", {}, h("th", { scope: "row", title: result.id }, result.model), cells, h("td", { class: "num" }, records), h("td", { class: "when" }, when));
}

/** Return a figure with its interval, on the scale of *all* figures of its column; the best one is marked. */
function cell(figure, all) {
  if (!figure) return h("td", {}, "–");
  const { value, unit, low, high, larger } = figure;
  const best = all.length > 1 && all.every((other) => (larger ? value >= other.value : value <= other.value));
  const most = unit === "%" ? 100 : Math.max(...all.map((other) => other.high ?? other.value)) || 1;
  const part = (amount) => Math.max(0, Math.min(1, amount / most));
  const vars = { value: part(value), low: part(low ?? value), high: part(high ?? value) };
  const bounds = low === null || high === null ? "" : t("results.bounds", { low: number(low), high: number(high) });
  return h("td", { class: "figure" },
    h("span", { class: best ? "best" : "" }, written(value, unit), best && h("span", { class: "badge" }, t("results.best"))),
    h("div", { class: "range", vars, "aria-hidden": "true" }, h("i", {}), h("b", {})),
    bounds && h("small", {}, bounds));
}
