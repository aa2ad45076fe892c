// A part of a page that is asked of the server: loading, failed with the next step, or there.

import { call } from "./api.js";
import { h } from "./dom.js";
import { advice } from "./errors.js";
import { t } from "./i18n.js";

/** What a route answers; one question at a time, and only the latest answer counts. */
export class Fetched {
  /** *path* returns what to ask, *paint* shows the answer; *box* shows that there is none yet, or why. */
  constructor(path, paint) {
    this.path = path;
    this.paint = paint;
    this.box = h("div", { class: "fetched" }, h("p", { class: "muted wait" }, t("loading")));
    this.asked = null;
  }

  /** Ask, unless the same is being asked; an answer to another question is forgotten. */
  async load() {
    const path = this.path();
    if (this.asked === path) return;
    this.asked = path;
    try {
      const found = await call(path);
      if (this.asked !== path) return;
      this.box.replaceChildren();
      this.paint(found);
    } catch (failure) {
      if (this.asked === path) this.box.replaceChildren(this.#failed(failure));
    } finally {
      if (this.asked === path) this.asked = null;
    }
  }

  #failed(failure) {
    const again = h("button", { type: "button", onclick: () => this.load() }, t("step.again"));
    return h("div", { class: "failure", role: "alert" }, h("p", {}, t(advice(failure).text)), failure.message && h("p", { class: "told" }, failure.message), again);
  }
}
