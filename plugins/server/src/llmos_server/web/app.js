// The frame: pages by the address after #, language, theme, and the key.

import { forgetKey, hasKey, onKeyNeeded } from "./api.js";
import { announce, h, icon, say, set } from "./dom.js";
import { choose, current, LANGUAGES, locale, preferred, t } from "./i18n.js";
import { Live } from "./live.js";
import { Chat } from "./pages/chat.js";
import { Models } from "./pages/models.js";
import { Overview } from "./pages/overview.js";
import { Plugins } from "./pages/plugins.js";
import { Results } from "./pages/results.js";
import { Tasks } from "./pages/tasks.js";

const LANGUAGE = "llmos.language";
const THEME = "llmos.theme";
const THEMES = { auto: "auto", light: "sun", dark: "moon" };

const live = new Live();
const pages = {
  chat: new Chat(),
  overview: new Overview(live),
  tasks: new Tasks(live),
  models: new Models(live),
  plugins: new Plugins(live),
  results: new Results(live),
};
let shown = null;
const frame = {};

// --- pages

const wanted = () => (location.hash.slice(2) in pages ? location.hash.slice(2) : Object.keys(pages)[0]);

function show(moved = true) {
  const name = wanted();
  shown?.leave?.();
  shown = pages[name];
  document.title = `${t(`page.${name}`)} · llmos`;
  for (const link of frame.nav.querySelectorAll("a")) set(link, "aria-current", link.dataset.page === name && "page");
  frame.main.className = `page-${name}`;
  frame.main.replaceChildren(shown.render());
  if (moved) {
    frame.main.scrollTop = 0;
    frame.main.focus();
  }
}

// --- the frame

function navigation() {
  const link = (name) =>
    h("a", { href: `#/${name}`, "data-page": name }, icon(name), h("span", {}, t(`page.${name}`)));
  return h("nav", { "aria-label": t("nav") }, Object.keys(pages).map(link));
}

function languages() {
  const option = ([name, label]) => h("option", { value: name, selected: name === current(), lang: name }, label);
  const changed = (event) => {
    localStorage.setItem(LANGUAGE, event.target.value);
    speak(event.target.value);
    build();
    document.getElementById("language").focus();
  };
  return h("select", { id: "language", "aria-label": t("language"), onchange: changed }, Object.entries(LANGUAGES).map(option));
}

function themes() {
  const button = h("button", { type: "button", class: "quiet", id: "theme" });
  const paint = () => {
    const theme = document.documentElement.dataset.theme;
    set(button, "aria-label", t(`theme.${theme}`));
    set(button, "title", t(`theme.${theme}`));
    button.replaceChildren(icon(THEMES[theme]));
  };
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
    document.documentElement.dataset.theme = next;
    localStorage.setItem(THEME, next);
    paint();
    announce(t(`theme.${next}`));
  });
  paint();
  return button;
}

function link() {
  const text = h("span", {});
  const box = h("p", { class: "link", id: "link" }, h("i", { "aria-hidden": "true" }), text);
  frame.paintLink = () => {
    box.dataset.state = live.state;
    say(text, t(`link.${live.state}`));
    frame.forget.hidden = !hasKey();
  };
  return box;
}

function build() {
  const skip = (event) => {
    event.preventDefault();
    frame.main.focus();
  };
  const drop = () => {
    forgetKey();
    live.restart();
    show();
  };
  frame.forget = h("button", { type: "button", class: "quiet", onclick: drop, "aria-label": t("key.forget"), title: t("key.forget") }, icon("key"));
  frame.nav = navigation();
  frame.main = h("main", { id: "main", tabindex: "-1" });
  const brand = h("a", { class: "brand", href: "#/" + Object.keys(pages)[0] }, "llmos");
  const header = h("header", {}, brand, link(), frame.forget, languages(), themes());
  const jump = h("a", { class: "skip", href: "#main", onclick: skip }, t("skip"));
  frame.shell?.remove();
  frame.shell = h("div", { class: "shell" }, header, frame.nav, frame.main);
  document.querySelector(".skip")?.remove();
  document.body.prepend(jump, frame.shell);
  frame.paintLink();
  show(false);
}

function speak(name) {
  choose(name);
  document.documentElement.lang = locale();
}

// --- the key

/** Ask for the key; *wrong* is whether one was refused.  The promise is of null when nobody gives one. */
function askKey(wrong) {
  const field = h("input", { type: "password", id: "key", required: true, autocomplete: "off", spellcheck: "false" });
  const form = h(
    "form", { method: "dialog" },
    h("h2", { id: "key-title" }, t("key.title")),
    wrong && h("p", { class: "bad", role: "alert" }, t("key.wrong")),
    h("label", { for: "key" }, t("key.label")), field,
    h("p", { class: "muted" }, t("key.why")),
    h("div", { class: "row end" },
      h("button", { type: "button", onclick: () => dialog.close() }, t("close")),
      h("button", { class: "main" }, t("key.use"))),
  );
  const dialog = h("dialog", { class: "ask", "aria-labelledby": "key-title" }, form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    let given = null;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      given = field.value.trim() || null;
      dialog.close();
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(given);
      if (given && !["up", "wait"].includes(live.state)) live.restart();
    });
  });
}

// --- begin

speak(localStorage.getItem(LANGUAGE) ?? preferred(navigator.languages));
onKeyNeeded(askKey);
live.addEventListener("tick", () => {
  frame.paintLink();
  shown?.tick?.();
});
window.addEventListener("hashchange", () => show());
document.addEventListener("visibilitychange", () => (document.hidden ? live.stop() : live.start()));
build();
live.start();
