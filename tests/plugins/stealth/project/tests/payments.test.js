// Payments: announced first, paid once; whatever the owner says and whenever the process dies.

import assert from "node:assert/strict";
import { chain, ETH, host, Killed, keysOf, probe } from "../world.js";

const bob = keysOf("bob"), BOB = `st:eth:${probe.metaAddressOf(bob)}`;
const OWNER = "0x1111111111111111111111111111111111111111";
const PAGE = { after: "", limit: "0x0" };

function rich(rest = {}) {
  return chain({ balances: { [OWNER]: 5n * ETH }, ...rest });
}

/** The proxy's side of operations: what was asked for outlives the plugin, and is told again until it was heard. */
class Owner {
  operations = [];
  #told = new Map();

  watch(host) {
    const submit = host.operations.submit.bind(host.operations);
    host.operations.submit = (kind, params) => {
      const answer = submit(kind, params), id = `operation-${this.operations.length + 1}`;
      this.operations.push({ ...host.operations.get(answer.operation), id });
      return { operation: id };
    };
  }

  /** Say yes to everything and tell `host` each change that it has not answered. */
  async approve(host, ...statuses) {
    for (let index = 0; index < this.operations.length; index += 1) {
      for (const status of statuses) await this.tell(host, this.operations[index], status);
    }
  }

