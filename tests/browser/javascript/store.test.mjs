// What the browser keeps, and what a request says.

import assert from "node:assert/strict";
import test from "node:test";
import { Chats, MOST, request, Settings } from "../../../plugins/server/src/llmos_server/web/store.js";

/** Storage with room for *most* characters. */
class Storage {
  constructor(most = Infinity) {
    this.most = most;
    this.rows = new Map();
  }

  getItem(name) {
    return this.rows.get(name) ?? null;
  }

  setItem(name, text) {
    if (text.length > this.most) throw new Error("full");
    this.rows.set(name, text);
  }
}

const chat = (id, content = "hello") => ({ id, mode: "chat", title: id, messages: [{ role: "user", content, parts: [1], working: true }] });

test("conversations are kept, the latest first, and found again", () => {
  const storage = new Storage();
  const chats = new Chats(storage);
  for (const id of ["a", "b", "a"]) chats.keep(chat(id));
  assert.deepEqual(new Chats(storage).all.map(({ id }) => id), ["a", "b"]);
  chats.remove("a");
  assert.deepEqual(new Chats(storage).all.map(({ id }) => id), ["b"]);
  chats.clear();
  assert.deepEqual(new Chats(storage).all, []);
});

test("only what was said is kept", () => {
  const storage = new Storage();
  new Chats(storage).keep(chat("a"));
  assert.deepEqual(new Chats(storage).all[0].messages, [{ role: "user", content: "hello" }]);
});

test("the oldest make room, by number and by size", () => {
  const chats = new Chats(new Storage());
  for (let n = 0; n < MOST + 5; n += 1) chats.keep(chat(String(n)));
  assert.equal(chats.all.length, MOST);
  const small = new Chats(new Storage(1000));
  for (const id of ["a", "b", "c"]) small.keep(chat(id, "x".repeat(300)));
  assert.deepEqual(small.all.map(({ id }) => id), ["c", "b"]);
});

test("what is not ours is no history", () => {
  for (const text of ["{", "7", "null", '{"a": 1}', '[null, {"id": 1}]']) {
    const storage = new Storage();
    storage.setItem("llmos.chats", text);
    assert.deepEqual(new Chats(storage).all, [], text);
  }
});

test("a request has only what somebody chose", () => {
  const settings = new Settings(new Storage());
  settings.set("model", "m");
  const body = request(settings.values, [{ role: "user", content: "x", stats: {} }], null);
  const stream = { stream: true, stream_options: { include_usage: true } };
  assert.deepEqual(body, { model: "m", ...stream, max_tokens: 512, messages: [{ role: "user", content: "x" }] });
});

test("a request has all of what somebody chose", () => {
  const settings = new Settings(new Storage());
  const chosen = { model: "m", system: "s", stop: "a\n\\n\\n\n", logprobs: true, temperature: "0", top_k: "3", seed: "-1", max_tokens: "" };
  for (const [name, value] of Object.entries(chosen)) settings.set(name, value);
  const body = request(settings.values, [], null);
  assert.deepEqual([body.temperature, body.top_k, body.seed, body.max_tokens], [0, 3, -1, undefined]);
  assert.deepEqual([body.stop, body.messages, body.top_logprobs], [["a", "\n\n"], [{ role: "system", content: "s" }], 5]);
  const text = request(settings.values, null, "begin");
  assert.deepEqual([text.prompt, text.logprobs, text.messages], ["begin", 5, undefined]);
});

test("settings stay, and go back to the defaults with the model as it is", () => {
  const storage = new Storage();
  const settings = new Settings(storage);
  settings.set("model", "m");
  settings.set("top_p", "0.5");
  assert.equal(new Settings(storage).values.top_p, "0.5");
  settings.reset();
  assert.deepEqual([new Settings(storage).values.top_p, new Settings(storage).values.model], ["", "m"]);
});
