// The playground: conversations and texts to be continued.

import { call, stream } from "../api.js";
import { choice } from "../choice.js";
import { announce, h, icon, toast } from "../dom.js";
import { advice } from "../errors.js";
import { line } from "../format.js";
import { t } from "../i18n.js";
import { MessageView } from "../message.js";
import { panel } from "../panel.js";
import { settings } from "../settings.js";
import { Chats, request, Settings } from "../store.js";
import { fromCompletion, Reader, split } from "../tokens.js";

const ROUTES = { chat: "/v1/chat/completions", text: "/v1/completions" };
const KINDS = { chat: "chat", text: "generate" };
const SPOKEN = 400;
/** Seconds that pieces must take to come, before they say something of a speed. */
const MEASURED = 0.05;

export class Chat {
  constructor() {
    this.chats = new Chats(localStorage);
    this.settings = new Settings(localStorage);
    this.models = null;
    this.draft = "";
    this.abort = null;
    this.begin("chat");
  }

  /** Begin an empty conversation. */
  begin(mode) {
    this.stop();
    this.chat = { id: crypto.randomUUID?.() ?? String(Math.random()), mode, title: "", messages: [] };
  }

  // --- the page

  render() {
    this.list = h("ul", { class: "chats" });
    this.past = panel("history", t("chat.history"), "history", this.#pastTools(), this.list);
    this.side = panel("settings", t("chat.settings"), "sliders", settings(this.settings));
    this.log = h("div", { class: "log", tabindex: "-1" });
    this.log.addEventListener("scroll", () => (this.pinned = atEnd(this.log)));
    this.pinned = true;
    const middle = h("section", { class: "talk", "aria-label": t("page.chat") }, this.#bar(), this.log, this.#composer());
    this.#paintList();
    this.#paintLog();
    this.#loadModels();
    const onkeydown = (event) => event.key === "Escape" && !event.isComposing && this.stop();
    return h("div", { class: "chat", onkeydown }, h("h1", { class: "sr" }, t("page.chat")), this.past.element, middle, this.side.element);
  }

  #bar() {
    const mode = (name) => {
      const pick = () => {
        this.begin(name);
        this.#again();
      };
      const radio = h("input", { type: "radio", name: "mode", value: name, checked: this.chat.mode === name, onchange: pick });
      return h("label", {}, radio, h("span", {}, t(`chat.mode.${name}`)));
    };
    const modes = h("fieldset", { class: "segments" }, h("legend", { class: "sr" }, t("chat.mode")), ["chat", "text"].map(mode));
    const chosen = (event) => {
      this.settings.set("model", event.target.value);
      if (!this.chat.messages.length) this.#paintLog();
    };
    this.model = choice({ id: "model", "aria-label": t("chat.model"), onchange: chosen });
    return h("div", { class: "row bar" }, this.model.element, modes, h("span", { class: "grow" }), this.past.button, this.side.button);
  }

  #composer() {
    const text = this.chat.mode === "text";
    const grow = () => {
      this.draft = this.field.value;
      this.field.style.height = "auto";
      this.field.style.height = `${Math.min(this.field.scrollHeight + 2, window.innerHeight * 0.4)}px`;
    };
    this.field = h("textarea", { id: "message", rows: text ? 4 : 1, "aria-label": t(text ? "chat.prompt" : "chat.message"), "aria-describedby": "hint", oninput: grow, value: this.draft, placeholder: t(text ? "chat.prompt" : "chat.message") });
    this.field.addEventListener("keydown", (event) => {
      const sends = text ? event.ctrlKey || event.metaKey : !event.shiftKey;
      if (event.key !== "Enter" || event.isComposing || !sends) return; // an input method ends its word with Enter, too
      event.preventDefault();
      this.send();
    });
    this.button = h("button", { class: "main send" });
    const submit = (event) => {
      event.preventDefault();
      if (this.abort) this.stop();
      else this.send();
    };
    const form = h("form", { class: "composer", onsubmit: submit }, this.field, this.button, h("p", { class: "hint", id: "hint" }, t(text ? "chat.hint.text" : "chat.hint")));
    this.#paintButton();
    requestAnimationFrame(grow);
    return form;
  }

