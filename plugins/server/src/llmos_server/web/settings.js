// What a request is asked with, as a form that keeps itself.

import { h } from "./dom.js";
import { t } from "./i18n.js";
import { PARAMETERS } from "./store.js";

/** Return the form for *store*, a `Settings`. */
export function settings(store) {
  const form = h("form", { class: "settings", onsubmit: (event) => event.preventDefault() });
  const reset = () => {
    store.reset();
    fill();
  };
  const fill = () => {
    const button = h("button", { type: "button", onclick: reset }, t("set.reset"));
    form.replaceChildren(system(store), ...Object.entries(PARAMETERS).map((row) => parameter(store, row)), stops(store), logprobs(store), button);
  };
  fill();
  return form;
}

function field(name, control, why) {
  const note = why && h("small", { id: `why-${name}` }, why);
  if (note) control.setAttribute("aria-describedby", note.id);
  return h("div", { class: `field ${control.type === "number" ? "short" : ""}` }, h("label", { for: control.id }, t(`set.${name}`)), control, note);
}

function system(store) {
  const oninput = (event) => store.set("system", event.target.value);
  return field("system", h("textarea", { id: "set-system", rows: 3, value: store.values.system, oninput }));
}

function parameter(store, [name, { min, max, step }]) {
  const oninput = (event) => store.set(name, event.target.value);
  const whole = step === 1;
  const control = h("input", {
    type: "number", id: `set-${name}`, min, max, step: whole ? 1 : "any", inputmode: whole ? "numeric" : "decimal",
    value: store.values[name], placeholder: t("set.auto"), oninput,
  });
  return field(name, control, max <= 10 ? t("set.range", { min, max }) : "");
}

function stops(store) {
  const oninput = (event) => store.set("stop", event.target.value);
  return field("stop", h("textarea", { id: "set-stop", rows: 2, value: store.values.stop, oninput }), t("set.stop.why"));
}

function logprobs(store) {
  const onchange = (event) => store.set("logprobs", event.target.checked);
  const box = h("input", { type: "checkbox", id: "set-logprobs", checked: store.values.logprobs, onchange });
  return h("div", { class: "field check" }, box, h("label", { for: "set-logprobs" }, t("set.logprobs")));
}
