// Sweeping: the whole balance to the owner's main account, to the wei, and once.

import assert from "node:assert/strict";
import { chain, ETH, host, Killed, keysOf, payment, probe } from "../world.js";

const OWNER = "0x1111111111111111111111111111111111111111";

async function found(layer1Options = {}) {
  const { stealthAddress, log } = payment(keysOf("alice"));
  const layer1 = chain({ balances: { [stealthAddress]: ETH }, ...layer1Options }), store = new Map();
  const alice = host("alice", layer1, { owner: OWNER, store });
  await alice.start();
  await alice.mine({ logs: [log] });
  return { alice, layer1, store, stealthAddress };
}

Deno.test("value and fee are the whole balance", async () => {
  const { alice, layer1, stealthAddress } = await found();
  const swept = await alice.invoke("sweep", { stealthAddress });
  const [raw] = layer1.state.sent, sent = probe.parse(raw);
  assert.equal(await probe.signer({ serializedTransaction: raw }), stealthAddress);
  assert.deepEqual([sent.to, sent.nonce ?? 0, sent.chainId, sent.gas, sent.maxFeePerGas], [OWNER, 0, 31337, 21000n, sent.maxPriorityFeePerGas]);
  assert.equal(sent.value + sent.gas * sent.maxFeePerGas, ETH);
  assert.deepEqual([BigInt(swept.value), BigInt(swept.fee), swept.transactionHash], [sent.value, sent.gas * sent.maxFeePerGas, probe.keccak256(raw)]);
  assert.deepEqual(await alice.invoke("sweep", { stealthAddress }), swept); // the node has it already
  assert.equal(layer1.state.sent.length, 1);
  layer1.state.baseFee *= 3n;
  const dearer = await alice.invoke("sweep", { stealthAddress });
  assert.equal(layer1.state.sent.length, 2);
  assert.equal(probe.parse(layer1.state.sent[1]).nonce ?? 0, 0); // in the place of the first: one of them is mined
  assert.equal(BigInt(dearer.value) + BigInt(dearer.fee), ETH);
  await alice.stop();
});

Deno.test("killed on either side of sending: what is on disk is sent again", async () => {
  for (const moment of ["beforeCall", "afterCall"]) {
    const { alice, layer1, store, stealthAddress } = await found();
    alice[moment] = (_, { method }) => {
      if (method === "eth_sendRawTransaction") throw new Killed();
    };
    await assert.rejects(alice.invoke("sweep", { stealthAddress }));
    await alice.kill();
    const again = host("alice", layer1, { owner: OWNER, store });
    await again.start();
    layer1.state.baseFee += 1n;
    const { transactionHash } = await again.invoke("sweep", { stealthAddress });
    assert.deepEqual(layer1.state.sent.map(probe.keccak256), [transactionHash]);
    await again.stop();
  }
});

Deno.test("what cannot be swept says why", async () => {
  const { alice, layer1, stealthAddress } = await found();
  await assert.rejects(alice.invoke("sweep", { stealthAddress: OWNER }), /none of the stealth addresses/);
  layer1.state.balances[stealthAddress.toLowerCase()] = 21000n;
  await assert.rejects(alice.invoke("sweep", { stealthAddress }), /has 21000 wei, and the transaction costs/);
  layer1.state.balances[stealthAddress.toLowerCase()] = 0n;
  await assert.rejects(alice.invoke("sweep", { stealthAddress }), /is empty/);
  assert.deepEqual(layer1.state.sent, []);
  await alice.stop();
});

const TOKEN = "0x2222222222222222222222222222222222222222";

async function foundToken(wei, held = 5n) {
  const { stealthAddress, log } = payment(keysOf("alice"), TOKEN);
  const layer1 = chain({ balances: { [stealthAddress]: wei }, tokens: { [TOKEN]: { [stealthAddress]: held } } });
  const alice = host("alice", layer1, { owner: OWNER });
  await alice.start();
  await alice.mine({ logs: [log] });
  return { alice, layer1, stealthAddress };
}

Deno.test("a token: listed, and all of it moved to the main account by its address's own gas", async () => {
  const { alice, layer1, stealthAddress } = await foundToken(ETH);
  const [row] = (await alice.invoke("list", { after: "", limit: 0n })).addresses;
  assert.deepEqual(row.tokens, [{ token: TOKEN, balance: "0x5" }]);
  const swept = await alice.invoke("sweepToken", { stealthAddress, token: TOKEN });
  const [raw] = layer1.state.sent, sent = probe.parse(raw);
  assert.equal(await probe.signer({ serializedTransaction: raw }), stealthAddress);
  assert.deepEqual([sent.to, sent.value ?? 0n, BigInt(swept.value), BigInt(swept.fee)], [TOKEN, 0n, 5n, sent.gas * sent.maxFeePerGas]);
  assert.equal(sent.data, "0xa9059cbb" + OWNER.slice(2).padStart(64, "0") + "5".padStart(64, "0"));
  assert.deepEqual(await alice.invoke("sweepToken", { stealthAddress, token: TOKEN }), swept);
  await assert.rejects(alice.invoke("sweep", { stealthAddress }), /another sweep of .* is on its way/); // it would take the nonce
  layer1.state.nonces[stealthAddress.toLowerCase()] = 1;
  await alice.invoke("sweep", { stealthAddress });
  assert.equal(layer1.state.sent.length, 2);
  await alice.stop();
});

Deno.test("a token without gas: said, and the gas asked of the owner", async () => {
  const { alice, layer1, stealthAddress } = await foundToken(7n);
  const token = TOKEN;
  await assert.rejects(alice.invoke("sweepToken", { stealthAddress, token }), /has 7 wei, and the transaction costs .*: fundSweep/);
  const { operation } = await alice.invoke("fundSweep", { stealthAddress, token });
  const [{ to, value }] = alice.operations.get(operation).steps;
  assert.equal(to, stealthAddress);
  layer1.state.balances[stealthAddress.toLowerCase()] = 7n + BigInt(value);
  await assert.rejects(alice.invoke("fundSweep", { stealthAddress, token }), /has the gas/);
  layer1.state.tokens[OWNER] = {};
  await assert.rejects(alice.invoke("sweepToken", { stealthAddress, token: OWNER }), /holds nothing of/);
  await alice.invoke("sweepToken", { stealthAddress, token });
  await assert.rejects(alice.invoke("fundSweep", { stealthAddress: OWNER, token }), /none of the stealth addresses/);
  layer1.state.tokens[TOKEN] = new Error("reverted"); // anybody's contract may be named
  assert.deepEqual((await alice.invoke("list", { after: "", limit: 0n })).addresses[0].tokens, [{ token, balance: "0x0" }]);
  await alice.stop();
});
