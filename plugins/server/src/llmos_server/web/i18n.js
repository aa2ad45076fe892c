// The words of the page, in two languages.

import { STRINGS } from "./strings.js";

export const LANGUAGES = { en: "English", zh: "中文" };
const LOCALES = { en: "en-GB", zh: "zh-Hans-CN" };
const COLUMN = { en: 0, zh: 1 };

let language = "en";

/** Return the language for who prefers *languages*, in that order. */
export function preferred(languages) {
  for (const tag of languages) {
    const short = tag.toLowerCase().split("-")[0];
    if (short in LANGUAGES) return short;
  }
  return "en";
}

export const current = () => language;
export const locale = () => LOCALES[language];

export function choose(name) {
  language = name in LANGUAGES ? name : "en";
}

/** Return a text; `{name}` in it are the *values*, of which numbers are written as the language does.  One with an English plural is a pair: `[one, other]`. */
export function t(key, values = {}) {
  const row = STRINGS[key];
  if (!row) throw new Error(`there is no text ${key}`);
  let text = row[COLUMN[language]];
  if (Array.isArray(text)) text = text[new Intl.PluralRules(LOCALES[language]).select(values.n) === "one" ? 0 : 1];
  return text.replace(/\{(\w+)\}/g, (_, name) => written(values[name]));
}

function written(value) {
  return typeof value === "number" ? new Intl.NumberFormat(LOCALES[language]).format(value) : String(value);
}

/** Return a text of a family, or the *name* itself where nobody wrote one: states and kinds of plugins are open. */
export function known(family, name) {
  return `${family}.${name}` in STRINGS ? t(`${family}.${name}`) : name;
}
