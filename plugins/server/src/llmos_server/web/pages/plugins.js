// The plugins: which there are, in which state, and why one cannot be used.

import { h, icon } from "../dom.js";
import { Fetched } from "../fetched.js";
import * as format from "../format.js";
import { known, locale, t } from "../i18n.js";

const VIEWS = ["all", "active", "problems"];
const PROBLEMS = ["failed", "incompatible"];

export class Plugins {
  constructor(live) {
    this.live = live;
    this.view = "all";
    this.words = "";
    this.all = [];
    this.heard = -1;
  }

  render() {
    this.groups = h("div", { class: "groups" });
    this.limits = h("p", { class: "muted limits", role: "status", hidden: true }, t("plugins.limits"));
    this.counted = h("p", { class: "muted", role: "status" });
    this.fetched = new Fetched(() => "/v1/llmos/plugins", ({ data }) => {
      this.all = data;
      this.#paint();
    });
    this.fetched.load();
    this.#permit();
    const find = (event) => {
      this.words = event.target.value.toLowerCase();
      this.#paint();
    };
    const search = h("input", { type: "search", "aria-label": t("plugins.find"), placeholder: t("plugins.find"), value: this.words, oninput: find });
    const head = h("div", { class: "row page-head" }, h("h1", {}, t("page.plugins")));
    return h("div", { class: "page" }, head, h("div", { class: "row filters" }, this.#views(), search, this.counted), this.limits, this.fetched.box, this.groups);
  }

  #views() {
    const option = (name) => {
      const pick = () => {
        this.view = name;
        this.#paint();
      };
      return h("label", {}, h("input", { type: "radio", name: "view", value: name, checked: name === this.view, onchange: pick }), h("span", {}, t(`plugins.view.${name}`)));
    };
    return h("fieldset", { class: "segments" }, h("legend", { class: "sr" }, t("plugins.view")), VIEWS.map(option));
  }

  #permit() {
    this.limits.hidden = this.live.may("reasons") !== false;
  }

  tick() {
    this.#permit();
    const changed = this.live.tick?.changes.plugins;
    if (changed === undefined || changed === this.heard) return;
    this.heard = changed;
    this.fetched.load();
  }

  #paint() {
    const shown = this.all.filter((plugin) => this.#wanted(plugin));
    const kinds = [...new Set(shown.map((plugin) => plugin.kind))].sort();
    this.counted.textContent = t("plugins.count", { n: shown.length, all: this.all.length });
    const group = (kind) => h("section", { class: "card" }, h("h2", {}, known("plugin", kind)), h("ul", { class: "plugins" }, shown.filter((plugin) => plugin.kind === kind).map(row)));
    if (shown.length) this.groups.replaceChildren(...kinds.map(group));
    else this.groups.replaceChildren(h("p", { class: "empty" }, this.view === "problems" && !this.words ? t("plugins.well") : t("plugins.none")));
  }

  #wanted({ state, name, kind, distribution, why }) {
    if (this.view === "active" && state !== "active") return false;
    if (this.view === "problems" && !PROBLEMS.includes(state)) return false;
    return `${kind} ${name} ${distribution} ${why}`.toLowerCase().includes(this.words);
  }
}

function row({ name, state, why, needs, distribution, version, value, seconds }) {
  const took = seconds > 0 ? t("plugins.took", { time: format.seconds(seconds, locale()) }) : "";
  const facts = [[distribution, version].filter(Boolean).join(" "), value, took].filter(Boolean).join(" · ");
  return h(
    "li", {},
    h("div", { class: "row" }, h("b", {}, name), h("span", { class: `badge plugin-${state}` }, PROBLEMS.includes(state) && icon("alert"), known("plugin-state", state))),
    facts && h("p", { class: "muted" }, facts),
    why && h("p", { class: PROBLEMS.includes(state) ? "why" : "muted" }, why), // who blocks one means it
    needs && h("p", { class: "why" }, t("plugins.needs", { needs })),
  );
}
