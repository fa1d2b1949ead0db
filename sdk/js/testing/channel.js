// The two pipes between a plugin and the proxy, in memory: one line of JSON a message, as on the real ones.

import { encode } from "#runtime/lines.js";
import { HostError } from "#runtime/session.js";

/** The proxy's end. `lines` is what the runtime's Session reads; `received` takes what it writes. */
export class Channel {
  #serve;
  #queue = [];
  #reader = null;
  #open = new Map();
  #nextId = 0;
  #ended = null;

  /** `serve(method, params)` answers the plugin's requests; what it throws with a code reaches the plugin as an error. */
  constructor(serve) {
    this.#serve = serve;
    this.lines = { line: () => this.#line() };
  }

  /** Send the plugin a request and return its result. Rejects with a HostError, or with why the channel ended. */
  request(method, params) {
    if (this.#ended !== null) return Promise.reject(this.#ended);
    const waiting = Promise.withResolvers(), id = ++this.#nextId;
    const line = encode({ jsonrpc: "2.0", id, method, params });
    this.#open.set(id, waiting);
    this.#push(line);
    return waiting.promise;
  }

  /** Take one line of the plugin's. */
  received(bytes) {
    if (this.#ended !== null) return; // a dead process says nothing
    const message = JSON.parse(new TextDecoder().decode(bytes));
    if (message.method !== undefined) {
      this.#answer(message);
      return;
    }
    const waiting = this.#open.get(message.id);
    this.#open.delete(message.id);
    if (message.error === undefined) waiting.resolve(message.result);
    else waiting.reject(new HostError(message.error));
  }

  /** End both directions; what is still asked rejects with `why`. */
  close(why) {
    if (this.#ended !== null) return;
    this.#ended = why;
    this.#reader?.(null);
    for (const waiting of this.#open.values()) waiting.reject(why);
    this.#open.clear();
  }

  async #answer({ id, method, params }) {
    let reply;
    try {
      reply = { result: await this.#serve(method, params ?? {}) ?? {} };
    } catch (error) {
      reply = { error: { code: error.code ?? -32603, message: error.message, data: error.data } };
    }
    if (id !== undefined && this.#ended === null) this.#push(encode({ jsonrpc: "2.0", id, ...reply }));
  }

  #push(bytes) {
    const text = new TextDecoder().decode(bytes).trimEnd();
    if (this.#reader === null) {
      this.#queue.push(text);
      return;
    }
    const reader = this.#reader;
    this.#reader = null;
    reader(text);
  }

  #line() {
    if (this.#ended !== null) return Promise.resolve(null);
    if (this.#queue.length > 0) return Promise.resolve(this.#queue.shift());
    return new Promise((resolve) => this.#reader = resolve);
  }
}
