// The store of a test: a Map from keys to values, both as hex of their bytes, so that key order is byte order.

import { HostError } from "#runtime/session.js";

// Of each store the keys whose values were written as bytes: they are read as bytes, though they may be UTF-8.
const written = new WeakMap();

/** Answer a `persist`. */
export function persist(items, { put = {}, delete: remove = [] }) {
  if (!written.has(items)) written.set(items, new Set());
  const binary = written.get(items);
  for (const [key, value] of Array.isArray(put) ? put : Object.entries(put)) {
    const name = toHex(key);
    items.set(name, toHex(value));
    if (typeof value === "string") binary.delete(name);
    else binary.add(name);
  }
  for (const key of remove) items.delete(toHex(key));
  return {};
}

/** Answer a `load`. */
export function load(items, { keys, prefix = "", start = "", end, limit, reverse }) {
  const value = (name) => fromHex(items.get(name), written.get(items)?.has(name));
  if (keys !== undefined) return { items: keys.map((key) => [key, value(toHex(key))]) };
  const below = toHex(prefix), from = toHex(start), to = end === undefined ? undefined : toHex(end);
  const found = [...items.keys()].filter((key) => key.startsWith(below) && key >= from && (to === undefined || key < to)).sort();
  if (reverse) found.reverse();
  const isBinary = [prefix, start, end].some((bound) => typeof bound === "object");
  return { items: found.slice(0, limit).map((key) => [fromHex(key, isBinary), value(key)]) };
}

function toHex(wire) {
  if (typeof wire === "string") return new TextEncoder().encode(wire).toHex();
  if (typeof wire?.base64 === "string") return Uint8Array.fromBase64(wire.base64).toHex();
  throw new HostError({ code: -32602, message: `keys and values of the store are strings or Uint8Array, not ${JSON.stringify(wire)}` });
}

function fromHex(text, isBinary = false) {
  if (text === undefined) return null;
  const bytes = Uint8Array.fromHex(text);
  if (isBinary) return { base64: bytes.toBase64() };
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return { base64: bytes.toBase64() };
  }
}
