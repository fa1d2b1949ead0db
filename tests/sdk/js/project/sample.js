// Does by name one thing with what was injected; the hooks write down what they hear.
export default class Sample {
  constructor(injected) {
    Object.assign(this, injected);
    this.heard = [];
    this.layer2Interface = {
      actions: [{
        name: "run",
        call: this.run.bind(this),
        params: [{ name: "what", type: "string" }, { name: "amounts", type: "uint64[]" }],
        returns: [{ name: "heard", type: "string" }, { name: "sum", type: "uint64" }],
        approval: "never",
      }],
    };
  }

  async start({ restored }) {
    this.heard.push(["start", restored]);
    await this.ready();
  }

  async run(what, amounts, call) {
    const answer = await WHAT[what].call(this, call);
    const heard = JSON.stringify(answer ?? null, (_, value) => typeof value === "bigint" ? `${value}n` : value);
    return what === "toomuch" ? { heard, sum: 1n, odd: 1 } : { heard, sum: amounts.reduce((one, other) => one + other, 0n) };
  }

  getLayer2State(path, origin) {
    return path === "/mine" ? { origin } : null;
  }

  onBlock({ number, timestamp }) { this.heard.push(["block", number, timestamp]); }
  onReorg(blocks) { this.heard.push(["reorg", blocks]); }
  onLogs({ watch, logs, removed }) { this.heard.push(["logs", watch, logs.map((log) => log.data), removed]); }
  async onHubMessage(event) {
    if (event.text === "break") throw new Error("a bug in a hook");
    await Promise.resolve();
    this.heard.push(["hub", event.event, event.text ?? event.base64 ?? event.code ?? null]);
  }
  onOperation({ id, status, error }) { this.heard.push(["operation", id, status, error?.message ?? null]); }
  onScheduled({ id, data, missed }) {
    this.heard.push(["timer", id, data, missed]);
    if (id === "again" && data < 2) return this.schedule({ id, time: this.seconds() + 10, data: data + 1 });
  }
  onLock() { this.heard.push(["lock"]); }
  seconds() { return Math.floor(Date.now() / 1000); }
}

const WHAT = {
  heard() { return this.heard.splice(0); },
  call(call) { return call; },
  async store() {
    await this.localDatabase.write({ "a/1": new Uint8Array([255, 1]), "a/2": "two", "b": "three" });
    await this.localDatabase.delete("b");
    const rows = await this.localDatabase.scan({ prefix: "a/", reverse: true });
    return [rows.map(([key, value]) => [key, value.length]), await this.localDatabase.get("b")];
  },
  async keys() {
    const account = await this.keys.account(), message = "hello";
    const signature = await this.keys.sign(account, { message });
    const [again] = await this.keys.recoverMany([{ message, signature }]);
    const { path } = await this.keys.derive("7'");
    return [account.path, path, again === account.address, (await this.keys.hash({ abi: ["uint8"], values: [1n] })).length];
  },
  async exported() { return (await this.keys.derive("1'")).privateKey; },
  async bytes() {
    await this.localDatabase.put(new Uint8Array([255, 97]), new Uint8Array([97]));
    const [[key, value]] = await this.localDatabase.scan({ prefix: new Uint8Array([255]) });
    await this.localDatabase.delete(key);
    return [[...key], [...value]];
  },
  number() { return this.localDatabase.put("k", 5); },
  unsigned() { return this.keys.recover({ message: "hello", signature: "0x00" }); },
  async money() {
    return [
      await this.gateway.deposit({ function: "open", args: ["0x01"], value: 5n }),
      await this.gateway.plan([{ function: "close(bytes32)", args: null, waitFor: { blocks: 2 } }]),
      await this.gateway.supply("op-2", ["0x02"]),
      await this.gateway.send({ function: "answer", args: ["0x03"] }),
    ];
  },
  unlisted() { return this.gateway.withdraw({ function: "open", args: [] }); },
  transfer() { return this.gateway.transfer({ to: this.layer1OwnerAddress, value: 1n }); },
  async state() { return [await this.state.update({ state: { a: 1n, b: { c: 2 } } }), await this.state.update({ patch: { b: { c: null } } })]; },
  layer1() { return this.layer1Provider.request({ method: "eth_call", params: [{}] }); },
  ungranted() { return this.layer1Provider.request({ method: "eth_getProof" }); },
  async watch() {
    await this.layer1Provider.watch({ name: "all", blocks: true, logs: { topics: ["0xAA"] } });
    await this.layer1Provider.watch({ name: "deep", logs: {}, confirmations: 2, from: 1n });
  },
  unwatch() { return this.layer1Provider.unwatch("deep"); },
  head() { return this.layer1BlockTracker.getLatestBlock(); },
  async hub() {
    await this.hub.send("ping");
    const { status, body } = await this.hub.request({ method: "GET", path: "/orders" });
    return [status, body];
  },
  timers() {
    return Promise.all([
      this.schedule({ id: "again", time: this.seconds() + 10, data: 1 }),
      this.schedule({ id: "block", block: 3n }),
      this.schedule({ id: "gone", time: 1 }).then(() => this.schedule({ id: "gone", cancel: true })),
    ]);
  },
  log() { this.log.warning("careful", { amount: 3n }); },
  mine() { throw Object.assign(new Error("no such luck"), { name: "ActionError", code: 7, data: { try: "later" }, spent: false }); },
  bug() { return this.nothing.here; },
  toomuch() {},
};
