// Tasks, each with the time line of its life.

import { call } from "../api.js";
import { choice } from "../choice.js";
import { h, icon, keyed, say, set, toast } from "../dom.js";
import { advice } from "../errors.js";
import { Fetched } from "../fetched.js";
import * as format from "../format.js";
import { known, locale, t } from "../i18n.js";
import { pauseButton } from "../pause.js";

const STATES = ["all", "live", "done", "failed", "cancelled"];
const PHASES = ["queued", "prefill", "decode", "preempted", "stalled"];
const ENDED = ["done", "failed", "cancelled"];
const LIMIT = 200;

const seconds = (value) => format.seconds(value, locale());

export class Tasks {
  constructor(live) {
    this.live = live;
    this.filter = { state: "all", model: "", kind: "" };
    this.stretch = false;
    this.names = { model: new Set(), kind: new Set() };
    this.known = { tasks: -1, live: 0 };
  }

  render() {
    this.rows = [];
    this.list = h("ul", { class: "tasks" });
    this.scale = h("p", { class: "muted scale" });
    this.more = h("p", { class: "muted" });
    this.empty = h("p", { class: "empty" });
    this.fetched = new Fetched(() => this.#path(), (found) => this.#take(found));
    this.choices = Object.fromEntries(["model", "kind"].map((name) => [name, this.#choice(name)]));
    this.#offer();
    const head = h("div", { class: "row page-head" }, h("h1", { class: "grow" }, t("page.tasks")), pauseButton(this.live));
    const filters = h("div", { class: "row filters" }, this.#states(), this.choices.model.element, this.choices.kind.element, this.#stretch());
    this.fetched.load();
    return h("div", { class: "page" }, head, filters, h("div", { class: "row under" }, legend(), this.scale), this.fetched.box, this.list, this.empty, this.more);
  }

  #states() {
    const option = (name) => {
      const pick = () => this.#set("state", name);
      return h("label", {}, h("input", { type: "radio", name: "state", value: name, checked: name === this.filter.state, onchange: pick }), h("span", {}, t(`state.${name}`)));
    };
    return h("fieldset", { class: "segments" }, h("legend", { class: "sr" }, t("tasks.state")), STATES.map(option));
  }

  #choice(name) {
    return choice({ "aria-label": t(`tasks.${name}`), onchange: (event) => this.#set(name, event.target.value) });
  }

  #offer() {
    for (const [name, { select, offer }] of Object.entries(this.choices)) {
      const values = ["", ...[...this.names[name]].sort()];
      if (select.options.length === values.length) continue;
      offer(values.map((value) => h("option", { value, selected: value === this.filter[name] }, value || t(`tasks.${name}.all`))));
    }
  }

  #stretch() {
    const changed = (event) => {
      this.stretch = event.target.checked;
      this.#paint();
    };
    return h("label", { class: "row" }, h("input", { type: "checkbox", checked: this.stretch, onchange: changed }), t("tasks.stretch"));
  }

  #set(name, value) {
    this.filter[name] = value;
    this.fetched.load();
  }

  #path() {
    const query = new URLSearchParams({ limit: LIMIT, state: this.filter.state });
    for (const name of ["model", "kind"]) if (this.filter[name]) query.set(name, this.filter[name]);
    return `/v1/llmos/tasks?${query}`;
  }

  tick() {
    const { tick } = this.live;
    if (!tick || this.live.paused) return;
    const alive = Object.values(tick.tasks).reduce((sum, count) => sum + count, 0);
    const news = tick.changes.tasks !== this.known.tasks || alive > 0 || this.known.live > 0;
    this.known = { tasks: tick.changes.tasks, live: alive };
    if (news) this.fetched.load();
  }

  #take({ data, more, heard }) {
    this.rows = data;
    for (const task of data) for (const name of ["model", "kind"]) this.names[name].add(task[name]);
    this.#offer();
    const filtered = this.filter.state !== "all" || this.filter.model || this.filter.kind;
    this.empty.hidden = data.length > 0;
    say(this.empty, t(filtered ? "tasks.none.filter" : heard ? "tasks.none" : "tasks.none.deaf"));
    this.more.hidden = !more;
    say(this.more, more ? t("tasks.more", { n: more }) : "");
    this.#paint();
  }

