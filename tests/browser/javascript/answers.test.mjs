// Tokens of answers, their little Markdown, what failures ask for, and rows of the live figures.

import assert from "node:assert/strict";
import test from "node:test";
import { advice } from "../../../plugins/server/src/llmos_server/web/errors.js";
import { merge } from "../../../plugins/server/src/llmos_server/web/live.js";
import { blocks, inline } from "../../../plugins/server/src/llmos_server/web/prose.js";
import { STRINGS } from "../../../plugins/server/src/llmos_server/web/strings.js";
import { fromCompletion, Reader, split, sureness, visible } from "../../../plugins/server/src/llmos_server/web/tokens.js";

const entry = (token, logprob = 0) => ({ token, logprob, bytes: [...new TextEncoder().encode(token)] });

test("an answer is split where its tokens begin", () => {
  const parts = split("a bc", [entry("a"), entry(" bc")], new Reader());
  assert.deepEqual(parts.map(({ text }) => text), ["a", " bc"]);
});

test("tokens that are parts of a character stay together, also over chunks", () => {
  const [first, second, third] = new TextEncoder().encode("你");
  const piece = (...bytes) => ({ token: "�", logprob: -1, bytes });
  const parts = split("你!", [piece(first), piece(second), piece(third), entry("!")], new Reader());
  assert.deepEqual(parts.map(({ text, entries }) => [text, entries.length]), [["你", 3], ["!", 1]]);
  const reader = new Reader();
  assert.deepEqual(split("", [piece(first, second)], reader), []);
  assert.deepEqual(split("你", [piece(third)], reader).map(({ text }) => text), ["你"]);
});

test("a text that is not what its tokens say stays whole", () => {
  const parts = split("ab", [entry("a"), entry("bcd")], new Reader());
  assert.deepEqual(parts.map(({ text, entries }) => [text, entries.length]), [["ab", 2]]);
});

test("a completion's log probabilities have a chat's form", () => {
  const told = { tokens: ["a"], token_logprobs: [-1], top_logprobs: [{ a: -1, b: -2 }], text_offset: [0] };
  assert.deepEqual(fromCompletion(told), [{ token: "a", logprob: -1, top_logprobs: [{ token: "a", logprob: -1 }, { token: "b", logprob: -2 }] }]);
  assert.deepEqual(fromCompletion(null), []);
});

test("sureness has four steps, and blanks can be seen", () => {
  assert.deepEqual([1, 0.9, 0.6, 0.3, 0.1].map((share) => sureness(Math.log(share))), [3, 3, 2, 1, 0]);
  assert.deepEqual([" a", "\n", ""].map(visible), ["␣a", "⏎", "∅"]);
});

test("fences are code, to the end where they are open", () => {
  assert.deepEqual(blocks("a\n\n```py\nx = 1\n\n```\nb"), [{ kind: "text", text: "a" }, { kind: "code", lang: "py", text: "x = 1\n" }, { kind: "text", text: "b" }]);
  assert.deepEqual(blocks("```\n1"), [{ kind: "code", lang: "", text: "1" }]);
  assert.deepEqual(blocks("````\n```\n````"), [{ kind: "code", lang: "", text: "```" }]);
  assert.deepEqual(blocks(""), []);
});

test("emphasis and code within lines; the rest is as it was", () => {
  assert.deepEqual(inline("a `b` **c** 2*3"), [
    { kind: "text", text: "a " }, { kind: "code", text: "b" }, { kind: "text", text: " " }, { kind: "strong", text: "c" }, { kind: "text", text: " 2*3" },
  ]);
  for (const text of ["**", "``", "`", "a ** b", "<b>x</b>"]) assert.deepEqual(inline(text), [{ kind: "text", text }]);
});

test("every failure has words and a step that has words", () => {
  const codes = ["", "model_not_found", "cut_off", "deadline_exceeded", "stopping", "overloaded"];
  for (const status of [0, 400, 401, 403, 404, 413, 429, 499, 500, 503, 504]) {
    for (const code of codes) {
      const { text, step } = advice({ status, code });
      assert.ok(text in STRINGS);
      assert.ok(step === "" || `step.${step}` in STRINGS);
    }
  }
});

test("what the server remembers stands before what was seen", () => {
  assert.deepEqual(merge([{ at: 1 }, { at: 2 }, { at: 3 }], [{ at: 2.5 }]).map(({ at }) => at), [1, 2, 2.5]);
  assert.deepEqual(merge([{ at: 1 }], []), [{ at: 1 }]);
});
