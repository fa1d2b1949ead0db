// The scan: whatever anybody announces, whenever the process dies, and when the chain changes its mind.

import assert from "node:assert/strict";
import { announcement, chain, ETH, host, Killed, keysOf, payment, probe } from "../world.js";

const mine = keysOf("alice"), theirs = keysOf("bob");
const PAGE = { after: "", limit: "0x0" };

async function addresses(alice) {
  return (await alice.invoke("list", PAGE)).addresses.map((row) => row.stealthAddress);
}

function junk(count) {
  const good = payment(mine), bytes = (length) => "0x" + "5a".repeat(length);
  const shapes = [
    { ephemeralPublicKey: "0x" }, { ephemeralPublicKey: bytes(32) }, { ephemeralPublicKey: bytes(34) }, { ephemeralPublicKey: bytes(33) },
    { ephemeralPublicKey: "0x02" + "ff".repeat(32) }, { ephemeralPublicKey: "0x04" + "11".repeat(64) }, { ephemeralPublicKey: "0x00" + "00".repeat(32) },
    { metadata: "0x" }, { scheme: "0x" + "2".padStart(64, "0") }, { ephemeralPublicKey: bytes(200) },
  ];
  const rows = shapes.map((shape) => announcement({ ...good, ...shape }));
  rows.push({ ...good.log, data: "0x" }, { ...good.log, data: "0x" + "ff".repeat(128) }, { ...good.log, data: good.log.data.slice(0, 130) });
  rows.push({ ...good.log, topics: good.log.topics.slice(0, 3) });
  return Array.from({ length: count }, (_, index) => rows[index % rows.length]);
}

Deno.test("ten thousand announcements of junk stop nothing", async () => {
  const layer1 = chain(), alice = host("alice", layer1);
  await alice.start();
  const [first, last] = [payment(mine), payment(mine)];
  const flood = [...junk(10_900).filter((log) => log.topics.length === 4), ...Array.from({ length: 20 }, () => payment(theirs).log)];
  assert.ok(flood.length > 10_000);
  await alice.mine({ logs: [first.log] });
  for (let at = 0; at < flood.length; at += 1000) await alice.mine({ logs: flood.slice(at, at + 1000) }); // a line is 1 MiB at most
  await alice.ask("logs", { watch: "announcements", logs: placed(junk(20)), removed: false }); // what no filter would let through
  await alice.mine({ logs: [flood[0], last.log] });
  assert.deepEqual(await addresses(alice), [first, last].map((row) => row.stealthAddress).sort((a, b) => a.toLowerCase() < b.toLowerCase() ? -1 : 1));
  assert.deepEqual([alice.state.found, alice.state.scanned], [2, Number(layer1.head.number)]);
  await alice.stop();
});

function placed(logs) {
  return logs.map((log, index) => ({ ...log, blockNumber: "0x1", blockHash: "0x" + "9".repeat(64), logIndex: "0x" + index.toString(16) }));
}

Deno.test("killed at every host call of a scan, told again: nothing missed, nothing counted twice", async () => {
  const logs = placed([...[0, 1].map(() => payment(mine).log), ...junk(34), payment(mine).log]);
  const delivery = { watch: "announcements", logs, removed: false };
  for (let at = 1, died = true; died; at += 1) {
    const store = new Map(), layer1 = chain(), first = host("alice", layer1, { store });
    await first.start();
    let left = at;
    first.afterCall = () => {
      left -= 1;
      if (left === 0) throw new Killed();
    };
    died = await first.ask("logs", delivery).then(() => false, () => true);
    await first.kill();
    const again = host("alice", layer1, { store });
    await again.start();
    if (died) await again.ask("logs", delivery);
    assert.equal((await addresses(again)).length, 3);
    assert.deepEqual([again.state.found, again.state.scanned], [3, 1]);
    await again.stop();
  }
});

Deno.test("a reorg takes an announcement back, and another block brings it again", async () => {
  const { stealthAddress, log } = payment(mine), layer1 = chain({ balances: { [stealthAddress]: ETH } }), alice = host("alice", layer1);
  await alice.start();
  await alice.mine({ logs: [log] });
  await alice.mine({ logs: [log, payment(theirs).log] }); // anybody may repeat it
  await alice.reorg(1);
  const [row] = (await alice.invoke("list", PAGE)).addresses;
  assert.deepEqual([row.announced, row.balance, alice.state.found], [true, "0xde0b6b3a7640000", 1]);
  await alice.reorg(2);
  const [gone] = (await alice.invoke("list", PAGE)).addresses;
  assert.deepEqual([gone.stealthAddress, gone.announced, alice.state.found], [stealthAddress, false, 0]); // the money may lie there: it stays sweepable
  assert.ok((await alice.invoke("sweep", { stealthAddress })).transactionHash);
  await alice.mine({ logs: [log] });
  const [back] = (await alice.invoke("list", PAGE)).addresses;
  assert.deepEqual([back.announced, alice.state.found], [true, 1]);
  await alice.stop();
});

Deno.test("a store that is older than the watch is filled again from the first block", async () => {
  const layer1 = chain(), alice = host("alice", layer1), { log } = payment(mine);
  await alice.start();
  await alice.mine({ logs: [log] });
  await alice.stop();
  for (const [restored, found] of [[{ storeCounter: 1, expectedCounter: 9 }, 1], [false, 0]]) { // false: the watch of a new host begins where it is told
    const other = host("alice", layer1, { store: new Map([["scan", '{"cursor":{"block":7,"logIndex":0,"hash":"0x7"},"found":0}']]) });
    await other.start(restored);
    assert.deepEqual(other.calls.some(([method]) => method === "layer1.unwatch"), restored !== false);
    if (restored !== false) await other.follow();
    assert.equal(other.state.found, found);
    await other.stop();
  }
});

Deno.test("sites read no stealth address in the state", async () => {
  const layer1 = chain(), alice = host("alice", layer1), { stealthAddress, log } = payment(mine);
  await alice.start();
  await alice.mine({ logs: [log] });
  assert.deepEqual(Object.keys(alice.state), ["metaAddress", "registered", "scanned", "found", "payments"]);
  assert.ok(!JSON.stringify(alice.state).toLowerCase().includes(stealthAddress.slice(2).toLowerCase()));
  assert.equal(alice.state.metaAddress, `st:eth:${probe.metaAddressOf(mine)}`);
  await alice.stop();
});

Deno.test("anybody may announce any token for an address: a few are listed, the first of them", async () => {
  const alice = host("alice", chain()), first = payment(mine, "0x" + "11".repeat(20));
  await alice.start();
  const more = Array.from({ length: 40 }, (_, index) => announcement({ ...first, metadata: probe.metadataOf(first.viewTag, 1n, "0x" + (index + 16).toString(16).repeat(20)) }));
  await alice.mine({ logs: [first.log, first.log, ...more] });
  const [row] = (await alice.invoke("list", PAGE)).addresses;
  assert.deepEqual([row.tokens.length, row.tokens[0].token, row.tokens[1].token], [16, "0x" + "11".repeat(20), "0x" + "10".repeat(20)]);
  await alice.stop();
});
