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
