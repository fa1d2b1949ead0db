// The testing twin, service by service; run by tests/sdk/js/test_testing.py as an author would.
import assert from "node:assert/strict";
import { FakeClock, FakeHost, FakeHub, FakeLayer1, HostError, Killed, layer1At, manifest } from "@l2proxy/sdk/testing";
import expected from "../expected.json" with { type: "json" };
import Sample from "../sample.js";

async function started(options = {}) {
  const host = new FakeHost(Sample, { layer1: new FakeLayer1({ answers: { eth_call: "0x2a" } }), ...options });
  await host.start();
  const run = async (what, amounts = []) => JSON.parse((await host.invoke("run", { what, amounts })).heard);
  await run("heard");
  return { host, run };
}

function refusal(code, words) {
  return (error) => error instanceof HostError && error.code === code && error.message.includes(words);
}

Deno.test("actions: params, results, the call, errors", async () => {
  const { host, run } = await started();
  assert.equal(manifest.id, "sample");
  assert.deepEqual(await host.invoke("run", { what: "heard", amounts: [1, "0x2", 3n] }, { key: "k" }), { heard: "[]", sum: "0x6" });
  const { origin, deadline } = await run("call");
  assert.deepEqual([origin, deadline > Date.now() / 1000], ["https://dapp.test", true]);
  await assert.rejects(host.invoke("run", { what: "heard" }), refusal(-32602, "amounts"));
  await assert.rejects(host.invoke("run", { what: "heard", amounts: [], more: 1 }), refusal(-32602, "more"));
  await assert.rejects(host.invoke("run", { what: 5, amounts: [] }), refusal(-32602, "params.what: a string"));
  await assert.rejects(host.invoke("run", { what: "", amounts: [1.5] }), refusal(-32602, "params.amounts[0]: 1.5 is no safe integer"));
  await assert.rejects(host.invoke("none"), refusal(-32601, "no action none"));
  await assert.rejects(run("heard", [2n ** 64n]), refusal(-32602, "params.amounts[0]"));
  await assert.rejects(run("heard", [2n ** 64n - 1n, 1]), /result\.sum: 18446744073709551616 does not fit/);
  await assert.rejects(run("toomuch"), /result: odd/);
  await assert.rejects(run("mine"), (error) => error.code === 7 && error.data.try === "later");
  await assert.rejects(run("bug"), refusal(-32603, "in its log"));
  assert.deepEqual(await host.ask("getLayer2State", { path: "/mine", origin: "o" }), { origin: "o" });
  await host.ask("lock");
  assert.deepEqual(await run("heard"), [["lock"]]);
  assert.throws(() => new FakeHost(Sample, { hubb: 1 }), /no option hubb/);
  const bare = new FakeHost(Sample);
  await assert.rejects(bare.invoke("run"), /not started/);
  await assert.rejects(bare.mine(), /needs a FakeLayer1/);
  await assert.rejects(bare.reorg(), /needs a FakeLayer1/);
  await host.stop();
});

Deno.test("what the daemon's host answers, too", async () => {
  const host = new FakeHost(Sample, { layer1: new FakeLayer1({ answers: { eth_call: "0x2a" } }), hub: new FakeHub({ online: false }) });
  await host.start();
  for (const { what, amounts = [], sum = "0x0", answer, code } of expected) {
    const invoked = host.invoke("run", { what, amounts });
    if (code !== undefined) await assert.rejects(invoked, (error) => code === null || error.code === code, what);
    else assert.deepEqual(await invoked, { heard: JSON.stringify(answer), sum });
  }
  await host.stop();
});

Deno.test("store, keys, state, log", async () => {
  const { host, run } = await started();
  assert.deepEqual(await run("store"), [[["a/2", 3], ["a/1", 2]], null]);
  assert.deepEqual(await run("keys"), ["0'", "7'", true, 66]);
  assert.deepEqual(await run("bytes"), [[255, 97], [97]]);
  await assert.rejects(run("number"), refusal(-32602, "strings or Uint8Array, not 5"));
  await assert.rejects(run("unsigned"), refusal(-32602, "low s"));
  assert.deepEqual(await run("state"), [1, 2]);
  assert.deepEqual([host.state, host.revision], [{ a: "0x1", b: {} }, 2]);
  await run("log");
  assert.deepEqual(host.logs, [{ level: "warning", message: "careful", fields: { amount: "0x3" } }]);
  assert.equal(await run("exported"), null);
  await host.stop();
  const exporting = await started({ manifest: { ...manifest, keys: { ...manifest.keys, export: true } } });
  assert.equal((await exporting.run("exported")).length, 66);
  await exporting.host.stop();
  const next = await started({ store: host.store });
  assert.deepEqual((await next.run("store"))[1], null);
  assert.equal(next.host.store.size, 2);
  await next.host.stop();
});

