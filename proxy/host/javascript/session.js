// What the proxy asks, dispatched to the plugin object: start, invoke, getLayer2State, deliveries, lock, stop.
//
// Every request is answered once and runs beside the others; an answer that belongs to no open request ends the process, for
// the two sides no longer agree. No stack and no local value goes to a caller: that goes to standard error, the plugin's log.

import { AsyncLocalStorage } from "node:async_hooks";
import { encode } from "./lines.js";
import { services } from "./services.js";
import { ActionRefused, decode, normal } from "./values.js";

const MAX_OPEN = 256; // host calls at once, the proxy's limit; more wait for their turn
const MAX_UNANSWERED = 4 << 20; // bytes of them, below the proxy's limit
const MAX_WAITING = 4 << 20; // bytes unread by the proxy; beyond them nothing is said that has no answer
const FAILED = { code: -32603, message: "the plugin failed; the reason is in its log" };

/** The proxy refused a host call: 4001 the owner, 4100 outside the grant, -32602, -32005. */
export class HostError extends Error {
  constructor({ code, message, data }, asked) {
    super(String(message));
    Object.assign(this, { name: "HostError", code, data, ofHost: true });
    if (asked !== undefined) this.stack = `${this.name}: ${this.message}\n${asked.slice(asked.indexOf("\n") + 1)}`;
  }
}

/** One plugin object on one channel, from `start` to `stop`. */
export class Session {
  #entry;
  #lines;
  #output;
  #plugin = null;
  #actions = new Map();
  #open = new Map();
  #queue = [];
  #nextId = 0;
  #unanswered = 0; // bytes
  #unsaid = 0; // what had no answer, and no room
  #serving = new AsyncLocalStorage();
  #state = { published: {}, isWhole: false, ready: false }; // isWhole: what an earlier life published is known to the proxy alone
  #blocks = new Set();
  #stopped = false;

  /** `output`: `write(bytes)` returns a place, and `wasRead(place)` hears that the proxy has read that far. */
  constructor(entry, lines, output) {
    this.#entry = entry;
    this.#lines = lines;
    this.#output = output;
  }

  /** Serve until the proxy closes the channel or `stop` was answered. */
  async run() {
    const ended = Promise.withResolvers();
    this.#ended = ended;
    this.#read().then(ended.resolve, ended.reject);
    await ended.promise;
  }
  #ended;

  async #read() {
    for (let text; (text = await this.#lines.line()) !== null;) {
      const message = JSON.parse(text);
      if ("method" in message) this.#answer(message);
      else this.#settle(message);
    }
  }

  #settle({ id, result, error }) {
    const waiting = this.#open.get(id);
    if (waiting === undefined) throw new Error(`an answer with the id ${id}, which no open request has`);
    this.#open.delete(id);
    this.#unanswered -= waiting.size;
    this.#output.wasRead(waiting.place);
    while (this.#queue.length > 0 && this.#hasRoom()) this.#ask(...this.#queue.shift());
    if (error === undefined) waiting.resolve(result);
    else waiting.reject(new HostError(error, waiting.stack));
  }

  async #answer({ id, method, params }) {
    let reply;
    try {
      const handler = HANDLERS.get(method);
      if (handler === undefined) reply = { error: { code: -32601, message: `no method ${method}` } };
      else reply = { result: (await handler.call(this, params ?? {})) ?? null };
      reply = encode({ jsonrpc: "2.0", id, ...reply });
    } catch (error) {
      reply = refusal(id, error);
    }
    this.#output.write(reply);
    if (this.#stopped) this.#ended.resolve();
  }

  /** Ask for a host service; members that are undefined are left out. */
  async request(method, params) {
    const serving = this.#serving.getStore();
    const id = ++this.#nextId;
    const named = serving?.open ? { ...params, call: serving.call } : params;
    const message = { jsonrpc: "2.0", id, method, params: named };
    const waiting = Promise.withResolvers();
    Error.captureStackTrace(waiting, this.request); // where the author asked, for the error that may come
    if (this.#queue.length === 0 && this.#hasRoom()) this.#ask(message, waiting);
    else this.#queue.push([message, waiting]); // not as a line: all that wait would be too much
    return await waiting.promise;
  }

  #hasRoom() {
    return this.#open.size < MAX_OPEN && this.#unanswered < MAX_UNANSWERED;
  }

