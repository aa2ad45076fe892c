// Elements, made and changed without text ever becoming markup.

const SVG = "http://www.w3.org/2000/svg";

/** Make an HTML element: `h("button", {class: "x", onclick: f}, "text", child)`. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** Make an SVG element. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) set(element, name, value);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "inert", "open", "selected"]);

/** Set one attribute, property, listener, or table of custom properties. */
export function set(element, name, value) {
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "vars") for (const [key, text] of Object.entries(value)) element.style.setProperty(`--${key}`, text);
  else if (PROPERTIES.has(name)) element[name] = value;
  else if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : value);
}

/** Change the text of an element, if it is another one: then readers are not disturbed. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Make the children of *parent* those of *items*, in their order.  What stays keeps its element, and so its focus.
 * *make* returns `{element, update}`.
 */
export function keyed(parent, items, key, make) {
  const known = (parent.known ??= new Map());
  const wanted = new Set(items.map(key));
  for (const [id, row] of known) {
    if (!wanted.has(id)) {
      row.element.remove();
      known.delete(id);
    }
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    let row = known.get(key(item));
    if (!row) known.set(key(item), (row = make(item)));
    row.update(item);
    if (row.element === place) place = place.nextElementSibling;
    else parent.insertBefore(row.element, place);
  }
}

const PATHS = {
  chat: "M4 5h16v11H9l-5 4z",
  overview: "M4 20V4M4 20h16M8 16l4-5 3 3 5-7",
  tasks: "M4 6h10M4 12h16M9 18h9",
  models: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
  plugins: "M9 4v4M15 4v4M6 8h12v4a6 6 0 0 1-12 0zM12 18v3",
  results: "M5 20V10M12 20V4M19 20v-7",
  send: "M5 12l14-7-5 14-3-6z",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  again: "M20 12a8 8 0 1 1-2.5-5.8M20 3v4h-4",
  plus: "M12 5v14M5 12h14",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  sliders: "M4 7h10M18 7h2M14 5v4M4 17h2M10 17h10M6 15v4",
  history: "M4 12a8 8 0 1 0 2.5-5.8M4 3v4h4M12 8v4l3 2",
  down: "M6 9l6 6 6-6",
  close: "M6 6l12 12M18 6L6 18",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6L19 19M5 19l1.4-1.4M17.6 6.4L19 5",
  moon: "M20 14A8 8 0 0 1 10 4a8 8 0 1 0 10 10z",
  auto: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  pause: "M8 5v14M16 5v14",
  play: "M7 5l12 7-12 7z",
  alert: "M12 4l9 16H3zM12 10v5M12 17.500v.5",
  key: "M14 10a4 4 0 1 0-3.5 4L12 15.5V18h2.500v2.500H18V17l-4.500-4.500z",
};

/** Return one of the icons, which says nothing to screen readers. */
export function icon(name) {
  const path = s("path", { d: PATHS[name] });
  return s("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, path);
}

let region = null;

/** Have screen readers say *text*. */
export function announce(text) {
  region ??= document.body.appendChild(h("div", { class: "sr", role: "status", "aria-live": "polite" }));
  region.textContent = text;
}

/** Show *text* for a while, and have it said. */
export function toast(text, kind = "") {
  const box = document.querySelector(".toasts") ?? document.body.appendChild(h("div", { class: "toasts" }));
  const note = h("p", { class: `toast ${kind}` }, text);
  box.append(note);
  announce(text);
  setTimeout(() => note.remove(), 6000);
}
