// How numbers are written.

import assert from "node:assert/strict";
import test from "node:test";
import { binaryTicks, bytes, line, number, seconds, share, ticks } from "../../../plugins/server/src/llmos_server/web/format.js";

const EN = "en-GB";

test("times have the unit that fits", () => {
  const told = [0, 0.0000456, 0.0042, 0.0273, 0.9996, 2.44, 59.96, 185, 7445, 86400].map((value) => seconds(value, EN));
  const expected = ["0 ms", "0.046 ms", "4.2 ms", "27.3 ms", "1 s", "2.44 s", "1 min 0 s", "3 min 5 s", "2 h 4 min", "24 h 0 min"];
  assert.deepEqual(told, expected);
});

test("sizes are binary and have at most three digits before the point", () => {
  assert.deepEqual([0, 999, 1000, 139116983, 17179869184, 2 ** 60].map((value) => bytes(value, EN)), ["0 B", "999 B", "0.977 KiB", "133 MiB", "16 GiB", "1,048,576 TiB"]);
});

test("what is not known is a dash", () => {
  for (const value of [null, undefined, NaN, Infinity]) {
    assert.deepEqual([number(value, EN), bytes(value, EN), seconds(value, EN)], ["–", "–", "–"]);
  }
});

test("probabilities are never rounded to what they are not", () => {
  assert.deepEqual([0, -1e-5, -0.7, -3, -12].map((value) => share(value, EN)), ["100 %", "100 %", "49.7 %", "4.98 %", "< 0.01 %"]);
});

test("ticks reach what is shown, begin at nothing and are round", () => {
  for (const most of [1e-6, 0.003, 0.99, 1, 4, 7, 10, 99, 101, 12345, 1e12]) {
    const found = ticks(most);
    const step = found[1];
    assert.equal(found[0], 0);
    assert.ok(found.at(-1) >= most * (1 - 1e-9) && found.at(-2) < most);
    assert.ok(found.length >= 2 && found.length <= 6, String(found));
    assert.ok([1, 2, 2.5, 5, 10].some((one) => Math.abs(step / 10 ** Math.floor(Math.log10(step)) - one) < 1e-6));
  }
  assert.deepEqual(ticks(0), [0, 1]);
});

test("ticks of sizes are round in their unit", () => {
  assert.deepEqual(binaryTicks(139116983).map((value) => value / 2 ** 20), [0, 50, 100, 150]);
});

test("a line is cut between characters, not within one", () => {
  assert.equal(line("a\n  b\tc", 10), "a b c");
  assert.equal(line("😀😀😀", 3), "😀😀😀");
  assert.equal(line("😀😀😀", 2), "😀…");
});
