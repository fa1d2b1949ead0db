// `layer1.watch` in a test: what L1 has and the plugin was not told, in order, a block at a time.

import { refused } from "./services.js";

/** A Map of watches by name, each with the number of the next block to tell. */
export class Watches extends Map {
  #host;
  #tell;

  constructor(host, tell) {
    super();
    this.#host = host;
    this.#tell = tell;
  }

  /** Answer `layer1.watch`; without `from` it begins behind the head. */
  async add({ name, blocks = false, logs, confirmations = 0, from }) {
    if (!blocks && logs === undefined) throw refused(-32602, "blocks, logs or both");
    if (this.#host.layer1 === null) throw refused(4900, "this host has no L1: give FakeHost a `layer1`");
    const next = from === undefined ? await this.#head() + 1 : Number(from);
    this.set(name, { name, blocks, logs, confirmations, next });
    return {};
  }

  remove(name) {
    this.delete(name);
    return {};
  }

  /** Tell each watch what is new; return the head's number. */
  async follow() {
    const head = await this.#head();
    for (const watch of this.values()) {
      for (; watch.next <= head - watch.confirmations; watch.next += 1) await this.#step(watch);
    }
    return head;
  }

  /** Take `depth` blocks off a FakeLayer1, tell each watch what it had heard of them, and grow as many others. */
  async reorg(depth) {
    const { layer1 } = this.#host;
    const head = await this.#head(), first = head - depth + 1;
    const heard = [];
    for (const watch of this.values()) {
      const bounds = { fromBlock: hex(first), toBlock: hex(watch.next - 1) };
      const logs = watch.logs === undefined || watch.next <= first ? [] : await this.#ask("eth_getLogs", { ...watch.logs, ...bounds });
      heard.push([watch, logs]);
    }
    layer1.drop(depth);
    for (let grown = 0; grown < depth; grown += 1) layer1.mine();
    for (const [watch, logs] of heard) {
      if (watch.next <= first) continue;
      if (logs.length > 0) await this.#tell("logs", { watch: watch.name, logs: logs.map((log) => ({ ...log, removed: true })), removed: true });
      if (watch.blocks) await this.#tell("reorg", { from: hex(first), to: hex(head) });
      watch.next = first;
    }
    await this.follow();
  }

  async #step(watch) {
    const block = await this.#ask("eth_getBlockByNumber", hex(watch.next), false);
    const logs = watch.logs === undefined ? [] : await this.#ask("eth_getLogs", { ...watch.logs, blockHash: block.hash });
    const { number, hash, timestamp } = block;
    if (watch.blocks) await this.#tell("block", { number, hash, timestamp });
    if (logs.length > 0) await this.#tell("logs", { watch: watch.name, logs, removed: false });
  }

  async #head() {
    if (this.#host.layer1 === null) throw new Error("this host has no L1: give FakeHost a `layer1`");
    return Number(await this.#ask("eth_blockNumber"));
  }

  #ask(method, ...params) {
    return this.#host.layer1.request({ method, params });
  }
}

function hex(number) {
  return "0x" + number.toString(16);
}
