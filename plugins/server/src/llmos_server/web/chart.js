// A line chart over the last five minutes, drawn by hand, with a cursor for pointers and for the keyboard.

import { h, s, say, set } from "./dom.js";
import { clock, ticks } from "./format.js";
import { locale, t } from "./i18n.js";

export const SPAN = 300;
const HEIGHT = 172;
const EDGE = { left: 58, right: 10, top: 10, bottom: 24 };
const GAP = 5;
const MARKS = [-300, -240, -180, -120, -60, 0];

/** Chart of *series*, `[{label, tone, of}]`: `of(row)` is a number, or nothing where it is not known. */
export class LineChart {
  /** *format* writes a value with its unit, *axis* a tick of the axis; *steps* are its ticks up to a value. */
  constructor({ title, note = "", series, format, axis = format, least = 1, steps = ticks }) {
    Object.assign(this, { title, series, format, axis, least, steps, rows: [], now: 0, cursor: null });
    this.plot = s("svg", { "aria-hidden": "true", height: HEIGHT });
    this.reader = h("div", { class: "plot", role: "slider", tabindex: "0", "aria-label": `${title}. ${t("chart.keys")}`, "aria-valuemin": -SPAN, "aria-valuemax": 0, "aria-orientation": "horizontal" }, this.plot);
    this.values = series.map(() => h("b", {}));
    const swatch = ({ tone }, index) => s("svg", { class: `swatch tone-${tone} dash-${index}`, viewBox: "0 0 18 6", "aria-hidden": "true" }, s("path", { d: "M0 3H18" }));
    const legend = series.map((one, index) => h("span", {}, swatch(one, index), one.label, " ", this.values[index]));
    this.at = h("span", { class: "when" });
    const head = h("figcaption", {}, h("h2", {}, title), note && h("p", { class: "muted" }, note), h("p", { class: "keys" }, legend, this.at));
    this.element = h("figure", { class: "card chart" }, head, this.reader);
    this.#listen();
  }

  #listen() {
    this.reader.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    this.reader.addEventListener("pointerleave", () => this.#move(null));
    this.reader.addEventListener("blur", () => this.#move(null));
    this.reader.addEventListener("keydown", (event) => {
      const last = this.rows.length - 1;
      const here = this.cursor === null ? last : this.rows.findIndex((row) => row.at === this.cursor);
      const to = { ArrowLeft: here - 1, ArrowDown: here - 1, ArrowRight: here + 1, ArrowUp: here + 1, PageDown: here - 10, PageUp: here + 10, Home: 0, End: last }[event.key];
      if (to === undefined || last < 0) return;
      event.preventDefault();
      this.#move(this.rows[Math.max(0, Math.min(last, to))].at);
    });
    new ResizeObserver(() => this.#draw()).observe(this.reader);
  }

  /** Show *rows*, each with `at`, up to *now*. */
  show(rows, now) {
    this.rows = rows.filter((row) => row.at >= now - SPAN);
    this.now = now;
    if (this.cursor !== null && !this.rows.some((row) => row.at === this.cursor)) this.cursor = null;
    this.#draw();
  }

  #point(x) {
    const at = this.now - SPAN + ((x - EDGE.left) / this.#width()) * SPAN;
    const near = this.rows.reduce((best, row) => (Math.abs(row.at - at) < Math.abs(best - at) ? row.at : best), Infinity);
    this.#move(Number.isFinite(near) ? near : null);
  }

  #move(at) {
    this.cursor = at;
    this.#draw();
  }

  #width() {
    return Math.max(60, this.reader.clientWidth - EDGE.left - EDGE.right);
  }

  #draw() {
    const most = Math.max(this.least, ...this.rows.flatMap((row) => this.series.map(({ of }) => of(row) ?? 0)));
    const scale = this.steps(most);
    const x = (at) => EDGE.left + ((at - this.now + SPAN) / SPAN) * this.#width();
    const y = (value) => HEIGHT - EDGE.bottom - (value / scale.at(-1)) * (HEIGHT - EDGE.top - EDGE.bottom);
    set(this.plot, "width", this.reader.clientWidth);
    const lines = this.series.map(({ of, tone }, index) => s("path", { class: `series tone-${tone} dash-${index}`, d: path(this.rows, of, x, y) }));
    this.plot.replaceChildren(...this.#grid(scale, x, y), ...lines, ...this.#cursor(x, y));
    this.#tell();
  }

  #grid(scale, x, y) {
    const right = EDGE.left + this.#width();
    const rows = scale.flatMap((value) => [
      s("path", { class: "grid", d: `M${EDGE.left} ${y(value)}H${right}` }),
      s("text", { x: EDGE.left - 8, y: y(value) + 4, "text-anchor": "end" }, this.axis(value)),
    ]);
    const marks = this.#width() < 330 ? [-300, -150, 0] : MARKS;
    const times = marks.map((ago) => {
      const anchor = ago === 0 ? "end" : ago === -SPAN ? "start" : "middle";
      return s("text", { x: x(this.now + ago), y: HEIGHT - 6, "text-anchor": anchor }, ago ? t("chart.ago", { n: -ago / 60 }) : t("chart.now"));
    });
    return [...rows, ...times];
  }

  #cursor(x, y) {
    const row = this.cursor !== null && this.rows.find((one) => one.at === this.cursor);
    if (!row) return [];
    const rule = s("path", { class: "rule", d: `M${x(row.at)} ${EDGE.top}V${HEIGHT - EDGE.bottom}` });
    const known = this.series.filter(({ of }) => Number.isFinite(of(row)));
    return [rule, ...known.map(({ of, tone }) => s("circle", { class: `dot tone-${tone}`, cx: x(row.at), cy: y(of(row)), r: 4 }))];
  }

  #tell() {
    const row = this.rows.find((one) => one.at === this.cursor) ?? this.rows.at(-1);
    const told = this.series.map(({ of }) => this.format(row && of(row)));
    this.values.forEach((value, index) => say(value, told[index]));
    const when = this.cursor === null || !row ? "" : clock(row.at, locale());
    say(this.at, when);
    set(this.reader, "aria-valuenow", row ? Math.round(Math.max(-SPAN, Math.min(0, row.at - this.now))) : 0);
    set(this.reader, "aria-valuetext", [when || t("chart.now"), ...this.series.map(({ label }, index) => `${label} ${told[index]}`)].join(", "));
  }
}

/** Return the line of one series, which breaks where nothing is known. */
function path(rows, of, x, y) {
  let line = "";
  let last = -Infinity;
  for (const row of rows) {
    const value = of(row);
    if (!Number.isFinite(value)) continue;
    line += `${row.at - last > GAP ? "M" : "L"}${x(row.at).toFixed(1)} ${y(value).toFixed(1)}`;
    last = row.at;
  }
  return line;
}
