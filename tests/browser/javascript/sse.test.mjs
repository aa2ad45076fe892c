// Server-sent events, however they are cut.

import assert from "node:assert/strict";
import test from "node:test";
import { events, Parser } from "../../../plugins/server/src/llmos_server/web/sse.js";

const cases = [
  ["data: a\n\n", ["a"]],
  ["data: a\r\n\r\ndata: b\r\r", ["a"]],
  ["data: a\rdata: b\r\n\n", ["a\nb"]],
  ["data:a\ndata: b\ndata\n\n", ["a\nb\n"]],
  [": comment\nevent: x\nid: 1\n\ndata: y\n\n", ["y"]],
  ["\uFEFFdata: a\n\n", ["a"]],
  ["data: a", []],
  ["data:  two\n\n", [" two"]],
  ["datax: a\n\n", []],
];

test("each kind of line is what the standard says", () => {
  for (const [text, expected] of cases) assert.deepEqual(new Parser().push(text), expected, JSON.stringify(text));
});

test("where the pieces are cut changes nothing", () => {
  for (const [text, expected] of cases) {
    for (let at = 0; at <= text.length; at += 1) {
      const parser = new Parser();
      assert.deepEqual([...parser.push(text.slice(0, at)), ...parser.push(text.slice(at))], expected, `${JSON.stringify(text)} at ${at}`);
    }
    const parser = new Parser();
    assert.deepEqual([...text].flatMap((character) => parser.push(character)), expected, JSON.stringify(text));
  }
});

test("a line that ends with a return at the very end is told when more comes", () => {
  const parser = new Parser();
  assert.deepEqual(parser.push("data: b\r\r"), []);
  assert.deepEqual(parser.push("\n"), ["b"]);
});

test("characters that are cut in bytes arrive whole, and who stops reading ends the body", async () => {
  const bytes = new TextEncoder().encode("data: 你好\n\ndata: b\n\n");
  let cancelled = false;
  const body = new ReadableStream({
    start(controller) {
      for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
    },
    cancel() {
      cancelled = true;
    },
  });
  for await (const data of events(body)) {
    assert.equal(data, "你好");
    break;
  }
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(cancelled);
});
