// Uses every service of the host once, and keeps what it is told. Its twin is python/everything.py; one test drives both.

const TYPES = { Note: [{ name: "text", type: "string" }] };

export default class Everything {
  told = { operations: {}, hub: [], blocks: [], logs: [], timers: [] };

  constructor(given) {
    Object.assign(this, given);
    const params = [{ name: "what", type: "string" }, { name: "given", type: "string" }];
    const call = async (what, text) => ({ answer: JSON.stringify(await this[`use_${what}`](JSON.parse(text)) ?? null) });
    this.layer2Interface = { actions: [{ name: "use", call, params, approval: "never" }] };
  }

  async start({ gateways }) {
    this.contract = gateways.find(({ name }) => name === "main").address;
    await this.layer1Provider.watch({ name: "blocks", blocks: true });
    await this.layer1Provider.watch({ name: "released", logs: { address: this.contract }, from: 0n });
    await this.ready();
  }

  async use_keys() {
    const account = await this.keys.account(0), derived = await this.keys.derive("1'/7'");
    const domain = { name: "Everything", chainId: this.layer1NetworkId, verifyingContract: this.contract };
    const typedData = { domain, primaryType: "Note", types: TYPES, message: { text: "hello" } };
    const found = { account: account.address, derived: derived.address, new: (await this.keys.account()).address };
    for (const [name, who] of [["own", account], ["owner", "owner"]]) {
      const byMessage = await this.keys.sign(who, { message: "hello" });
      const byType = await this.keys.sign(who, { typedData });
      found[`${name}Message`] = await this.keys.recover({ message: "hello", signature: byMessage });
      found[`${name}Typed`] = await this.keys.recover({ typedData, signature: byType });
    }
    found.hash = await this.keys.hash({ data: new TextEncoder().encode("hello") });
    found.abiHash = await this.keys.hash({ abi: ["uint256"], values: [2n ** 70n] });
    return found;
  }

  async use_store() {
    await this.localDatabase.write({ a: "1", b: new Uint8Array([1, 255]), c: "3" });
    await this.localDatabase.write({ d: "4" }, ["a"]);
    const rows = await this.localDatabase.scan({ start: "a", end: "d", reverse: true });
    return rows.map(([key, value]) => [key, typeof value === "string" ? value : [...value]]);
  }

  async use_state({ origin }) {
    const first = await this.state.update({ state: { seen: 1, gone: 2 } });
    const second = await this.state.update({ patch: { gone: null } });
    return [second - first, await this.state.update({ state: { mine: 3 }, origin }) > second];
  }

  use_layer1() {
    return this.layer1Provider.request({ method: "eth_chainId" });
  }

  use_deposit() {
    return this.gateway.deposit({ function: "open()", value: 10n ** 15n }).then(identity);
  }

  use_withdraw() {
    return this.gateway.withdraw({ function: "take(uint256)", args: [5n] }).then(identity);
  }

  use_plan() {
    const step = { function: "take(uint256)", args: [1n] };
    return this.gateway.plan([step, { ...step, waitFor: { blocks: 2 } }]).then(identity);
  }

  async use_transfer() {
    const account = await this.keys.account(0);
    return await this.gateway.transfer({ to: account.address, value: 10n ** 16n }).then(identity);
  }

  use_send() {
    return this.gateway.send({ function: "answer(uint256)", args: [0n] }).then(identity);
  }

  async use_hub() {
    await this.hub.send("ping");
    await this.hub.send(new Uint8Array([1, 255]));
  }

  async use_request() {
    const { status, body } = await this.hub.request({ method: "POST", path: "/hub", headers: { "X-Asked": "yes" }, body: "ping" });
    return [status, body];
  }

  async use_schedule({ id, block }) {
    await this.schedule({ id, block: BigInt(block), data: { for: id } });
    await this.schedule({ id: "never", block: 1000000n });
    await this.schedule({ id: "never", cancel: true });
  }

  use_log() {
    this.log.warning("something\u001b[31m was said", { number: 7 });
  }

  use_told() {
    return this.told;
  }

  onOperation(operation) {
    this.told.operations[operation.id] = operation.status;
  }

  onHubMessage({ event, text, base64 }) {
    if (event === "message") this.told.hub.push(text ?? [...Uint8Array.fromBase64(base64)]);
  }

  onBlock({ number }) {
    this.told.blocks.push(number);
  }

  onLogs({ watch, logs, removed }) {
    for (const log of logs) this.told.logs.push([watch, Number(log.blockNumber), removed]);
  }

  onScheduled({ id, data, missed }) {
    this.told.timers.push([id, data, missed]);
  }
}

const identity = (operation) => operation?.id ?? operation;
