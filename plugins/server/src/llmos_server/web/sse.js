// Server-sent events (HTML standard, section 9.2) over fetch, because EventSource cannot send a key.

/** Takes text in any pieces, and gives the data of each event that is complete. */
export class Parser {
  #rest = "";
  #data = [];
  #first = true;

  push(text) {
    if (this.#first && text) {
      this.#first = false;
      if (text.startsWith("\uFEFF")) text = text.slice(1);
    }
    const found = [];
    this.#rest += text;
    for (;;) {
      const at = this.#rest.search(/[\r\n]/);
      if (at < 0 || (this.#rest[at] === "\r" && at + 1 === this.#rest.length)) return found;
      const line = this.#rest.slice(0, at);
      this.#rest = this.#rest.slice(at + (this.#rest.startsWith("\r\n", at) ? 2 : 1));
      if (line === "") this.#dispatch(found);
      else this.#field(line);
    }
  }

  #field(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    if (name === "data") this.#data.push(colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, ""));
  }

  #dispatch(found) {
    if (this.#data.length) found.push(this.#data.join("\n"));
    this.#data = [];
  }
}

/** Yield the data of each event of a body. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new Parser();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield* parser.push(value);
    }
  } finally {
    reader.cancel().catch(() => undefined); // whoever stops reading does not care how the rest ends
  }
}
