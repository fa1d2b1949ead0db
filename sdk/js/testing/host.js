// `FakeHost`: the proxy's side of the channel for tests, in the plugin's own process.
//
// It answers every host call of plugin.md from memory, delivers hub messages, blocks, logs, operations and timers in order, one
// in flight per kind, and can be killed at any host call, so that a test can show what a crash leaves behind. On the plugin's
// side stands the runtime's own Session: what passes here passes in the daemon, but for what the sandbox refuses.

import { HostError, Session } from "#runtime/session.js";
import projectManifest from "#manifest";
import { checked } from "./abi.js";
import { Channel } from "./channel.js";
import { FakeClock } from "./clock.js";
import { PretendCrypto } from "./crypto.js";
import { FakeHub } from "./hub.js";
import { Operations } from "./operations.js";
import { services } from "./services.js";
import { Watches } from "./watches.js";

/** Throw it in `beforeCall` or `afterCall`: the plugin's process dies there. */
export class Killed extends Error {
  constructor() {
    super("the plugin was killed");
    this.name = "Killed";
  }
}

/** One plugin object and the host it believes in. */
export class FakeHost {
  #channel;
  #session;
  #running = null;
  #actions = new Map();
  #lanes = new Map();
  #failures = [];
  #waiting = new Set();
  #services;
  #count = 0;

