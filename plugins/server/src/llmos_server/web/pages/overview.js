// How the server does: what it makes, who waits, how long, and in how much memory.

import { LineChart } from "../chart.js";
import { h, say } from "../dom.js";
import * as format from "../format.js";
import { locale, t } from "../i18n.js";
import { pauseButton } from "../pause.js";

const QUANTILES = ["p50", "p95", "p99"];
const WAITS = ["first", "between", "whole"];
const TONES = [1, 2, 3];

const number = (value) => format.number(value, locale());
const seconds = (value) => format.seconds(value, locale());
const bytes = (value) => format.bytes(value, locale());

export class Overview {
  constructor(live) {
    this.live = live;
    this.wait = "first";
  }

  render() {
    this.devices = "";
    this.tiles = h("dl", { class: "tiles" });
    this.charts = h("div", { class: "charts" });
    this.table = h("tbody", {});
    this.#makeTiles();
    const head = h("div", { class: "row page-head" }, h("h1", { class: "grow" }, t("page.overview")), pauseButton(this.live));
    const page = h("div", { class: "overview" }, head, this.tiles, this.charts);
    this.waits = this.#latencies();
    this.#makeCharts();
    this.tick();
    return page;
  }

  #makeTiles() {
    this.figures = {};
    const tile = (name) => {
      this.figures[name] = { value: h("b", {}), note: h("span", { class: "muted" }) };
      return h("div", { class: "tile" }, h("dt", {}, t(`tile.${name}`)), h("dd", {}, this.figures[name].value, this.figures[name].note));
    };
    this.tiles.append(...["generated", "running", "waiting", "first", "memory"].map(tile));
  }

  #makeCharts() {
    const rate = (value) => t("unit.rate", { n: number(value) });
    const line = (label, tone, of) => ({ label: t(label), tone, of });
    const devices = Object.keys(this.live.tick?.devices ?? { cpu: {} });
    this.throughput = new LineChart({
      title: t("chart.throughput"), note: t("chart.throughput.why"), format: rate, axis: number,
      series: [line("chart.generated", 1, (row) => row.generated)],
    });
    this.prompts = new LineChart({
      title: t("chart.prompts"), note: t("chart.throughput.why"), format: rate, axis: number,
      series: [line("chart.prompt", 2, (row) => row.prompt)],
    });
    this.queue = new LineChart({
      title: t("chart.queue"), note: t("chart.queue.why"), format: number, least: 4,
      series: [line("chart.running", 1, (row) => row.running), line("chart.waiting", 2, (row) => row.waiting)],
    });
    this.latency = new LineChart({
      title: t("chart.latency"), note: t("chart.latency.why"), format: seconds, least: 0.001,
      series: QUANTILES.map((name, index) => ({ label: name, tone: TONES[index], of: (row) => row.latency?.[this.wait][name] ?? undefined })),
    });
    this.memory = new LineChart({
      title: t("chart.memory"), note: t("chart.memory.why"), format: bytes, least: 2 ** 20, steps: format.binaryTicks,
      series: devices.slice(0, TONES.length).map((name, index) => ({ label: name, tone: TONES[index], of: (row) => row.used?.[name] })),
    });
    this.devices = devices.join();
    const pick = h("select", { "aria-label": t("chart.latency.pick"), onchange: (event) => this.#choose(event.target.value) },
      WAITS.map((name) => h("option", { value: name, selected: name === this.wait }, t(`wait.${name}`))));
    this.latency.element.querySelector("h2").after(pick);
    this.all = [this.throughput, this.prompts, this.queue, this.latency, this.memory];
    this.charts.replaceChildren(...this.all.map((chart) => chart.element), this.waits);
  }

  #choose(name) {
    this.wait = name;
    this.#paintCharts();
  }

  #latencies() {
    const head = h("tr", {}, h("th", { scope: "col" }, t("wait.what")), QUANTILES.map((name) => h("th", { scope: "col", class: "num" }, name)), h("th", { scope: "col", class: "num" }, t("wait.count")));
    const table = h("table", {}, h("caption", {}, h("h2", {}, t("wait.title")), h("p", { class: "muted" }, t("wait.why"))), h("thead", {}, head), this.table);
    return h("div", { class: "card" }, table);
  }

  tick() {
    const { tick } = this.live;
    if (!tick || this.live.paused) return;
    if (this.devices !== Object.keys(tick.devices).join()) this.#makeCharts();
    this.#paintTiles(tick);
    this.#paintCharts();
    const row = (name) => {
      const found = tick.latency[name];
      return h("tr", {}, h("th", { scope: "row" }, t(`wait.${name}`)), QUANTILES.map((key) => h("td", { class: "num" }, seconds(found[key]))), h("td", { class: "num" }, number(found.count)));
    };
    this.table.replaceChildren(...WAITS.map(row));
  }

  #paintCharts() {
    const now = this.live.tick?.rates.at ?? Date.now() / 1000;
    for (const chart of this.all) chart.show(this.live.rows, now);
  }

  #paintTiles({ rates, latency, devices }) {
    const used = Object.values(devices).reduce((sum, device) => sum + device.used, 0);
    const limit = Object.values(devices).reduce((sum, device) => sum + (device.limit ?? 0), 0);
    const facts = {
      generated: [number(rates.generated), t("tile.generated.unit")],
      running: [number(rates.running), rates.preempted ? t("tile.preempted", { n: rates.preempted }) : ""],
      waiting: [number(rates.waiting), ""],
      first: [seconds(latency.first.p95), t("tile.first.note", { time: seconds(latency.first.p50) })],
      memory: [bytes(used), limit ? t("tile.of", { size: bytes(limit) }) : ""],
    };
    for (const [name, [value, note]] of Object.entries(facts)) {
      say(this.figures[name].value, value);
      say(this.figures[name].note, note);
    }
  }
}
