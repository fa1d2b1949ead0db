// The host services as the object a plugin's constructor gets; each method is one host call of plugin.md, "Host services".
//
// BigInt goes out as a quantity, Uint8Array as {base64} in the store and the hub and as 0x data in arguments.

const LOGGED = 4096; // characters of a message, as many as the log keeps
const BLOCKS = "layer1-block-tracker"; // the watch behind layer1BlockTracker
const REMEMBERED = 256; // blocks the tracker tells apart

/** Return what is injected beside layer1NetworkId and layer1OwnerAddress. `state`: {published, ready}, kept by the session. */
export function services({ request, tell, state, blocks }) {
  const layer1 = (method, params = []) => request("layer1.request", { method, params });
  const ready = () => state.becoming = request("ready", {}).then(() => void (state.ready = true));
  return {
    layer1Provider: {
      request: ({ method, params }) => layer1(method, params ?? []),
      watch: (params) => request("layer1.watch", outgoing(params)),
      unwatch: (name) => request("layer1.unwatch", { name }),
    },
    layer1BlockTracker: blockTracker(request, blocks),
    localDatabase: database(request),
    keys: keys(request, state),
    gateway: gateway(request),
    hub: {
      send: (message) => request("hub.send", typeof message === "string" ? { text: message } : blob(message)),
      request: ({ method, path, headers = {}, body }) => request("hub.request", { method, path, headers, body: blob(body) }),
    },
    state: {
      update: async (change) => {
        const answer = await request("updateLayer2State", change);
        if (change.origin === undefined) {
          state.published = change.state ?? merged(state.published, change.patch);
          state.isWhole ||= change.state !== undefined;
        }
        return Number(answer.revision);
      },
    },
    schedule: (params) => request("schedule", outgoing(params)),
    log: Object.fromEntries(["debug", "info", "warning", "error"].map((level) => [level, logger(tell, level)])),
    ready,
  };
}

function logger(tell, level) {
  return (message, fields = {}) => {
    const text = String(message).slice(0, LOGGED).toWellFormed();
    try {
      tell("log", { level, message: text, fields });
    } catch (error) { // a line of a log that cannot be written is no reason to fail
      tell("log", { level, message: `${text} (its fields cannot be shown: ${error.message.split("\n")[0]})`, fields: {} });
    }
  };
}

function database(request) {
  const load = async (params) => (await request("load", params)).items.map(([key, value]) => [unblob(key), unblob(value)]);
  const write = async (put, remove = []) => {
    const pairs = [...(typeof put[Symbol.iterator] === "function" ? put : Object.entries(put))];
    for (const [key, value] of pairs) if (value === undefined) throw new TypeError(`the value of ${key} is undefined`);
    const wire = pairs.map(([key, value]) => [blob(key), blob(value)]);
    const named = pairs.every(([key]) => !(key instanceof Uint8Array)); // a member's name cannot be bytes: pairs can
    return request("persist", { put: named ? Object.fromEntries(wire) : wire, delete: remove.map(blob) });
  };
  return {
    get: async (key) => (await load({ keys: [blob(key)] }))[0][1],
    put: (key, value) => write([[key, value]]),
    delete: (...keys) => write({}, keys),
    write,
    scan: ({ prefix, start, end, limit, reverse } = {}) => {
      const bounds = prefix === undefined && start === undefined && end === undefined ? { prefix: "" } : {};
      return load({ ...bounds, prefix: blob(prefix) ?? bounds.prefix, start: blob(start), end: blob(end), limit, reverse });
    },
  };
}

function keys(request, state) {
  return {
    account: (index) => request("getAccount", { index }),
    derive: async (path) => ({ path, ...await request("derive", { path }) }),
    sign: async (account, { typedData, message }) => {
      const path = account?.path ?? account;
      if (path !== "owner" && !state.ready) {
        if (state.becoming === undefined) throw new Error("own keys sign after `await ready()`");
        await state.becoming; // it has been said, and the proxy has not answered yet
      }
      return (await request("sign", { account: path, typedData, message })).signature;
    },
    recover: async (item) => (await request("recover", item)).address,
    recoverMany: async (items) => (await request("recover", { items })).items.map((row) => row.address),
    hash: async (item) => (await request("hash", outgoing(item))).digest,
  };
}

function gateway(request) {
  const money = async (method, params) => (await request(method, outgoing(params))).operation;
  return {
    deposit: ({ args = [], ...params }) => money("deposit", { args, ...params }),
    withdraw: ({ args = [], ...params }) => money("withdraw", { args, ...params }),
    plan: (steps) => money("plan", { steps }),
    supply: (operation, args) => money("plan", { operation: operation?.id ?? operation, args }),
    send: ({ args = [], ...params }) => money("send", { args, ...params }),
    transfer: (params) => money("transfer", params),
  };
}

function blockTracker(request, blocks) {
  let current = null, watching = null;
  const listeners = new Map(), seen = new Map();
  const watch = () => watching ??= request("layer1.watch", { name: BLOCKS, blocks: true });
  blocks.add((block) => {
    if (seen.get(block.number) === block.hash) return; // another watch of blocks brought it
    seen.set(block.number, block.hash);
    if (seen.size > REMEMBERED) seen.delete(seen.keys().next().value);
    const before = current;
    current = quantity(block.number);
    for (const listener of listeners.get("latest") ?? []) listener(current);
    for (const listener of listeners.get("sync") ?? []) listener({ oldBlock: before, newBlock: current });
  });
  const tracker = {
    getCurrentBlock: () => current,
    getLatestBlock: async () => {
      await watch();
      return current ?? await new Promise((resolve) => tracker.once("latest", resolve));
    },
    on(event, listener) {
      listeners.set(event, [...(listeners.get(event) ?? []), listener]);
      watch().catch((error) => console.error(`the block tracker: ${error.message}`));
      return tracker;
    },
    once(event, listener) {
      const once = (value) => {
        tracker.removeListener(event, once);
        listener(value);
      };
      return tracker.on(event, once);
    },
    removeListener(event, listener) {
      listeners.set(event, (listeners.get(event) ?? []).filter((known) => known !== listener));
      return tracker;
    },
  };
  return tracker;
}

function outgoing(value) {
  if (typeof value === "bigint") return quantity(value);
  if (value instanceof Uint8Array) return "0x" + value.toHex();
  if (Array.isArray(value)) return value.map(outgoing);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, outgoing(item)]));
}

function quantity(number) {
  return number < 0 ? String(number) : "0x" + number.toString(16);
}

function blob(value) {
  return value instanceof Uint8Array ? { base64: value.toBase64() } : value;
}

function unblob(value) {
  return value?.base64 === undefined ? value : Uint8Array.fromBase64(value.base64);
}

/** Return `target` with a JSON merge patch (RFC 7396) applied. */
export function merged(target, patch) {
  if (patch === null || typeof patch !== "object" || Array.isArray(patch)) return patch;
  const result = target !== null && typeof target === "object" && !Array.isArray(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = merged(result[name], value);
  }
  return result;
}
