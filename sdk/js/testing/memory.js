// The store of a test: a Map from keys to values, both as hex of their bytes, so that key order is byte order.

import { HostError } from "#runtime/session.js";

/** Answer a `persist`. */
export function persist(items, { put = {}, delete: remove = [] }) {
  for (const [key, value] of Object.entries(put)) items.set(toHex(key), toHex(value));
  for (const key of remove) items.delete(toHex(key));
  return {};
}

/** Answer a `load`. */
export function load(items, { keys, prefix = "", start = "", end, limit, reverse }) {
  if (keys !== undefined) return { items: keys.map((key) => [key, fromHex(items.get(toHex(key)))]) };
  const below = toHex(prefix), from = toHex(start), to = end === undefined ? undefined : toHex(end);
  const found = [...items.keys()].filter((key) => key.startsWith(below) && key >= from && (to === undefined || key < to)).sort();
  if (reverse) found.reverse();
  return { items: found.slice(0, limit).map((key) => [fromHex(key), fromHex(items.get(key))]) };
}

function toHex(wire) {
  if (typeof wire === "string") return new TextEncoder().encode(wire).toHex();
  if (typeof wire?.base64 === "string") return Uint8Array.fromBase64(wire.base64).toHex();
  throw new HostError({ code: -32602, message: `keys and values of the store are strings or Uint8Array, not ${JSON.stringify(wire)}` });
}

function fromHex(text) {
  if (text === undefined) return null;
  const bytes = Uint8Array.fromHex(text);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return { base64: bytes.toBase64() };
  }
}
