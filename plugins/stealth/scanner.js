// The scan: announcements in the order of the chain in, the owner's stealth addresses out. Everything is on disk before the
// delivery is answered, so the watch tells again what was not: no gap, whenever the process dies.
//
// Store: `scan` is the cursor and the count, `found/ADDRESS` an address with the announcements that stand on the chain. An address
// whose announcement a reorg took back stays: money may lie there, and its key needs the announcement.

import { isFor, readAnnouncement, tokenOf } from "./scheme.js";

const AT_ONCE = 32; // announcements between two writes
const BREATH = 8; // between two moments for everything else that waits: an announcement takes some milliseconds
const MAX_KNOWN = 64; // announcements of one address that are told apart: anybody may repeat them for ever
const MAX_TOKENS = 16; // tokens of one address that are listed: anybody may name more; `sweepToken` takes any

/** Finds what is for `keys`. `load` first. */
export class Scanner {
  #database;
  #keys;
  cursor = { block: -1, logIndex: -1, hash: null };
  found = 0;

  constructor(database, keys) {
    this.#database = database;
    this.#keys = keys;
  }

  /** Go on where the store says; `anew`: from the beginning, keeping what was found. */
  async load(anew) {
    const stored = anew ? null : await this.#database.get("scan");
    if (stored !== null) Object.assign(this, JSON.parse(stored));
    else this.found = (await this.#all()).filter(([, row]) => JSON.parse(row).announced.length > 0).length;
  }

  /** Look at new announcements; a delivery told a second time goes on behind the cursor. */
  async take(logs) {
    const seen = logs.findIndex((log) => log.blockHash === this.cursor.hash && Number(log.logIndex) === this.cursor.logIndex);
    for (let at = seen + 1; at < logs.length; at += AT_ONCE) await this.#stretch(logs.slice(at, at + AT_ONCE));
  }

  /** Forget announcements that a reorg took back, newest first. */
  async takeBack(logs) {
    const changed = new Map();
    for (const log of logs) await this.#change(changed, log, (row) => row.announced = row.announced.filter((id) => id !== idOf(log)));
    const lowest = logs.reduce((least, { blockNumber }) => Math.min(least, Number(blockNumber)), this.cursor.block + 1);
    await this.#save(changed, { block: lowest - 1, logIndex: -1, hash: null });
  }

  /** Return the found address, null where it is not one. */
  async get(address) {
    const row = await this.#database.get(keyOf(address));
    return row === null ? null : JSON.parse(row);
  }

  /** Return up to `limit` found addresses behind `after` ("" from the first), by address. */
  async list(after, limit) {
    const start = after === "" ? "found/" : keyOf(after) + "\0";
    return (await this.#database.scan({ start, end: "found0", limit })).map(([, row]) => JSON.parse(row));
  }

  async #stretch(logs) {
    const changed = new Map();
    for (const [at, log] of logs.entries()) {
      if (at % BREATH === 0) await new Promise((resolve) => setTimeout(resolve, 0));
      const told = readAnnouncement(log);
      if (told === null || !isFor(this.#keys, told)) continue;
      const token = tokenOf(log);
      const add = (row) => {
        noted(row.announced, idOf(log), MAX_KNOWN);
        if (token !== null) noted(row.tokens ??= [], token, MAX_TOKENS);
      };
      await this.#change(changed, log, add, { ...told, block: Number(log.blockNumber), announced: [], tokens: [] });
    }
    const { blockNumber, logIndex, blockHash } = logs.at(-1);
    await this.#save(changed, { block: Number(blockNumber), logIndex: Number(logIndex), hash: blockHash });
  }

  async #change(changed, log, change, fresh = null) {
    const address = "0x" + log.topics[2].slice(26);
    const entry = changed.get(address) ?? await this.#entry(address, fresh);
    if (entry === null) return;
    change(entry.row);
    changed.set(address, entry);
  }

  async #entry(address, fresh) {
    const stored = await this.get(address);
    const row = stored ?? fresh;
    return row === null ? null : { row, counted: stored !== null && stored.announced.length > 0 };
  }

  async #save(changed, cursor) {
    const put = {};
    let found = this.found;
    for (const [address, { row, counted }] of changed) {
      found += (row.announced.length > 0) - counted;
      put[keyOf(address)] = JSON.stringify(row);
    }
    await this.#database.write({ ...put, scan: JSON.stringify({ cursor, found }) });
    Object.assign(this, { cursor, found });
  }

  #all() {
    return this.#database.scan({ prefix: "found/" });
  }
}

function noted(known, one, most) {
  if (!known.includes(one) && known.length < most) known.push(one);
}

function keyOf(address) {
  return `found/${address.toLowerCase()}`;
}

function idOf({ blockHash, logIndex }) {
  return `${blockHash}/${Number(logIndex)}`;
}
