// A page that moves by itself can be held still (WCAG 2.2, 2.2.2).

import { h, icon, set } from "./dom.js";
import { t } from "./i18n.js";

/** Return the button that holds all pages still, or lets them go on. */
export function pauseButton(live) {
  const button = h("button", { type: "button" });
  const paint = () => {
    set(button, "aria-pressed", String(live.paused));
    button.replaceChildren(icon(live.paused ? "play" : "pause"), h("span", {}, t(live.paused ? "live.go" : "live.pause")));
  };
  button.addEventListener("click", () => {
    live.paused = !live.paused;
    paint();
    live.dispatchEvent(new Event("tick"));
  });
  paint();
  return button;
}
