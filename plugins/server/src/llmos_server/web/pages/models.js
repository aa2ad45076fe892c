// The models: what they are, whether they are in memory, and how fast they were.

import { call } from "../api.js";
import { h, keyed, say, set, toast } from "../dom.js";
import { advice } from "../errors.js";
import { Fetched } from "../fetched.js";
import * as format from "../format.js";
import { known, locale, t } from "../i18n.js";

const OFTEN = 10;

const number = (value) => format.number(value, locale());
const bytes = (value) => format.bytes(value, locale());

export class Models {
  constructor(live) {
    this.live = live;
    this.heard = -1;
    this.count = 0;
  }

  render() {
    this.list = h("ul", { class: "models" });
    this.empty = h("p", { class: "empty", hidden: true }, t("models.none"));
    this.limits = h("p", { class: "muted limits", role: "status", hidden: true }, t("models.limits"));
    this.fetched = new Fetched(() => "/v1/llmos/models", ({ data }) => this.#take(data));
    this.fetched.load();
    return h("div", { class: "page" }, h("div", { class: "row page-head" }, h("h1", {}, t("page.models"))), this.limits, this.fetched.box, this.list, this.empty);
  }

  #take(models) {
    this.busy = models.some((model) => model.state === "loading");
    this.empty.hidden = models.length > 0;
    keyed(this.list, models, (model) => model.name, (model) => new Card(model, () => this.fetched.load()));
    this.#permit();
  }

  /** Offer what the key allows, and say what it does not. */
  #permit() {
    const allowed = this.live.may("unload");
    this.limits.hidden = allowed !== false;
    for (const card of this.list.known?.values() ?? []) card.permit(allowed);
  }

  tick() {
    const { tick } = this.live;
    this.#permit();
    if (!tick) return;
    this.count += 1;
    const news = tick.changes.models !== this.heard || this.busy || this.count % OFTEN === 0;
    this.heard = tick.changes.models;
    if (news) this.fetched.load();
  }
}

/** One model. */
class Card {
  constructor(model, reload) {
    this.reload = reload;
    this.state = h("span", {});
    this.why = h("p", { class: "why", role: "status" });
    this.facts = h("dl", { class: "pairs" });
    this.button = h("button", { type: "button", onclick: () => this.#act() });
    const title = h("h2", {}, model.name);
    const about = model.description && h("p", { class: "muted" }, model.description);
    this.element = h("li", { class: "card model" }, h("div", { class: "row head" }, title, this.state, this.button), about, this.why, this.facts);
  }

  update(model) {
    this.model = model;
    set(this.state, "class", `badge model-${model.state}`);
    say(this.state, known("model", model.state));
    say(this.why, model.why ?? "");
    this.why.hidden = !model.why;
    const loads = !["loaded", "loading"].includes(model.state);
    const busy = model.state === "loading" || model.unfinished > 0;
    this.button.disabled = busy;
    set(this.button, "title", model.unfinished ? t("models.busy", { n: model.unfinished }) : null);
    set(this.button, "class", loads ? "main" : null);
    const label = t(loads ? "models.load" : model.state === "loading" ? "models.loading" : "models.unload");
    if (this.button.textContent !== label) this.button.replaceChildren(label);
    set(this.button, "aria-label", `${label}: ${model.name}`);
    this.unloads = model.state === "loaded";
    this.facts.replaceChildren(...facts(model).map(([key, value]) => h("div", {}, h("dt", {}, t(`models.${key}`)), h("dd", {}, value))));
  }

  /** *allowed* is whether the key may unload; null while nobody has said. */
  permit(allowed) {
    this.button.hidden = this.unloads && allowed !== true;
  }

  async #act() {
    const { name, state } = this.model;
    const verb = state === "loaded" ? "unload" : "load";
    const path = name.split("/").map(encodeURIComponent).join("/");
    this.button.disabled = true;
    try {
      await call(`/v1/llmos/models/${path}/${verb}`, { method: "POST" });
      toast(t(verb === "load" ? "models.begun" : "models.unloaded", { name }));
    } catch (failure) {
      toast(`${t(advice(failure).text)} ${failure.message ?? ""}`, "bad");
    }
    await this.reload();
  }
}

/** Return what is told of a model: pairs of a name and a text. */
function facts({ nbytes, footprint, executor, context, kinds, speed, backend, distribution, languages, license, aliases }) {
  const rate = (value) => (value ? t("unit.rate", { n: number(value) }) : t("models.unmeasured"));
  const memory = footprint && `${bytes(footprint.nbytes)} · ${footprint.device}`;
  const rows = [
    ["size", nbytes ? bytes(nbytes) : ""],
    ["memory", memory],
    ["provider", executor.provider],
    ["weights", executor.weights],
    ["decode", rate(speed.decode)],
    ["prefill", rate(speed.prefill)],
    ["context", context ? t("chat.tokens", { n: context }) : ""],
    ["kinds", kinds.map((kind) => known("kind", kind)).join(", ")],
    ["languages", languages?.join(", ")],
    ["backend", [backend, distribution].filter(Boolean).join(" · ")],
    ["aliases", aliases?.join(", ")],
    ["license", license],
  ];
  return rows.filter(([, value]) => value);
}
