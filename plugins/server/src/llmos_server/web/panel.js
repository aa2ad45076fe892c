// A side of a page: beside it where there is room, else a sheet that a button opens.

import { h, icon, set } from "./dom.js";
import { t } from "./i18n.js";

const ROOMY = window.matchMedia("(min-width: 1120px)");

/** Return `{element, button}`: the side, and what opens it where there is no room. */
export function panel(id, title, symbol, ...content) {
  const close = h("button", { type: "button", class: "quiet shut", "aria-label": t("close"), onclick: () => dialog.close() }, icon("close"));
  const head = h("div", { class: "row head" }, h("h2", { id: `${id}-title` }, title), close);
  const dialog = h("dialog", { class: "side", id, "aria-labelledby": `${id}-title` }, head, ...content);
  const button = h("button", { type: "button", class: "opens", onclick: () => dialog.showModal() }, icon(symbol), h("span", {}, title));
  dialog.addEventListener("click", (event) => event.target === dialog && !ROOMY.matches && dialog.close());
  const fit = () => {
    if (dialog.open) dialog.close();
    set(dialog, "role", ROOMY.matches ? "complementary" : null);
    if (ROOMY.matches) dialog.setAttribute("open", "");
  };
  fit();
  ROOMY.onchange = () => document.querySelectorAll("dialog.side").forEach((side) => side.fit());
  dialog.fit = fit;
  return { element: dialog, button, shut: () => !ROOMY.matches && dialog.close() };
}
