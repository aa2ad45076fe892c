// Requests to the server.  A key is asked for once, when the server wants one, and forgotten with the tab.

import { events } from "./sse.js";

const KEY = "llmos.key";

/** A request that failed, and what the server said about it. */
export class Failure extends Error {
  constructor(status, error = {}, retryAfter = null) {
    super(error.message ?? "");
    this.status = status;
    this.code = error.code ?? "";
    this.param = error.param ?? "";
    this.retryAfter = retryAfter;
  }
}

/** Return the failure that a response's body tells of. */
export async function failure(response) {
  const after = Number(response.headers.get("retry-after")) || null;
  const told = await response.json().catch(() => ({}));
  return new Failure(response.status, told.error ?? {}, after);
}

let asking = null;
let ask = async () => null;

/** Say who asks people for a key: a function that returns it, or null where they have none. */
export function onKeyNeeded(asks) {
  ask = asks;
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const forgetKey = () => sessionStorage.removeItem(KEY);

/** Ask for a key; those who ask at the same time get the same answer. */
function newKey() {
  asking ??= ask(hasKey()).then((key) => {
    if (key) sessionStorage.setItem(KEY, key);
    return Boolean(key);
  }).finally(() => (asking = null));
  return asking;
}

async function send(path, { method = "GET", body, signal } = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...(key && { Authorization: `Bearer ${key}` }), ...(body && { "Content-Type": "application/json" }) };
    const request = { method, headers, signal, body: body && JSON.stringify(body), cache: "no-store" };
    let response;
    try {
      response = await fetch(path, request);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Failure(0);
    }
    if (response.ok) return response;
    const found = await failure(response);
    const again = found.status === 401 && (key !== sessionStorage.getItem(KEY) || (await newKey()));
    if (!again) throw found;
  }
}

/** Return the JSON that a route answers; throw `Failure`. */
export async function call(path, options) {
  return (await send(path, options)).json();
}

/** Yield the values of a route's event stream; throw `Failure`, also for one that is told in the stream. */
export async function* stream(path, options) {
  const response = await send(path, options);
  let ended = false;
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") {
        ended = true;
        continue;
      }
      const value = JSON.parse(data);
      if (value.error) throw new Failure(500, value.error);
      yield value;
    }
  } catch (error) {
    if (error instanceof Failure || options?.signal?.aborted) throw error;
    throw new Failure(0);
  }
  if (!ended && options?.whole) throw new Failure(0, { code: "cut_off" });
}
