// What the browser keeps: conversations and settings, on this machine only.

const CHATS = "llmos.chats";
const SETTINGS = "llmos.settings";
export const MOST = 50;

function load(storage, name, otherwise) {
  const text = storage.getItem(name);
  if (text === null) return otherwise;
  try {
    return JSON.parse(text) ?? otherwise;
  } catch {
    return otherwise; // somebody else's, or half written: nothing of ours that could be saved
  }
}

/** Conversations, the latest first; *storage* is `localStorage`, or a test's. */
export class Chats {
  constructor(storage) {
    this.storage = storage;
    const found = load(storage, CHATS, []);
    this.all = Array.isArray(found) ? found.filter((chat) => chat && Array.isArray(chat.messages)) : [];
  }

  /** Keep *chat*, without what can be had again only from the model.  The oldest make room. */
  keep(chat) {
    this.all = [chat, ...this.all.filter((other) => other.id !== chat.id)].slice(0, MOST);
    this.save();
  }

  remove(id) {
    this.all = this.all.filter((chat) => chat.id !== id);
    this.save();
  }

  clear() {
    this.all = [];
    this.save();
  }

  save() {
    const plain = ({ role, content, stats, stopped }) => ({ role, content, stats, stopped });
    for (;;) {
      const kept = this.all.map((chat) => ({ ...chat, messages: chat.messages.map(plain) }));
      try {
        this.storage.setItem(CHATS, JSON.stringify(kept));
        return;
      } catch (error) {
        if (!this.all.length) throw error;
        this.all = this.all.slice(0, -1); // the storage is full
      }
    }
  }
}

/** The parameters of a request, as they are typed; empty ones are the server's to choose. */
export const PARAMETERS = {
  max_tokens: { min: 1, max: 2 ** 31, step: 1, value: "512" },
  temperature: { min: 0, max: 2, step: 0.1, value: "" },
  top_p: { min: 0.01, max: 1, step: 0.01, value: "" },
  top_k: { min: 0, max: 2 ** 31, step: 1, value: "" },
  seed: { min: -(2 ** 53), max: 2 ** 53, step: 1, value: "" },
  presence_penalty: { min: -2, max: 2, step: 0.1, value: "" },
  frequency_penalty: { min: -2, max: 2, step: 0.1, value: "" },
  repetition_penalty: { min: 0.01, max: 10, step: 0.05, value: "" },
};

export class Settings {
  constructor(storage) {
    this.storage = storage;
    const numbers = Object.fromEntries(Object.entries(PARAMETERS).map(([name, facts]) => [name, facts.value]));
    this.defaults = { model: "", system: "", stop: "", logprobs: false, ...numbers };
    this.values = { ...this.defaults, ...load(storage, SETTINGS, {}) };
  }

  set(name, value) {
    this.values[name] = value;
    this.storage.setItem(SETTINGS, JSON.stringify(this.values));
  }

  reset() {
    this.values = { ...this.defaults, model: this.values.model };
    this.storage.setItem(SETTINGS, JSON.stringify(this.values));
  }
}

/** Return the body of a request; *chat* is a conversation's messages, or null where *prompt* is continued. */
export function request(values, messages, prompt) {
  const body = { model: values.model, stream: true, stream_options: { include_usage: true } };
  for (const name of Object.keys(PARAMETERS)) {
    if (values[name] !== "" && Number.isFinite(Number(values[name]))) body[name] = Number(values[name]);
  }
  const stops = values.stop.split("\n").filter((text) => text !== "");
  if (stops.length) body.stop = stops.map((text) => text.replaceAll("\\n", "\n"));
  if (messages) {
    const system = values.system.trim() ? [{ role: "system", content: values.system }] : [];
    body.messages = [...system, ...messages.map(({ role, content }) => ({ role, content }))];
    if (values.logprobs) Object.assign(body, { logprobs: true, top_logprobs: 5 });
  } else {
    body.prompt = prompt;
    if (values.logprobs) body.logprobs = 5;
  }
  return body;
}
