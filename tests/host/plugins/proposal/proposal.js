// The proposal's `layer2Interface`, and every part of what the constructor gets, once.
export default class Proposal {
  constructor(given) {
    Object.assign(this, given);
    this.given = given;
    this.layer2Interface = {
      actions: [
        {
          name: "makePayment",
          call: this.makePayment.bind(this),
          params: [{ name: "toAddress", type: "address" }, { name: "value", type: "uint" }],
        },
        {
          name: "requestWithdrawPayment",
          call: this.withdrawPayment.bind(this),
          params: [{ name: "fromAddress", type: "address" }, { name: "latestMessage", type: "string" }],
        },
        { name: "ask", call: this.ask.bind(this), params: [{ name: "what", type: "string" }] },
      ],
    };
  }

  async makePayment(toAddress, value, last) {
    const seen = [typeof value, toAddress, last.origin, last.deadline > 0, this.layer1NetworkId, this.layer1OwnerAddress];
    return { twice: value * 2n, seen: JSON.stringify(seen) };
  }

  async withdrawPayment(fromAddress, latestMessage) {
    const before = await this.localDatabase.get(fromAddress);
    await this.localDatabase.put(fromAddress, latestMessage);
    return { before: before ?? "nothing" };
  }

  onBlock() {
    if (this.told) this.told.onBlock += 1;
  }

  async ask(what) {
    const asked = {
      given: async () => Object.keys(this.given).sort(),
      globals: async () => ["Worker", "localStorage", "caches"].filter((name) => name in globalThis),
      sign: async () => {
        const account = await this.keys.account(0);
        const signature = await this.keys.sign(account, { message: "hello" });
        return (await this.keys.recover({ message: "hello", signature })) === account.address;
      },
      call: () => this.layer1Provider.request({ method: "eth_call", params: [{ to: this.layer1OwnerAddress }, "latest"] }),
      refused: () => this.layer1Provider.request({ method: "eth_sendRawTransaction", params: ["0x00"] }),
      block: () => this.layer1BlockTracker.getLatestBlock(),
      state: () => this.state.update({ state: { paid: 3n } }),
      bytes: async () => {
        await this.localDatabase.write({ a: new Uint8Array([1, 255]), b: "two" }, ["c"]);
        return (await this.localDatabase.scan({ limit: 2 })).map(([key, value]) => [key, value.length, typeof value]);
      },
      keys: async () => {
        const key = new Uint8Array([255, 1]);
        await this.localDatabase.put(key, "one");
        await this.localDatabase.write(new Map([[new Uint8Array([255, 2]), "two"], ["text", "three"]]));
        return [await this.localDatabase.get(key), await this.localDatabase.get(new Uint8Array([255, 2])), await this.localDatabase.get("text")];
      },
      heads: async () => {
        this.told = { latest: [], onBlock: 0 };
        this.layer1BlockTracker.on("latest", (block) => this.told.latest.push(Number(block)));
        for (const name of ["one", "two"]) await this.layer1Provider.watch({ name, blocks: true });
      },
      told: () => this.told,
      patch: () => this.state.update({ patch: { more: 4n } }),
      mine: () => Promise.reject(Object.assign(new Error("no such luck"), { name: "ActionError", code: 7, spent: false })),
      huge: () => Promise.reject(Object.assign(new Error("no such luck"), { name: "ActionError", code: 1e300 })),
      bug: () => this.nothing.here,
      unawaited: async () => void this.localDatabase.put("a", 5),
      print: async () => console.log("printed and nowhere else"),
    };
    if (what === "wrong") return { answr: "yes" };
    return { answer: JSON.stringify(await asked[what]()) ?? "undefined" };
  }
}
