// Every text is there in both languages, and every text that is asked for is there.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { choose, known, preferred, t } from "../../../plugins/server/src/llmos_server/web/i18n.js";
import { STRINGS } from "../../../plugins/server/src/llmos_server/web/strings.js";

const WEB = join(import.meta.dirname, "../../../plugins/server/src/llmos_server/web");
const sources = readdirSync(WEB, { recursive: true }).filter((name) => name.endsWith(".js") && name !== "strings.js");
const source = sources.map((name) => readFileSync(join(WEB, name), "utf8")).join("\n");
const names = (text) => [...text.matchAll(/\{(\w+)\}/g)].map((found) => found[1]).sort();
const forms = (text) => (Array.isArray(text) ? text : [text]);

test("each text is in both languages, with the same values in it", () => {
  for (const [key, row] of Object.entries(STRINGS)) {
    assert.equal(row.length, 2, key);
    const [english, chinese] = row.map(forms);
    for (const text of [...english, ...chinese]) assert.ok(text.trim(), key);
    for (const text of [...english, ...chinese]) assert.deepEqual(names(text), names(english[0]), key);
    assert.ok(english.length <= 2 && chinese.length === 1, key);
  }
});

test("no text of the Chinese column was forgotten", () => {
  const same = Object.entries(STRINGS).filter(([, [english, chinese]]) => english === chinese).map(([key]) => key);
  assert.deepEqual(same, ["set.top_p", "set.top_k", "tok.sure.2", "tok.sure.1", "tile.first.note"]);
});

test("each text that is asked for is there", () => {
  const asked = [...source.matchAll(/\bt\("([^"]+)"/g)].map((found) => found[1]);
  assert.ok(asked.length > 60);
  assert.deepEqual(asked.filter((key) => !(key in STRINGS)), []);
});

test("each text that is there is asked for", () => {
  const families = [...source.matchAll(/\bt\(`([^`$]+)\$\{/g)].map((found) => found[1]);
  families.push(...[...source.matchAll(/\bknown\("([^"]+)"/g)].map((found) => `${found[1]}.`));
  const unused = Object.keys(STRINGS).filter((key) => !source.includes(`"${key}"`) && !families.some((family) => key.startsWith(family)));
  assert.deepEqual(unused, []);
});

test("a text takes values, in the language's numbers and plural", () => {
  choose("en");
  assert.equal(t("chat.tokens", { n: 1 }), "1 token");
  assert.equal(t("chat.tokens", { n: 32768 }), "32,768 tokens");
  choose("zh");
  assert.equal(t("chat.tokens", { n: 1 }), "1 个词元");
  assert.throws(() => t("absent"), /absent/);
});

test("what plugins name themselves is shown as it is", () => {
  choose("en");
  assert.equal(known("state", "done"), "done");
  assert.equal(known("state", "pondering"), "pondering");
});

test("the browser's languages are tried in their order", () => {
  assert.equal(preferred(["fr-FR", "zh-Hant-TW", "en"]), "zh");
  assert.equal(preferred(["fr"]), "en");
  assert.equal(preferred([]), "en");
});