  async tell(host, operation, status) {
    const key = `${operation.id} ${status}`;
    if (this.#told.has(key)) return;
    const step = { awaiting_approval: "pending", running: "submitted", done: "confirmed" }[status] ?? "dropped";
    await host.ask("operation", { ...operation, status, steps: operation.steps.map((row) => ({ ...row, status: step })) });
    this.#told.set(key, true);
  }

  of(kind) {
    return this.operations.filter((row) => row.kind === kind);
  }
}

function sender(owner, layer1, store = new Map()) {
  const made = host("sender", layer1, { store, owner: OWNER });
  owner.watch(made);
  return made;
}

async function statuses(sending) {
  return (await sending.invoke("payments", PAGE)).payments.map((row) => row.status);
}

Deno.test("a payment: the announcement, and once it has a nonce the transfer", async () => {
  const owner = new Owner(), sending = sender(owner, rich({ registered: { "0x00000000000000000000000000000000000000b0": probe.metaAddressOf(bob) } }));
  await sending.start();
  const { stealthAddress, operation } = await sending.invoke("send", { to: "0x00000000000000000000000000000000000000b0", value: ETH }, { key: "one" });
  assert.deepEqual(await sending.invoke("send", { to: BOB, value: ETH }, { key: "one" }), { stealthAddress, operation });
  await owner.approve(sending, "awaiting_approval");
  assert.deepEqual([owner.of("plan").length, owner.of("transfer").length, await statuses(sending)], [1, 0, ["announcing"]]);
  await owner.approve(sending, "running");
  assert.deepEqual([owner.of("transfer").length, await statuses(sending)], [1, ["paying"]]);
  await owner.approve(sending, "done");
  assert.deepEqual([await statuses(sending), sending.state.payments.open], [["done"], 0]);
  const [announced] = owner.of("plan")[0].steps, [paid] = owner.of("transfer");
  const [scheme, address, ephemeralPublicKey, metadata] = announced.args;
  assert.deepEqual([scheme, address, paid.steps[0].to, paid.steps[0].value], ["0x1", stealthAddress, stealthAddress, "0xde0b6b3a7640000"]);
  assert.equal(metadata, `${metadata.slice(0, 4)}eeeeeeee${"ee".repeat(20)}${ETH.toString(16).padStart(64, "0")}`);
  assert.ok(probe.isFor(bob, { stealthAddress, ephemeralPublicKey, viewTag: metadata.slice(0, 4) }));
  await assert.rejects(sending.invoke("resume", { stealthAddress }), /is done/);
  await sending.stop();
});

Deno.test("killed at every host call: announced and paid once, or left to the owner, who is asked about the rest", async () => {
  let interrupted = 0;
  // Behind each call: that is also before the next one, for nothing of the plugin lies between them but what it has on disk.
  for (let at = 1, died = true; died; at += 1) {
    const owner = new Owner(), store = new Map(), layer1 = rich();
    const first = sender(owner, layer1, store);
    await first.start();
    let left = at;
    first.afterCall = () => {
      left -= 1;
      if (left === 0) throw new Killed();
    };
    const whole = async (sending) => {
      await sending.invoke("send", { to: BOB, value: ETH }, { key: "one" });
      await owner.approve(sending, "awaiting_approval", "running");
      await owner.approve(sending, "done");
    };
    died = await whole(first).then(() => false, () => true);
    await first.kill();
    const again = sender(owner, layer1, store);
    await again.start();
    await whole(again);
    await owner.approve(again, "awaiting_approval", "running", "done");
    let [row, ...others] = (await again.invoke("payments", PAGE)).payments;
    assert.deepEqual(others, []);
    if (row.status === "interrupted") {
      interrupted += 1;
      assert.deepEqual([owner.of("transfer").length, again.state.payments.interrupted], [0, 1]);
      await again.invoke("resume", { stealthAddress: row.stealthAddress });
      await owner.approve(again, "awaiting_approval", "running", "done");
      [row] = (await again.invoke("payments", PAGE)).payments;
    }
    assert.equal(row.status, "done");
    assert.equal(owner.of("transfer").length, 1, `killed after call ${at}`);
    assert.ok(owner.of("plan").length <= 2); // a second announcement costs gas and pays nobody
    await again.stop();
  }
  assert.ok(interrupted > 0);
});

Deno.test("what the owner refuses, what fails, and resume", async () => {
  const owner = new Owner(), layer1 = rich(), sending = sender(owner, layer1);
  await sending.start();
  const { stealthAddress } = await sending.invoke("send", { to: BOB, value: ETH });
  await owner.approve(sending, "rejected");
  assert.deepEqual([await statuses(sending), owner.of("transfer").length], [["refused"], 0]);
  await sending.invoke("resume", { stealthAddress });
  await owner.approve(sending, "running");
  await owner.approve(sending, "failed"); // of both: the announcement is reverted after all, the transfer displaced
  assert.deepEqual(await statuses(sending), ["refused"]);
  await sending.invoke("resume", { stealthAddress });
  assert.deepEqual([owner.of("plan").length, owner.of("transfer").length], [3, 1]); // announced first
  await owner.tell(sending, owner.of("plan").at(-1), "done");
  assert.deepEqual(await statuses(sending), ["refused"]); // the transfer is asked again when the owner says so
  layer1.state.balances[stealthAddress.toLowerCase()] = 1n; // somebody's dust is no payment
  await sending.invoke("resume", { stealthAddress });
  await owner.tell(sending, owner.of("transfer").at(-1), "rejected");
  assert.deepEqual([await statuses(sending), owner.of("transfer").length], [["refused"], 2]);
  layer1.state.balances[stealthAddress.toLowerCase()] = ETH;
  await assert.rejects(sending.invoke("resume", { stealthAddress }), /has arrived/);
  assert.deepEqual([await statuses(sending), owner.of("transfer").length], [["done"], 2]);
  await assert.rejects(sending.invoke("resume", { stealthAddress: OWNER }), /no stealth address that was paid/);
  await sending.stop();
});

Deno.test("nothing is begun for what cannot be paid", async () => {
  const owner = new Owner(), sending = sender(owner, rich());
  await sending.start();
  const offCurve = "0x02" + "00".repeat(31) + "05"; // 5³ + 7 has no root
  const refused = [[BOB, 0n, /more than nothing/], [BOB, 6n * ETH, /less than/], ["bob", 1n, /an address, or a meta-address/], [OWNER, 1n, /has registered no/], [offCurve, 1n, /no point/]];
  for (const [to, value, why] of refused) await assert.rejects(sending.invoke("send", { to, value }), why);
  const submit = sending.operations.submit;
  sending.operations.submit = () => { throw Object.assign(new Error("the gas cannot be paid"), { code: -32000 }); };
  await assert.rejects(sending.invoke("send", { to: BOB, value: ETH }, { key: "one" }), /gas cannot be paid/);
  assert.deepEqual([owner.operations, await statuses(sending), sending.state.payments.refused], [[], [], 0]);
  sending.operations.submit = submit;
  await sending.invoke("send", { to: BOB, value: ETH }, { key: "one" });
  assert.equal(owner.of("plan").length, 1);
  await sending.stop();
});

Deno.test("a token: announced as what it is, transferred by the proxy, and resumed until it has arrived", async () => {
  const token = "0x2222222222222222222222222222222222222222";
  const owner = new Owner(), layer1 = chain({ tokens: { [token]: { [OWNER]: 9n } } }), sending = sender(owner, layer1);
  await sending.start();
  await assert.rejects(sending.invoke("sendToken", { token, to: BOB, value: 10n }), /has 9 of token 0x2{40}, which is less than 10/);
  const { stealthAddress } = await sending.invoke("sendToken", { token, to: BOB, value: 9n }, { key: "one" });
  await owner.approve(sending, "running");
  const [, ephemeralPublicKey, metadata] = [owner.of("plan")[0].steps[0].args[0], owner.of("plan")[0].steps[0].args[2], owner.of("plan")[0].steps[0].args[3]];
  assert.equal(metadata, `${metadata.slice(0, 4)}a9059cbb${token.slice(2)}${"9".padStart(64, "0")}`);
  assert.ok(probe.isFor(bob, { stealthAddress, ephemeralPublicKey, viewTag: metadata.slice(0, 4) }));
  const [transfer] = owner.of("transfer");
  assert.deepEqual([transfer.steps[0].to, transfer.steps[0].args], [token, [stealthAddress, "0x9"]]);
  await owner.tell(sending, transfer, "rejected");
  assert.deepEqual(await statuses(sending), ["refused"]);
  await sending.invoke("resume", { stealthAddress });
  await owner.tell(sending, owner.of("transfer").at(-1), "failed");
  layer1.state.tokens[token][stealthAddress] = 9n;
  await assert.rejects(sending.invoke("resume", { stealthAddress }), /has arrived/);
  const [row] = (await sending.invoke("payments", PAGE)).payments;
  assert.deepEqual([row.asset, row.value], [token, "0x9"]);
  await sending.stop();
});
