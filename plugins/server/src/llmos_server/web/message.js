// One message of a conversation, which may still grow.

import { advice } from "./errors.js";
import { h, icon, say, toast } from "./dom.js";
import * as format from "./format.js";
import { locale, t } from "./i18n.js";
import { blocks, inline } from "./prose.js";
import { TokenView } from "./token_view.js";

export class MessageView {
  /** *actions* are `{copy?, again, take, step}`: what the page does when asked. */
  constructor(message, model, actions) {
    this.message = message;
    this.actions = actions;
    this.body = h("div", { class: "said" });
    this.foot = h("div", { class: "foot" });
    this.tokens = null;
    const who = message.role === "user" ? t("chat.you") : model;
    this.element = h("article", { class: `message ${message.role}` }, h("h3", {}, who), this.body, this.foot);
    this.paint();
  }

  /** Show what the message says now. */
  paint() {
    const { message } = this;
    this.element.classList.toggle("working", Boolean(message.working));
    this.element.setAttribute("aria-busy", String(Boolean(message.working)));
    if (message.parts?.length) this.#paintTokens();
    else if (message.role === "user") say(this.body, message.content);
    else if (message.content) this.body.replaceChildren(...blocks(message.content).map(block));
    else this.body.replaceChildren(message.working ? h("p", { class: "muted wait" }, t("chat.loading")) : "");
    if (!message.working) this.foot.replaceChildren(...this.#footing());
  }

  #paintTokens() {
    if (!this.tokens) {
      this.tokens = new TokenView();
      this.body.replaceChildren(this.tokens.element);
    }
    this.tokens.show(this.message.parts);
  }

  #footing() {
    const { message, actions } = this;
    const found = [];
    if (message.failure) found.push(this.#failure(message.failure));
    if (message.role === "assistant") {
      const facts = stats(message);
      if (facts) found.push(h("p", { class: "stats" }, facts));
    }
    const tools = h("div", { class: "tools" });
    if (message.content) tools.append(tool("copy", t("chat.copy"), () => copy(message.content)));
    if (actions.take && message.content) tools.append(tool("plus", t("chat.take"), actions.take));
    if (actions.again) tools.append(tool("again", t("chat.again"), actions.again));
    if (tools.children.length) found.push(tools);
    return found;
  }

  #failure(failure) {
    const { text, step } = advice(failure);
    const wait = failure.retryAfter ? t("error.wait", { n: failure.retryAfter }) : "";
    const button = step && h("button", { type: "button", onclick: () => this.actions.step(step) }, t(`step.${step}`));
    return h(
      "div", { class: "failure" },
      h("p", {}, t(text), " ", wait),
      failure.message && h("p", { class: "told" }, failure.message),
      button,
    );
  }
}

function block({ kind, lang, text }) {
  if (kind === "code") {
    const copies = h("button", { type: "button", class: "quiet", "aria-label": t("chat.copy"), title: t("chat.copy"), onclick: () => copy(text) }, icon("copy"));
    return h("div", { class: "code" }, h("div", { class: "bar" }, h("span", {}, lang), copies), h("pre", { tabindex: "0" }, h("code", {}, text)));
  }
  const tags = { code: "code", strong: "strong" };
  return h("p", {}, inline(text).map((part) => (part.kind === "text" ? part.text : h(tags[part.kind], {}, part.text))));
}

function tool(symbol, label, onclick) {
  return h("button", { type: "button", class: "quiet", title: label, "aria-label": label, onclick }, icon(symbol));
}

function stats({ stats: facts, stopped }) {
  if (!facts) return stopped ? t("chat.stopped") : "";
  const parts = [
    facts.tokens !== undefined && t("chat.tokens", { n: facts.tokens }),
    facts.first !== undefined && t("chat.first", { time: format.seconds(facts.first, locale()) }),
    facts.rate !== undefined && t("chat.rate", { rate: format.number(facts.rate, locale()) }),
    facts.finish && ["length"].includes(facts.finish) && t(`chat.finish.${facts.finish}`),
    stopped && t("chat.stopped"),
  ];
  return parts.filter(Boolean).join(" · ");
}

/** Put *text* on the clipboard, and say whether that worked. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast(t("chat.copied"));
  } catch {
    toast(t("chat.copy.failed"), "bad"); // pages over plain HTTP from another machine may not
  }
}
