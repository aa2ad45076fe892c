// A choice whose words wrap: a browser's own control shows one line of them, and cuts what is longer.

import { h, icon, say } from "./dom.js";

/** Return `{element, select, offer}`: what is shown, the control that lies over it unseen, and what replaces its options. */
export function choice(props) {
  const words = h("span", { "aria-hidden": "true" });
  const select = h("select", props);
  const paint = () => say(words, select.selectedOptions[0]?.textContent ?? "");
  select.addEventListener("change", paint);
  const offer = (options) => {
    select.replaceChildren(...options);
    paint();
  };
  return { element: h("span", { class: "choice" }, words, icon("down"), select), select, offer };
}
