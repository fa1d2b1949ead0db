// Sweeping: a stealth address is emptied into the owner's main account by a transaction that its own key signs.
//
// Nowhere else, tokens neither: a site that may sweep can take nothing. `sweep/ADDRESS/NONCE` is the signed transaction, on disk before it is sent; sent
// again it is the same, and one that pays more takes its nonce, so the money moves once. Tip and fee cap are equal, so the price is
// known beforehand and a plain account is left with not one wei.

import { keccak256 } from "viem/utils";
import { privateKeyToAccount } from "viem/accounts";
import { transferOf } from "./chain.js";
import { CODES, refusal } from "./refusal.js";
import { stealthKey } from "./scheme.js";

/** Empties found addresses into `owner`. */
export class Sweeps {
  #database;
  #chain;
  #keys;
  #owner;
  #chainId;

  constructor({ localDatabase, layer1OwnerAddress, layer1NetworkId }, chain, keys) {
    this.#database = localDatabase;
    this.#chain = chain;
    this.#keys = keys;
    this.#owner = layer1OwnerAddress;
    this.#chainId = layer1NetworkId;
  }

  /** Sweep a found address; return `{transactionHash, value, fee}` of what was sent. Throws a refusal. */
  async sweep(found) {
    return await this.#sweep(found, null, async (account, { balance, price, ...fees }) => {
      if (balance === 0n) throw refusal(CODES.nothing, `${account.address} is empty`);
      const gas = await this.#chain.gas(account.address, this.#owner, balance / 2n);
      const fee = gas * price, value = balance - fee;
      if (value <= 0n) throw refusal(CODES.funds, `${account.address} has ${balance} wei, and the transaction costs ${fee}`);
      return { value, fee, raw: await account.signTransaction({ ...fees, to: this.#owner, value, gas }) };
    });
  }

  /** Sweep all of a token that lies at a found address, which needs gas of its own for that. Throws a refusal. */
  async sweepToken(found, token) {
    return await this.#sweep(found, token, async (account, { balance, price, ...fees }) => {
      const { value, data, gas } = await this.#tokenCall(account.address, token);
      const fee = gas * price;
      if (balance < fee) throw refusal(CODES.gas, `${account.address} has ${balance} wei, and the transaction costs ${fee}: fundSweep sends it gas`);
      return { value, fee, raw: await account.signTransaction({ ...fees, to: token, data, gas }) };
    });
  }

  /** Return the wei an address lacks for sweeping a token, with a quarter to spare. Throws a refusal where nothing is to be done. */
  async lacking({ stealthAddress }, token) {
    const [balance, { price }, { gas }] = await Promise.all([this.#chain.balance(stealthAddress), this.#chain.price(), this.#tokenCall(stealthAddress, token)]);
    if (balance >= gas * price) throw refusal(CODES.nothing, `${stealthAddress} has the gas: sweepToken`);
    return gas * price * 5n / 4n - balance;
  }

  /** Return the hash of the newest sweep of an address, null where it was never swept. */
  async last(address) {
    const rows = await this.#database.scan({ prefix: `sweep/${address.toLowerCase()}/`, reverse: true, limit: 1 });
    return rows.length === 0 ? null : JSON.parse(rows[0][1]).hash;
  }

  async #sweep({ stealthAddress, ephemeralPublicKey }, token, sign) {
    const account = privateKeyToAccount(stealthKey(this.#keys, ephemeralPublicKey));
    if (account.address !== stealthAddress) throw refusal(CODES.key, `the key of ${stealthAddress} does not come out`);
    const [balance, nonce] = await Promise.all([this.#chain.balance(stealthAddress), this.#chain.nonce(stealthAddress)]);
    const key = `sweep/${stealthAddress.toLowerCase()}/${String(nonce).padStart(10, "0")}`;
    const before = await this.#stored(key);
    if (before !== null && (before.token ?? null) !== token && await this.#chain.knows(before.hash)) {
      throw refusal(CODES.nothing, `another sweep of ${stealthAddress} is on its way, ${before.hash}: ask again when it is mined`);
    }
    const { price, dynamic } = await this.#chain.price();
    const same = before !== null && (before.token ?? null) === token;
    if (same && price * 8n <= BigInt(before.price) * 9n) return await this.#send(before); // too little more to replace it
    const fees = dynamic ? { type: "eip1559", maxFeePerGas: price, maxPriorityFeePerGas: price } : { type: "legacy", gasPrice: price };
    const { raw, value, fee } = await sign(account, { balance, price, chainId: this.#chainId, nonce, ...fees });
    const made = { raw, hash: keccak256(raw), price: String(price), value: String(value), fee: String(fee), token };
    await this.#database.put(key, JSON.stringify(made));
    return await this.#send(made);
  }

  async #tokenCall(address, token) {
    const value = await this.#chain.held(token, address);
    if (value === 0n) throw refusal(CODES.nothing, `${address} holds nothing of ${token}`);
    const data = transferOf(this.#owner, value);
    try {
      return { value, data, gas: await this.#chain.gasOfCall(address, token, data) };
    } catch (error) {
      throw refusal(CODES.nothing, `${token} does not let itself be moved from ${address}: ${error.message}`);
    }
  }

  async #send({ raw, hash, value, fee }) {
    try {
      await this.#chain.ask("eth_sendRawTransaction", raw);
    } catch (error) {
      if (!(await this.#chain.knows(hash))) throw error; // else it is there already
    }
    return { transactionHash: hash, value: BigInt(value), fee: BigInt(fee) };
  }

  async #stored(key) {
    const text = await this.#database.get(key);
    return text === null ? null : JSON.parse(text);
  }
}