Deno.test("money is held to the manifest and carried out by the test", async () => {
  const { host, run } = await started();
  assert.deepEqual(await run("money"), ["op-1", "op-2", "op-2", "op-3"]);
  assert.deepEqual([...host.operations.values()].map(({ kind, status }) => [kind, status]), [
    ["deposit", "awaiting_approval"],
    ["plan", "awaiting_approval"],
    ["send", "awaiting_approval"],
  ]);
  assert.deepEqual(host.operations.get("op-2").steps[0].args, ["0x02"]);
  assert.equal(host.operations.get("op-1").steps[0].value, "0x5");
  host.operations.reject("op-1");
  await host.delivered();
  assert.deepEqual(await run("heard"), [["operation", "op-1", "rejected", "the owner refused"]]);
  await assert.rejects(run("unlisted"), refusal(4100, "open is no withdraw function"));
  await assert.rejects(run("transfer"), refusal(4100, "transfer"));
  await host.stop();
  const execute = (kind) => {
    if (kind === "deposit") throw new Error("out of gas");
    return { blockNumber: "0x1" };
  };
  const other = await started({ execute, manifest: null });
  await other.run("money");
  await other.host.until(() => other.host.operations.get("op-2").status === "done");
  await other.host.delivered();
  const heard = await other.run("heard");
  assert.deepEqual(heard.filter(([, id]) => id === "op-2").map((row) => row[2]), ["waiting", "done"]);
  assert.deepEqual(heard.find(([, id]) => id === "op-1").slice(2), ["failed", "out of gas"]);
  assert.equal(await other.run("transfer"), "op-4");
  await other.host.stop();
});

Deno.test("L1: what was granted, watches, a reorganisation", async () => {
  const { host, run } = await started();
  assert.equal(await run("layer1"), "0x2a");
  await assert.rejects(run("ungranted"), refusal(4100, "eth_getProof"));
  await run("watch");
  await host.mine({ logs: [{ data: "0x01", topics: ["0xaa"] }, { data: "0x02", topics: ["0xbb"] }] });
  assert.deepEqual(await run("heard"), [["block", 1, 1_700_000_012], ["logs", "all", ["0x01"], false]]);
  await host.mine();
  await host.mine();
  assert.deepEqual((await run("heard")).filter(([kind]) => kind === "logs"), [["logs", "deep", ["0x01", "0x02"], false]]);
  await run("unwatch");
  await host.reorg(3);
  const after = await run("heard");
  assert.deepEqual(after.slice(0, 2), [["logs", "all", ["0x01"], true], ["reorg", { from: 1, to: 3 }]]);
  assert.deepEqual(after.slice(2).map((row) => row.slice(0, 2)), [["block", 1], ["block", 2], ["block", 3]]);
  assert.equal(await run("head"), "0x3");
  await host.stop();
  const other = await started();
  const head = other.run("head");
  await other.host.until(() => other.host.watches.has("layer1-block-tracker"));
  await other.host.mine();
  assert.equal(await head, "0x1");
  await other.host.stop();
});

Deno.test("timers fire at their moment of the clock", async () => {
  const clock = new FakeClock(1_000).install();
  try {
    const { host, run } = await started({ clock });
    await run("timers");
    await host.advance(25);
    assert.deepEqual(await run("heard"), [["timer", "again", 1, false], ["timer", "again", 2, false]]);
    assert.equal(clock.now, 1_025);
    for (let block = 0; block < 3; block += 1) await host.mine();
    assert.deepEqual(await run("heard"), [["timer", "block", null, false]]);
    await assert.rejects(host.fire("gone"), /no timer gone/);
    await host.stop();
  } finally {
    clock.restore();
  }
  assert.ok(Date.now() > 1_025_000);
});

Deno.test("the hub: messages in order, away, and a hook that fails is heard of", async () => {
  const hub = new FakeHub({ answer: (text) => text + "!", respond: ({ path }) => ({ status: 404, body: path }) });
  const { host, run } = await started({ hub });
  assert.deepEqual(await run("hub"), [404, "/orders"]);
  hub.deliver(new Uint8Array([1]));
  hub.goAway();
  await host.delivered();
  assert.deepEqual(await run("heard"), [["hub", "message", "ping!"], ["hub", "message", "AQ=="], ["hub", "close", 1006]]);
  await assert.rejects(run("hub"), refusal(4900, "away"));
  hub.goOnline();
  hub.deliver("break");
  await assert.rejects(host.stop(), refusal(-32603, "the plugin failed"));
  await host.stop();
});

Deno.test("a crash at a host call leaves what was written before", async () => {
  const { host, run } = await started();
  host.afterCall = (method) => {
    if (method === "persist") throw new Killed();
  };
  await assert.rejects(run("store"), Killed);
  assert.deepEqual([host.died, host.store.size], [true, 3]);
  await host.kill();
  const next = new FakeHost(Sample, { store: host.store });
  await next.start("unknown");
  assert.equal((await next.invoke("run", { what: "heard", amounts: [] })).heard.includes('["start","unknown"]'), true);
  await next.stop();
});

Deno.test("nothing is open but the project and, where it was said, one node", async () => {
  for (const path of ["/etc/passwd", import.meta.dirname + "/../../outside"]) assert.throws(() => Deno.readTextFileSync(path), Deno.errors.NotCapable);
  assert.deepEqual([Deno.env.get("HOME"), Deno.env.toObject()], [undefined, {}]); // as in the daemon
  assert.throws(() => new Deno.Command("/bin/sh").outputSync(), Deno.errors.NotCapable);
  await assert.rejects(fetch("http://127.0.0.1:8545/"), Deno.errors.NotCapable);
  assert.match(Deno.readTextFileSync(import.meta.dirname + "/../plugin.toml"), /id = "sample"/);
  const [url] = Deno.args;
  assert.equal(await layer1At(url).request({ method: "eth_chainId" }), "0x7a69");
  await assert.rejects(layer1At(url).request({ method: "eth_none" }), (error) => error.code === -32601);
});
