// A receiver and what is announced to it, for the tests of the plugin in process.

import { FakeHost, FakeLayer1, Killed } from "@l2proxy/sdk/testing";
import { createHash } from "node:crypto";
import Stealth, * as probe from "./probe.js";

export { FakeLayer1, Killed, probe };
export const ETH = 10n ** 18n;
export const GATEWAYS = { announcer: "0x55649E01B5Df198D18D95b5cc5051630cfD45564", registry: "0x6538E6bf4B0eBd30A8Ea093027Ac2422ce5d6538" };

/** Real keys, one per path. */
export class Keys {
  constructor(seed) {
    this.seed = seed;
  }

  account(path) {
    const privateKey = "0x" + createHash("sha256").update(`${this.seed}/${path}`).digest("hex");
    const { address, publicKey } = probe.privateKeyToAccount(privateKey);
    return { address, publicKey, privateKey };
  }
}

export function keysOf(seed) {
  const keys = new Keys(seed), below = (place) => keys.account(`m/5564'/0'/0'/${place}`).privateKey;
  return probe.keysFrom(below("0'/0'"), below("0'/1'"));
}

/** Answer `balanceOf` from holdings by address; a token whose holdings are an error reverts. */
function balanceOf(holdings, data) {
  if (holdings instanceof Error) throw holdings;
  const found = Object.entries(holdings).find(([address]) => data.toLowerCase().endsWith(address.slice(2).toLowerCase()));
  return "0x" + BigInt(found?.[1] ?? 0).toString(16).padStart(64, "0");
}

/** A chain that knows balances, of tokens as well, and registrations. */
export function chain({ balances = {}, tokens = {}, registered = {}, nonces = {}, sent = [], baseFee = 10n ** 9n } = {}) {
  const lower = (table) => Object.fromEntries(Object.entries(table).map(([name, value]) => [name.toLowerCase(), value]));
  const hex = (value) => "0x" + BigInt(value ?? 0).toString(16);
  const state = { tokens: lower(tokens), balances: lower(balances), nonces: lower(nonces), sent, baseFee };
  const layer1 = new FakeLayer1({
    answers: {
      eth_getBalance: (address) => hex(state.balances[address.toLowerCase()]),
      eth_getTransactionCount: (address) => hex(state.nonces[address.toLowerCase()]),
      eth_call: ({ to, data }) => state.tokens[to.toLowerCase()] !== undefined ? balanceOf(state.tokens[to.toLowerCase()], data) : probe.encodeAbiParameters([{ type: "bytes" }], [lower(registered)["0x" + data.slice(34, 74)] ?? "0x"]),
      eth_maxPriorityFeePerGas: "0x3b9aca00",
      eth_estimateGas: "0x5208",
      eth_getBlockByNumber: (at) => {
        const block = at === "latest" ? layer1.head : layer1.blocks[Number(at)];
        return block && { ...block, baseFeePerGas: hex(state.baseFee) };
      },
      eth_getTransactionByHash: (hash) => sent.some((raw) => probe.keccak256(raw) === hash) ? {} : null,
      eth_sendRawTransaction: (raw) => {
        if (sent.includes(raw)) throw Object.assign(new Error("already known"), { code: -32000 });
        sent.push(raw);
        return probe.keccak256(raw);
      },
    },
  });
  return Object.assign(layer1, { state });
}

export function host(seed, layer1, rest = {}) {
  return new FakeHost(Stealth, { chainId: 31337, crypto: new Keys(seed), gateways: GATEWAYS, layer1, ...rest });
}

/** Return the log of an announcement; what is left out is as it should be. */
export function announcement({ stealthAddress, ephemeralPublicKey, viewTag, metadata, scheme = probe.SCHEME_TOPIC }) {
  const content = [ephemeralPublicKey, metadata ?? probe.metadataOf(viewTag, 1n)];
  return {
    address: GATEWAYS.announcer,
    topics: [probe.ANNOUNCEMENT, scheme, word(stealthAddress), word(GATEWAYS.announcer)],
    data: probe.encodeAbiParameters([{ type: "bytes" }, { type: "bytes" }], content),
  };
}

/** Return the log of a payment to `keys`, with its stealth address. */
export function payment(keys, token = null) {
  const made = probe.newStealthAddress(probe.metaAddressOf(keys));
  return { ...made, log: announcement({ ...made, metadata: probe.metadataOf(made.viewTag, 1n, token) }) };
}

function word(address) {
  return "0x" + address.slice(2).toLowerCase().padStart(64, "0");
}
