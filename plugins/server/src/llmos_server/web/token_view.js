// An answer whose tokens tell how likely they were.

import { h } from "./dom.js";
import { number, share } from "./format.js";
import { locale, t } from "./i18n.js";
import { sureness, visible } from "./tokens.js";

/** A text of tokens with one tab stop; the arrow keys go through it, and the line below tells of the one in hand. */
export class TokenView {
  constructor() {
    this.list = h("div", { class: "tokens", role: "group", "aria-label": t("tok.list") });
    this.told = h("div", { class: "told-token", "aria-live": "polite" }, h("p", { class: "muted" }, t("tok.hint")));
    const key = [3, 2, 1, 0].map((level) => h("span", { class: `sure-${level}` }, t(`tok.sure.${level}`)));
    const legend = h("p", { class: "legend" }, h("span", {}, t("tok.legend")), key);
    this.element = h("div", { class: "token-view" }, this.list, this.told, legend);
    this.parts = [];
    this.list.addEventListener("keydown", (event) => this.#key(event));
    for (const name of ["pointerover", "focusin", "click"]) this.list.addEventListener(name, (event) => this.#tell(event.target));
  }

  /** Show *parts*, of which only those that are new are added. */
  show(parts) {
    for (const part of parts.slice(this.parts.length)) {
      const index = this.parts.push(part) - 1;
      const level = sureness(Math.min(...part.entries.map((entry) => entry.logprob)));
      const first = index === 0 ? "0" : "-1";
      this.list.append(h("span", { class: `token sure-${level}`, role: "button", tabindex: first, "data-index": index }, part.text));
    }
  }

  #key(event) {
    const all = this.list.children;
    const at = Number(event.target.dataset.index);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + 5, ArrowUp: at - 5, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = all[Math.max(0, Math.min(all.length - 1, to))];
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  #tell(target) {
    const part = this.parts[target.dataset?.index];
    if (!part) return;
    this.list.querySelector(".is-told")?.classList.remove("is-told");
    target.classList.add("is-told");
    this.told.replaceChildren(...part.entries.map(describe));
  }
}

function describe(entry) {
  const others = (entry.top_logprobs ?? []).filter((other) => other.token !== entry.token);
  const line = h("p", {}, t("tok.value", { token: visible(entry.token), share: share(entry.logprob, locale()), logprob: number(entry.logprob, locale()) }));
  const rows = others.map((other) => h("li", {}, h("code", {}, visible(other.token)), ` ${share(other.logprob, locale())}`));
  return h("div", {}, line, rows.length > 0 && h("div", { class: "others" }, h("span", {}, t("tok.others")), h("ul", {}, rows)));
}
