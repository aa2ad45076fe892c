// Numbers as people read them.  No state but the language, which the caller gives.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
const NONE = "–";

/** Return a number with as many digits as matter. */
export function number(value, locale, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  if (Math.abs(value) >= 10 ** digits) return new Intl.NumberFormat(locale, { maximumFractionDigits: 0 }).format(value);
  return new Intl.NumberFormat(locale, { maximumSignificantDigits: digits }).format(value);
}

/** Return a size in binary units. */
export function bytes(value, locale) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${number(value, locale)} ${UNITS[unit]}`;
}

/** Return a time in the largest unit that fits: `0.8 ms`, `27 ms`, `2.4 s`, `3 min 5 s`, `2 h 4 min`. */
export function seconds(value, locale) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  if (value < 0.9995) return `${number(value * 1000, locale, value < 0.01 ? 2 : 3)} ms`;
  if (value < 59.95) return `${number(value, locale)} s`;
  const whole = Math.round(value);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** Return a log probability as a share. */
export function share(logprob, locale) {
  const value = Math.exp(logprob);
  if (value > 0 && value < 0.0001) return `< ${number(0.01, locale)} %`;
  const digits = value >= 0.9995 ? 2 : value < 0.1 ? 2 : 1;
  return `${new Intl.NumberFormat(locale, { maximumFractionDigits: digits }).format(value * 100)} %`;
}

/** Return the time of day of *at*, in seconds since 1970. */
export function clock(at, locale) {
  return new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(at * 1000);
}

/** Return day and time of *at*, in seconds since 1970. */
export function date(at, locale) {
  return new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" }).format(at * 1000);
}

/** Return round numbers from 0 that reach *most*, about *count* of them. */
export function ticks(most, count = 3) {
  if (!(most > 0)) return [0, 1];
  const rough = most / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough * (1 - 1e-9));
  const found = [0];
  while (found.at(-1) < most * (1 - 1e-9)) found.push(Number((found.length * step).toPrecision(12)));
  return found;
}

/** Return the same for sizes, round in binary units. */
export function binaryTicks(most, count = 3) {
  const unit = most > 0 ? 1024 ** Math.floor(Math.log(most) / Math.log(1024)) : 1;
  return ticks(most / unit, count).map((value) => value * unit);
}

/** Return one line of *text* that is at most *most* characters long, whole characters only. */
export function line(text, most) {
  const flat = [...text.replace(/\s+/g, " ").trim()];
  return flat.length > most ? `${flat.slice(0, most - 1).join("")}…` : flat.join("");
}