  #pastTools() {
    const fresh = () => {
      this.begin(this.chat.mode);
      this.#again();
      this.field.focus();
    };
    const clear = () => {
      if (!window.confirm(t("chat.clear.sure"))) return;
      this.chats.clear();
      this.#paintList();
    };
    const label = t("chat.clear");
    const begin = h("button", { type: "button", class: "grow", onclick: fresh }, icon("plus"), t("chat.new"));
    this.clear = h("button", { type: "button", class: "quiet", "aria-label": label, title: label, onclick: clear }, icon("trash"));
    return h("div", { class: "row tools" }, begin, this.clear);
  }

  #again() {
    this.past.shut();
    document.getElementById("main").replaceChildren(this.render());
  }

  // --- painting

  #paintButton() {
    const busy = Boolean(this.abort);
    const label = t(busy ? "chat.stop" : this.chat.mode === "text" ? "chat.continue" : "chat.send");
    this.button.classList.toggle("stop", busy);
    this.button.setAttribute("aria-label", label); // a phone shows no word
    this.button.replaceChildren(icon(busy ? "stop" : "send"), h("span", {}, label));
  }

  #paintList() {
    const row = (chat) => {
      const title = chat.title || t("chat.untitled");
      const open = () => {
        this.begin(chat.mode);
        this.chat = chat;
        this.#again();
      };
      const drop = () => {
        this.chats.remove(chat.id);
        this.#paintList();
      };
      const opener = h("button", { type: "button", class: "open", onclick: open, "aria-current": chat.id === this.chat.id && "true" }, title);
      return h("li", {}, opener, h("button", { type: "button", class: "quiet", "aria-label": t("chat.delete", { title }), onclick: drop }, icon("close")));
    };
    this.clear.hidden = !this.chats.all.length;
    if (this.chats.all.length) this.list.replaceChildren(...this.chats.all.map(row));
    else this.list.replaceChildren(h("li", { class: "muted" }, t("chat.none")));
  }

  #paintLog() {
    this.views = this.chat.messages.map((message, index) => this.#view(message, index === this.chat.messages.length - 1));
    const model = this.settings.values.model || "llmos";
    const text = t(this.chat.mode === "text" ? "chat.empty.text" : "chat.empty", { model });
    if (this.views.length) this.log.replaceChildren(...this.views.map((view) => view.element));
    else this.log.replaceChildren(h("p", { class: "empty" }, text));
    this.#follow(true);
  }

  #view(message, last) {
    const answer = message.role === "assistant";
    return new MessageView(message, message.model ?? this.chat.model ?? "", {
      again: answer && last ? () => this.regenerate() : null,
      take: answer && this.chat.mode === "text" ? () => this.take(message) : null,
      step: (name) => this.step(name, message.failure.param),
    });
  }

  #follow(always = false) {
    if (always || this.pinned) this.log.scrollTop = this.log.scrollHeight;
  }

  async #loadModels() {
    try {
      this.models = (await call("/v1/llmos/models")).data;
    } catch (failure) {
      toast(t(advice(failure).text), "bad");
      return;
    }
    const fit = this.models.filter((model) => model.kinds.includes(KINDS[this.chat.mode]));
    if (!fit.some((model) => model.name === this.settings.values.model)) this.settings.set("model", fit[0]?.name ?? "");
    const option = ({ name }) => h("option", { value: name, selected: name === this.settings.values.model }, name);
    this.model.offer(fit.length ? fit.map(option) : [h("option", { value: "" }, t("chat.nomodel"))]);
    if (!this.chat.messages.length) this.#paintLog();
  }

  // --- asking

  send() {
    const text = this.field.value;
    if (this.abort || !text.trim() || !this.settings.values.model) return;
    this.chat.messages.push({ role: "user", content: text });
    this.chat.title ||= line(text, 60);
    if (this.chat.mode === "chat") {
      this.draft = this.field.value = "";
      this.field.style.height = "auto";
    }
    this.#ask(text);
  }

  regenerate() {
    if (this.abort) return;
    this.chat.messages.pop();
    this.#ask(this.chat.messages.at(-1).content);
  }

  /** Put an answer behind the text that it continues. */
  take(message) {
    const prompt = this.chat.messages[this.chat.messages.indexOf(message) - 1];
    this.draft = this.field.value = prompt.content + message.content;
    this.field.dispatchEvent(new Event("input"));
    this.field.focus();
  }

  stop() {
    this.abort?.abort();
  }

  /** Go where a failure is mended; *param* is the field that it named. */
  step(name, param) {
    if (name === "models") location.hash = "#/models";
    else if (name === "settings") this.#openSettings(param);
    else this.regenerate();
  }

  #openSettings(param) {
    if (!this.side.element.open) this.side.element.showModal();
    (document.getElementById(`set-${param}`) ?? document.getElementById("set-system")).focus();
  }

  async #ask(prompt) {
    const { chat } = this;
    const talk = chat.mode === "chat";
    const asked = talk ? chat.messages.filter((message) => message.content) : null;
    const body = request(this.settings.values, asked, prompt);
    const answer = { role: "assistant", content: "", model: body.model, working: true, parts: [] };
    chat.model = body.model;
    chat.messages.push(answer);
    this.abort = new AbortController();
    this.#paintLog();
    this.#paintButton();
    announce(t("chat.working"));
    await this.#hear(answer, ROUTES[chat.mode], body, this.abort.signal);
    answer.working = false;
    this.abort = null;
    this.chats.keep(chat);
    this.#paintList();
    this.#paintButton();
    if (chat === this.chat) this.#paintLog();
    const end = answer.failure ? t(advice(answer.failure).text) : t("chat.answered", { model: answer.model, text: line(answer.content, SPOKEN) });
    announce(end);
  }

  async #hear(answer, route, body, signal) {
    const began = performance.now();
    const reader = new Reader();
    let first = null;
    try {
      for await (const chunk of stream(route, { method: "POST", body, signal, whole: true })) {
        const heard = take(answer, chunk, reader);
        if (heard) first ??= performance.now();
        if (heard) this.#paintSoon(answer);
      }
    } catch (failure) {
      if (signal.aborted) answer.stopped = true;
      else answer.failure = failure;
    }
    const { tokens, finish } = answer.stats ?? {};
    if (first === null) return;
    const spoke = (performance.now() - first) / 1000;
    const rate = tokens > 1 && spoke > MEASURED ? (tokens - 1) / spoke : undefined;
    answer.stats = { tokens, finish, first: (first - began) / 1000, rate };
  }

  /** Paint at most once a frame, however fast the pieces come. */
  #paintSoon(answer) {
    if (this.planned) return;
    this.planned = true;
    requestAnimationFrame(() => {
      this.planned = false;
      this.views.find((view) => view.message === answer)?.paint();
      this.#follow();
    });
  }
}

const atEnd = (box) => box.scrollHeight - box.scrollTop - box.clientHeight < 40;

/** Add a chunk of a stream to the answer; say whether it said anything. */
function take(answer, chunk, reader) {
  if (chunk.usage) answer.stats = { ...answer.stats, tokens: chunk.usage.completion_tokens };
  const [choice] = chunk.choices;
  if (!choice) return false;
  if (choice.finish_reason) answer.stats = { ...answer.stats, finish: choice.finish_reason };
  const text = choice.delta?.content ?? choice.text ?? "";
  const entries = choice.logprobs?.content ?? fromCompletion(choice.logprobs);
  if (entries.length) answer.parts.push(...split(text, entries, reader));
  answer.content += text;
  return text !== "";
}
