// The scheme against the SDK and against keys, addresses and tags computed by other code (vectors.json, written by the Python test).

import assert from "node:assert/strict";
import vectors from "../vectors.json" with { type: "json" };
import { announcement, keysOf, probe } from "../world.js";

const SDK_META = "0x033404e82cd2a92321d51e13064ec13a0fb0192a9fdaaca1cfb47b37bd27ec13970390ad5eca026c05ab5cf4d620a2ac65241b11df004ddca360e954db1b26e3846e";
const { sdk } = probe;

Deno.test("the SDK's own vectors", () => {
  const keys = probe.keysFrom("0x0363721eb9e981558c748b824cb32a840da2b3e8957c2fc3bcb8d9c86cb87456", "0xb52a0555f6a8663d89f00365893b1ef9e38eaf2e8bc48a63319c9ea5cb4a27c5");
  assert.equal(probe.metaAddressOf(keys), SDK_META);
  assert.equal(probe.readMetaAddress(`st:eth:${SDK_META}`), sdk.parseStealthMetaAddressURI({ stealthMetaAddressURI: `st:eth:${SDK_META}`, schemeId: 1 }));
  assert.equal(sdk.getViewTag({ hashedSharedSecret: "0x158ce29a3dd0c8dca524e5776c2ba6361c280e013f87eee5eb799a713a939501", schemeId: 1 }), "0x15");
  const made = probe.newStealthAddress(SDK_META);
  assert.equal(probe.privateKeyToAccount(probe.stealthKey(keys, made.ephemeralPublicKey)).address, made.stealthAddress);
});

Deno.test("every vector, sent and received", () => {
  const stranger = keysOf("stranger");
  for (const [at, row] of vectors.entries()) {
    const keys = probe.keysFrom(row.spendingKey, row.viewingKey);
    assert.equal(probe.metaAddressOf(keys), row.metaAddress);
    const ephemeral = probe.hexToBytes(row.ephemeralKey);
    const made = probe.newStealthAddress(`st:eth:${row.metaAddress}`, ephemeral);
    assert.deepEqual(made, { stealthAddress: row.stealthAddress, ephemeralPublicKey: row.ephemeralPublicKey, viewTag: row.viewTag });
    const read = probe.readAnnouncement(announcement(row));
    assert.deepEqual(read, made);
    assert.equal(probe.isFor(keys, read), true);
    assert.equal(probe.stealthKey(keys, row.ephemeralPublicKey), row.stealthKey);
    if (at % 2 === 0) console.log("MADE " + JSON.stringify({ ...probe.newStealthAddress(row.metaAddress), at }));
    if (at % 10 !== 0) continue;
    assert.deepEqual(made, sdk.generateStealthAddress({ stealthMetaAddressURI: row.metaAddress, ephemeralPrivateKey: ephemeral }));
    assert.deepEqual(probe.newStealthAddress(row.shortMetaAddress, ephemeral).stealthAddress, row.shortStealthAddress);
    assert.equal(probe.isFor({ ...stranger, viewingPrivateKey: row.viewingKey }, read), false);
    const other = row.viewTag === "0x00" ? "0x01" : "0x00";
    assert.equal(probe.isFor(keys, { ...read, viewTag: other }), false);
  }
});

Deno.test("what is no meta-address", () => {
  const half = SDK_META.slice(4, 68);
  for (const text of ["", "0x", "st:eth:", half, `0x04${half}`, `0x02${half}00`, `${SDK_META}02`, `st:eth:st:eth:${SDK_META}`, `st::${SDK_META}`, `eth:${SDK_META}`, `${SDK_META} `]) {
    assert.equal(probe.readMetaAddress(text), null, text);
  }
  assert.equal(probe.readMetaAddress(`st:base:${SDK_META.toUpperCase().replace("0X", "0x")}`), SDK_META);
});

Deno.test("what an announcement's metadata names", () => {
  const token = "0x2222222222222222222222222222222222222222", word = "0".repeat(64);
  const named = (metadata) => probe.tokenOf(announcement({ stealthAddress: token, ephemeralPublicKey: "0x02" + "11".repeat(32), metadata }));
  assert.equal(named(probe.metadataOf("0x5a", 1n, token)), token);
  assert.equal(named(`0x5a23b872dd${token.slice(2)}${word}ff`), token); // transferFrom, and more behind it
  for (const none of [probe.metadataOf("0x5a", 1n), "0x5a", `0x5aa9059cbb${token.slice(2)}`, `0x5aa9059cbb${"0".repeat(40)}${word}`, `0x5aeeeeeeee${token.slice(2)}${word}`]) {
    assert.equal(named(none), null, none);
  }
});