  /** `Entry` is the plugin's class. Its manifest is the project's unless another, or null for none, is given. */
  constructor(Entry, { chainId = 1337, owner, gateways = {}, store = new Map(), crypto = new PretendCrypto(), hub = new FakeHub(), ...rest } = {}) {
    const { layer1 = null, execute, manifest = projectManifest, clock = new FakeClock(), ...unknown } = rest;
    if (Object.keys(unknown).length > 0) throw new TypeError(`FakeHost has no option ${Object.keys(unknown).join(", ")}`);
    owner ??= crypto.account("owner").address;
    Object.assign(this, { chainId, owner, gateways, store, crypto, hub, manifest, clock });
    Object.assign(this, { state: null, revision: 0, isReady: false, beforeCall: null, afterCall: null, died: false });
    this.layer1 = typeof layer1 === "function" ? { request: ({ method, params }) => layer1(method, params) } : layer1;
    this.calls = [];
    this.logs = [];
    this.timers = new Map();
    this.operations = new Operations(this, execute, (operation) => this.#deliver("operation", operation));
    this.watches = new Watches(this, (method, params) => this.#deliver(method, params));
    this.#services = services(this);
    this.#channel = new Channel((method, params) => this.#serve(method, params));
    this.#session = new Session(Entry, this.#channel.lines, { write: (bytes) => this.#channel.received(bytes), wasRead() {} });
  }

  /** Start the plugin and connect its hub; return the actions its code declares. `restored` as plugin.md has it. */
  async start(restored = false) {
    this.#running = this.#session.run().then(() => this.#channel.close(new Killed()), (error) => this.#channel.close(error));
    const chain = quantity(this.chainId);
    const gateways = Object.entries(this.gateways).map(([name, address]) => ({ name, chain, address, since: "0x0" }));
    const { actions } = await this.ask("start", { chainId: chain, owner: this.owner, gateways, accounts: [], restored });
    for (const action of actions) this.#actions.set(action.name, action);
    if (this.manifest === null || this.manifest.hub) this.hub.connect((event) => this.#deliver("hub", event));
    return actions;
  }

  /** Invoke an action as a site does; return its result in wire form (integers as 0x). Rejects with the plugin's code and message. */
  async invoke(action, params = {}, { origin = "https://dapp.test", key, deadline = Math.floor(Date.now() / 1000) + 60 } = {}) {
    if (this.#running === null) throw new Error("the host is not started: `await host.start()` first");
    const declared = this.#actions.get(action);
    if (declared === undefined) throw new HostError({ code: -32601, message: `no action ${action}; there are ${[...this.#actions.keys()].join(", ") || "none"}` });
    const given = wanted(() => checked(declared.params, params, "params"));
    const call = `call-${++this.#count}`;
    const result = await this.ask("invoke", { call, action, params: given, origin, deadline, idempotencyKey: key });
    return declared.returns === undefined ? result : checked(declared.returns, result, "result");
  }

  /** Send the plugin any other request of plugin.md: getLayer2State, block, reorg, lock, unlock, … */
  ask(method, params = {}) {
    return this.#channel.request(method, params);
  }

  /** Wait until a host call makes `condition` true. Rejects after `seconds`. */
  async until(condition, seconds = 10) {
    if (condition()) return;
    const { promise, resolve, reject } = Promise.withResolvers();
    const waiting = { condition, resolve };
    const timer = setTimeout(() => reject(new Error(`not within ${seconds} s: ${condition}`)), seconds * 1000);
    this.#waiting.add(waiting);
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(waiting);
    }
  }

  /** Wait until everything delivered so far was taken by the plugin's hooks. Rejects where one of them failed. */
  async delivered() {
    for (let before = -1; before !== this.#count;) {
      before = this.#count;
      await Promise.all(this.#lanes.values());
    }
    if (this.#failures.length > 0) throw this.#failures.shift();
  }

  /** Mine a block on a FakeLayer1, 12 s later, with `logs` in it; deliver it and fire the timers that are due. */
  async mine({ logs = [] } = {}) {
    this.#needChain();
    await this.advance(12);
    const timestamp = Math.max(Math.floor(this.clock.now), Number(this.layer1.head.timestamp) + 1);
    this.layer1.mine({ logs, timestamp });
    await this.follow();
  }

  /** Deliver to every watch what L1 has that was not delivered yet, and fire the timers of those blocks. */
  async follow() {
    const head = await this.watches.follow();
    for (const [id, timer] of this.timers) if (timer.block !== undefined && Number(timer.block) <= head) await this.fire(id);
    await this.delivered();
  }

  /** Replace the last `depth` blocks of a FakeLayer1 by others without logs, and deliver what that means. */
  async reorg(depth = 1) {
    this.#needChain();
    await this.watches.reorg(depth);
    await this.delivered();
  }

  /** Move the clock, firing each timer on the way at its moment. */
  async advance(seconds) {
    const end = this.clock.now + seconds;
    for (;;) {
      const due = [...this.timers.values()].filter((timer) => timer.time !== undefined && Number(timer.time) <= end);
      if (due.length === 0) break;
      const next = due.reduce((one, other) => (Number(other.time) < Number(one.time) ? other : one));
      this.clock.advance(Math.max(0, Number(next.time) - this.clock.now));
      await this.fire(next.id);
    }
    this.clock.advance(end - this.clock.now);
  }

  /** Fire a timer of `schedule`, whatever its moment. */
  async fire(id, { missed = false } = {}) {
    const timer = this.timers.get(id);
    if (timer === undefined) throw new Error(`no timer ${id}; there are ${[...this.timers.keys()].join(", ") || "none"}`);
    await this.ask("scheduled", { id, data: timer.data ?? null, missed });
    if (this.timers.get(id) === timer) this.timers.delete(id);
  }

  /** Stop the plugin as the proxy does, then end. Rejects where a hook failed and nobody heard of it. */
  async stop() {
    await this.delivered();
    await this.ask("stop");
    await this.kill();
  }

  /** End at once: what the plugin has not written is lost. The store can be given to another FakeHost. */
  async kill() {
    this.died = true;
    this.hub.close();
    this.#channel.close(new Killed());
    await this.#running;
  }

  #deliver(method, params) {
    this.#count += 1;
    const lane = (this.#lanes.get(method) ?? Promise.resolve()).then(async () => {
      try {
        if (!this.died) await this.ask(method, params);
      } catch (error) {
        if (!(error instanceof Killed)) this.#failures.push(error);
      }
    });
    this.#lanes.set(method, lane);
    return lane;
  }

  async #serve(method, params) {
    this.calls.push([method, params]);
    this.#maybeDie(this.beforeCall, method, params);
    const service = this.#services[method];
    if (service === undefined) throw new HostError({ code: -32601, message: `no host method ${method}` });
    const answer = await service(params);
    this.#maybeDie(this.afterCall, method, params);
    this.look();
    return answer;
  }

  /** See whether somebody waits in `until` for what is true now. */
  look() {
    for (const waiting of this.#waiting) if (waiting.condition()) waiting.resolve();
  }

  #needChain() {
    if (typeof this.layer1?.mine !== "function") throw new Error("this needs a FakeLayer1: `new FakeHost(Plugin, { layer1: new FakeLayer1() })`");
  }

  #maybeDie(check, method, params) {
    try {
      check?.(method, params);
    } catch (error) {
      if (!(error instanceof Killed)) throw error;
      this.died = true;
      this.#channel.close(error);
      throw error;
    }
  }
}

function wanted(check) {
  try {
    return check();
  } catch (error) {
    throw new HostError({ code: -32602, message: error.message });
  }
}

function quantity(number) {
  return "0x" + number.toString(16);
}
