// Which part of an answer came from which token.

/** Return a token's own text; a token that is a part of a character has none until the character is whole. */
export class Reader {
  #decoder = new TextDecoder("utf-8");

  text(entry) {
    if (!entry.bytes) return entry.token;
    return this.#decoder.decode(Uint8Array.from(entry.bytes), { stream: true });
  }
}

/**
 * Split *text* among the *entries* of its tokens: `[{text, entries}]`.  Where what the tokens say is not what was sent
 * (a stop string cut them, say), all of it stays together.
 */
export function split(text, entries, reader) {
  const parts = [];
  let held = [];
  for (const entry of entries) {
    held.push(entry);
    const piece = reader.text(entry);
    if (piece) {
      parts.push({ text: piece, entries: held });
      held = [];
    }
  }
  if (held.length && parts.length) parts.at(-1).entries.push(...held);
  return parts.map((part) => part.text).join("") === text ? parts : [{ text, entries }];
}

/** Return the log probabilities of a completion's chunk in a chat's form. */
export function fromCompletion(told) {
  return (told?.tokens ?? []).map((token, index) => ({
    token,
    logprob: told.token_logprobs[index],
    top_logprobs: Object.entries(told.top_logprobs?.[index] ?? {}).map(([other, logprob]) => ({ token: other, logprob })),
  }));
}

/** Return how sure the model was, from 0 (not at all) to 3. */
export function sureness(logprob) {
  const share = Math.exp(logprob);
  if (share >= 0.9) return 3;
  if (share >= 0.5) return 2;
  return share >= 0.2 ? 1 : 0;
}

/** Show the blanks of a token. */
export function visible(token) {
  return token.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥") || "∅";
}