  #ask(message, waiting) {
    let line;
    try {
      line = encode(message);
    } catch (error) {
      waiting.reject(error);
      return;
    }
    this.#open.set(message.id, waiting);
    this.#unanswered += waiting.size = line.length;
    waiting.place = this.#output.write(line);
  }

  tell(method, params) {
    const line = encode({ jsonrpc: "2.0", method, params });
    if (this.#output.waiting > MAX_WAITING) {
      this.#unsaid += 1;
      return;
    }
    if (this.#unsaid > 0) {
      const message = `${this.#unsaid} lines were not said: the proxy had much to read`;
      this.#output.write(encode({ jsonrpc: "2.0", method: "log", params: { level: "warning", message } }));
      this.#unsaid = 0;
    }
    this.#output.write(line);
  }

  async start(info) {
    const asked = { request: this.request.bind(this), tell: this.tell.bind(this), state: this.#state, blocks: this.#blocks };
    const given = { layer1NetworkId: Number(info.chainId), layer1OwnerAddress: info.owner, ...services(asked) };
    this.#plugin = new this.#entry(given);
    for (const action of this.#plugin.layer2Interface?.actions ?? []) this.#actions.set(action.name, action);
    if (typeof this.#plugin.start === "function") await this.#plugin.start({ ...info, chainId: Number(info.chainId) });
    else given.ready().catch((error) => console.error(error)); // it has nothing to resynchronise
    return { actions: listed(this.#plugin) };
  }

  async invoke({ call, action: name, params, origin, deadline, idempotencyKey }) {
    const action = this.#actions.get(name);
    if (action === undefined) throw new ActionRefused(`the plugin has no action ${name}`);
    const given = (action.params ?? []).map((param) => decode(param, params?.[param.name], param.name));
    const scope = { call, open: true };
    try {
      return await this.#serving.run(scope, () => action.call(...given, { origin, deadline: Number(deadline ?? 0), idempotencyKey }));
    } finally {
      scope.open = false;
    }
  }

  async getLayer2State({ path, origin }) {
    return await this.hook("getLayer2State", path, origin) ?? (this.#state.isWhole ? this.#state.published : null);
  }

  async block({ number, hash, timestamp }) {
    const block = { number: Number(number), hash, timestamp: Number(timestamp) };
    for (const listener of this.#blocks) listener(block);
    return await this.said("onBlock", block);
  }

  hook(name, ...rest) {
    return this.#plugin?.[name]?.(...rest);
  }

  async said(name, ...rest) {
    await this.hook(name, ...rest);
    return {};
  }

  async stop() {
    await this.hook("stop");
    this.#stopped = true;
    return {};
  }
}

const HANDLERS = new Map(Object.entries({
  start(params) { return this.start(params); },
  invoke(params) { return this.invoke(params); },
  getLayer2State(params) { return this.getLayer2State(params); },
  block(params) { return this.block(params); },
  reorg({ from, to }) { return this.said("onReorg", { from: at(from), to: at(to) }); },
  logs({ watch, logs, removed }) { return this.said("onLogs", { watch, logs, removed: removed === true }); },
  hub(params) { return this.said("onHubMessage", params); },
  operation(params) { return this.said("onOperation", params.operation ?? params); },
  scheduled({ id, data, missed }) { return this.said("onScheduled", { id, data, missed: missed === true }); },
  lock() { return this.said("onLock"); },
  unlock() { return this.said("onUnlock"); },
  stop() { return this.stop(); },
}));

function at(place) {
  return Number(place?.number ?? place);
}

/** Return the line that refuses request `id`; what an error holds that cannot be said is for the log. */
function refusal(id, error) {
  try {
    return encode({ jsonrpc: "2.0", id, error: shown(error) });
  } catch (unsayable) {
    console.error(unsayable);
    return encode({ jsonrpc: "2.0", id, error: FAILED });
  }
}

function shown(error) {
  if (error instanceof ActionRefused) return { code: -32602, message: error.message, spent: false };
  if (error?.ofHost === true) return { code: error.code, message: error.message };
  if (error?.name === "ActionError" && Number.isSafeInteger(error.code)) {
    const { code, message, data, spent } = error;
    return { code, message: String(message), data, ...(spent === false && { spent }) };
  }
  console.error(error);
  return FAILED;
}

/** Return the actions the code declares, without serving. */
export function declared(entry) {
  const unasked = { request: () => Promise.reject(new Error("not started")), tell() {}, state: {}, blocks: new Set() };
  const owner = "0x0000000000000000000000000000000000000000";
  return listed(new entry({ layer1NetworkId: 1, layer1OwnerAddress: owner, ...services(unasked) }));
}

function listed(plugin) {
  return (plugin.layer2Interface?.actions ?? []).map(({ name, call, params = [], returns, ...rest }, index) => {
    if (typeof name !== "string") throw new Error(`layer2Interface.actions[${index}] has no name`);
    if (typeof call !== "function") throw new Error(`action ${name} has no function as its \`call\``);
    return { name, ...rest, params: typed(params, name, "params"), ...(returns && { returns: typed(returns, name, "returns") }) };
  });
}

function typed(rows, action, where) {
  const known = (row) => typeof row?.name === "string" && typeof row.type === "string" && (row.components ?? []).every(known);
  if (!Array.isArray(rows) || !rows.every(known)) throw new Error(`action ${action}: its ${where} are a list of { name, type }`);
  return rows.map(normal);
}
