// The server's counts, again and again: one stream that all pages share.

import { call, stream } from "./api.js";

const KEPT = 300;
const FIRST_WAIT = 1000;
const LONGEST_WAIT = 15000;

/** What is known of the server now, and of the last five minutes. */
export class Live extends EventTarget {
  state = "wait";
  tick = null;
  /** Who asks, as the server says; null until it does. */
  you = null;
  /** Rows with `at`, `prompt`, `generated`, `waiting`, `running`, and from when the page was open `used` and `latency`. */
  rows = [];
  /** Whether pages hold still what they show. */
  paused = false;
  #abort = null;

  /** Begin to watch, or go on.  Ends with `stop`. */
  start() {
    if (this.#abort) return;
    this.#abort = new AbortController();
    this.#run(this.#abort.signal);
  }

  stop() {
    this.#abort?.abort();
    this.#abort = null;
  }

  /** Begin anew, as somebody else may: with another key. */
  restart() {
    this.stop();
    this.rows = [];
    this.you = null;
    this.start();
  }

  /** Return whether the key allows *what*: null until that is known.  Where it cannot be, the server is to be asked. */
  may(what) {
    if (this.you) return this.you.may[what];
    return this.state === "wait" ? null : true;
  }

  async #run(signal) {
    let wait = FIRST_WAIT;
    while (!signal.aborted) {
      try {
        this.#tell("wait");
        const stats = await call("/v1/llmos/stats", { signal });
        this.rows = merge(stats.history, this.rows);
        this.you = stats.you;
        for await (const tick of stream("/v1/llmos/events?interval=1", { signal })) {
          wait = FIRST_WAIT;
          this.take(tick);
        }
      } catch (failure) {
        if (signal.aborted) return;
        if (failure.status === 401 || failure.status === 403) {
          this.#abort = null;
          this.#tell(failure.status === 401 ? "key" : "forbidden");
          return;
        }
      }
      this.#tell("down");
      await new Promise((resolve) => setTimeout(resolve, wait));
      wait = Math.min(LONGEST_WAIT, wait * 2);
    }
  }

  /** Take note of one event of the stream. */
  take(tick) {
    this.tick = tick;
    this.you = tick.you;
    const used = Object.fromEntries(Object.entries(tick.devices).map(([name, device]) => [name, device.used]));
    this.rows.push({ ...tick.rates, used, latency: tick.latency });
    const oldest = tick.rates.at - KEPT;
    while (this.rows.length && this.rows[0].at < oldest) this.rows.shift();
    this.#tell("up");
  }

  #tell(state) {
    this.state = state;
    this.dispatchEvent(new Event("tick"));
  }
}

/** Put what the server remembers before what was seen here. */
export function merge(history, seen) {
  const first = seen.length ? seen[0].at : Infinity;
  return [...history.filter((row) => row.at < first), ...seen];
}