  #paint() {
    const longest = Math.max(0.001, ...this.rows.map((task) => task.age));
    this.scale.hidden = !this.rows.length;
    say(this.scale, this.stretch ? t("tasks.scale.each") : t("tasks.scale", { time: seconds(longest) }));
    this.list.classList.toggle("has-live", this.rows.some((task) => !ENDED.includes(task.state)));
    keyed(this.list, this.rows, (task) => task.id, (task) => new Row(task, Boolean(this.live.you?.operator), () => this.fetched.load()));
    for (const task of this.rows) this.list.known.get(task.id).scale(this.stretch ? task.age : longest);
  }
}

/** One task of the list. */
class Row {
  /** *everybody* is whether tasks of several tenants are here, so that each says whose it is. */
  constructor(task, everybody, reload) {
    this.everybody = everybody;
    this.reload = reload;
    this.state = h("span", {});
    this.bar = h("div", { class: "bar-line" });
    this.parts = h("p", { class: "parts" });
    this.facts = h("p", { class: "facts" });
    this.tools = h("div", { class: "row tools" });
    const name = h("p", { class: "name" }, h("b", {}, `#${task.id}`), " ", task.model);
    this.element = h("li", { class: "task" }, name, this.state, h("div", { class: "life" }, this.bar, this.parts), this.facts, this.tools);
    if (!ENDED.includes(task.state)) this.#makeTools(task);
  }

  #makeTools(task) {
    const cancel = h("button", { type: "button", class: "danger", "aria-label": t("tasks.cancel.one", { id: `${task.id}` }), onclick: () => this.#cancel(task.id) }, icon("close"), t("tasks.cancel"));
    this.priority = h("input", { type: "number", min: -1000, max: 1000, step: 1, value: task.priority ?? 0, "aria-label": t("tasks.priority.one", { id: `${task.id}` }), onchange: () => this.#prioritise(task.id) });
    this.tools.append(h("label", { class: "row priority" }, h("span", {}, t("tasks.priority")), this.priority), cancel);
  }

  async #do(work, told) {
    try {
      await work();
      toast(told);
    } catch (failure) {
      toast(`${t(advice(failure).text)} ${failure.message ?? ""}`, "bad");
    }
    this.reload();
  }

  #cancel(id) {
    return this.#do(() => call(`/v1/llmos/tasks/${id}/cancel`, { method: "POST" }), t("tasks.cancelled", { id: `${id}` }));
  }

  #prioritise(id) {
    const priority = Number(this.priority.value);
    return this.#do(() => call(`/v1/llmos/tasks/${id}`, { method: "PATCH", body: { priority } }), t("tasks.prioritised", { id: `${id}`, n: priority }));
  }

  update(task) {
    this.task = task;
    this.element.dataset.id = task.id;
    set(this.state, "class", `badge state-${task.state}`);
    say(this.state, known("state", task.state));
    const told = task.timeline.filter((part) => part.seconds > 0).map((part) => `${known("phase", part.phase)} ${seconds(part.seconds)}`).join(" · ");
    say(this.parts, task.error ? `${told} · ${task.error}` : told);
    const { prompt, cached, generated } = task;
    const tokens = t(cached ? "tasks.tokens.cached" : "tasks.tokens", { prompt, cached, generated });
    say(this.facts, [known("kind", task.kind), seconds(task.age), tokens, this.everybody && task.tenant].filter(Boolean).join(" · "));
    if (ENDED.includes(task.state)) this.tools.replaceChildren();
  }

  /** Draw the bar so that *full* seconds fill it. */
  scale(full) {
    const parts = this.task.timeline.filter((part) => part.seconds > 0);
    const spans = parts.map((part) => h("i", { class: `phase-${part.phase}`, vars: { part: part.seconds / Math.max(full, 1e-9) }, title: `${known("phase", part.phase)} ${seconds(part.seconds)}` }));
    this.bar.replaceChildren(...spans);
    set(this.bar, "aria-hidden", "true"); // the line below says the same in words
  }
}

function legend() {
  return h("p", { class: "legend phases" }, h("span", { class: "sr" }, t("tasks.legend")), PHASES.map((name) => h("span", {}, h("i", { class: `phase-${name}`, "aria-hidden": "true" }), t(`phase.${name}`))));
}
