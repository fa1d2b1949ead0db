// Every host call of plugin.md, "Host services", answered from memory; what the manifest does not ask for is refused with 4100.

import { merged } from "#runtime/services.js";
import { HostError } from "#runtime/session.js";
import { load, persist } from "./memory.js";

const PATH = "m/7002'/0'/0'"; // where the manifest names none
const LEVELS = ["debug", "info", "warning", "error"];

/** Return the table of services of one FakeHost. */
export function services(host) {
  const manifest = host.manifest, permissions = manifest?.permissions ?? {};
  let accounts = 0;
  const asked = (ok, what) => {
    if (manifest !== null && !ok) throw refused(4100, `plugin.toml does not ask for ${what}`);
  };
  const below = (relative) => `${manifest?.keys?.path ?? PATH}/${relative}`;
  const account = (path) => {
    asked(manifest?.keys, "keys: it has no [keys]");
    const { address, publicKey } = host.crypto.account(below(path));
    return { address, publicKey, path };
  };
  const recover = (item) => {
    const address = host.crypto.recover(content(item), item.signature);
    if (address === null) throw refused(-32602, "signature: 65 bytes with a low s, of somebody");
    return { address };
  };
  const hash = ({ call: _, ...item }) => ({ digest: host.crypto.hash(item) });
  const online = async (action) => {
    asked(manifest?.hub, "a hub: it has no [hub]");
    try {
      return await action();
    } catch (error) {
      throw refused(4900, error.message);
    }
  };
  const money = (kind) => (params) => host.operations.submit(kind, params);
  return {
    getAccount: ({ index = accounts }) => {
      accounts = Math.max(accounts, index + 1);
      return account(`${index}'`);
    },
    derive: ({ path }) => {
      const exported = manifest === null || manifest.keys?.export === true;
      return { ...account(path), ...(exported && { privateKey: host.crypto.account(below(path)).privateKey }) };
    },
    sign: (params) => {
      if (params.account === "owner") return { signature: host.crypto.sign("owner", content(params)) };
      asked(manifest?.keys, "keys: it has no [keys]");
      if (!host.isReady) throw refused(4100, "own keys sign after ready");
      return { signature: host.crypto.sign(below(params.account), content(params)) };
    },
    recover: (params) => params.items === undefined ? recover(params) : { items: params.items.map(recover) },
    hash: (params) => params.items === undefined ? hash(params) : { items: params.items.map(hash) },
    deposit: money("deposit"),
    withdraw: money("withdraw"),
    plan: money("plan"),
    transfer: money("transfer"),
    send: money("send"),
    persist: (params) => persist(host.store, params),
    load: (params) => load(host.store, params),
    updateLayer2State: ({ state, patch, origin }) => {
      if (origin === undefined) host.state = patch === undefined ? state : merged(host.state, patch);
      host.revision += 1;
      return { revision: "0x" + host.revision.toString(16) };
    },
    ready: () => {
      host.isReady = true;
      return {};
    },
    "layer1.request": ({ method, params = [] }) => {
      asked(permissions.layer1?.includes(method), `${method}: it is not in permissions.layer1`);
      if (host.layer1 === null) throw refused(4900, "this host has no L1: give FakeHost a `layer1`");
      return host.layer1.request({ method, params });
    },
    "layer1.watch": (params) => {
      asked(permissions.layer1?.length > 0, "layer1: permissions.layer1 is empty");
      return host.watches.add(params);
    },
    "layer1.unwatch": ({ name }) => host.watches.remove(name),
    "hub.send": ({ text, base64 }) => online(() => host.hub.send(text ?? Uint8Array.fromBase64(base64))),
    "hub.request": ({ call: _, ...asking }) => online(() => host.hub.request(asking)),
    schedule: ({ id, cancel, call: _, ...timer }) => {
      if (cancel) host.timers.delete(id);
      else if ((timer.block === undefined) === (timer.time === undefined)) throw refused(-32602, "either block or time");
      else host.timers.set(id, { id, ...timer });
      return {};
    },
    log: (entry) => {
      if (!LEVELS.includes(entry.level)) throw refused(-32602, `no level ${entry.level}`);
      host.logs.push(entry);
    },
  };
}

/** Return an error as the proxy answers it. */
export function refused(code, message) {
  return new HostError({ code, message });
}

function content({ typedData, message, digest }) {
  return { typedData, message, digest };
}
