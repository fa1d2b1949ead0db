// Sweeping: a stealth address is emptied into the owner's main account by a transaction that its own key signs.
//
// Nowhere else: a site that may sweep can take nothing. `sweep/ADDRESS/NONCE` is the signed transaction, on disk before it is sent; sent
// again it is the same, and one that pays more takes its nonce, so the money moves once. Tip and fee cap are equal, so the price is
// known beforehand and a plain account is left with not one wei.

import { keccak256 } from "viem/utils";
import { privateKeyToAccount } from "viem/accounts";
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
  async sweep({ stealthAddress, ephemeralPublicKey }) {
    const account = privateKeyToAccount(stealthKey(this.#keys, ephemeralPublicKey));
    if (account.address !== stealthAddress) throw refusal(CODES.key, `the key of ${stealthAddress} does not come out`);
    const [balance, nonce] = await Promise.all([this.#chain.balance(stealthAddress), this.#chain.nonce(stealthAddress)]);
    if (balance === 0n) throw refusal(CODES.nothing, `${stealthAddress} is empty`);
    const key = `sweep/${stealthAddress.toLowerCase()}/${String(nonce).padStart(10, "0")}`;
    const before = await this.#stored(key);
    const { price, dynamic } = await this.#chain.price();
    if (before !== null && price * 8n <= BigInt(before.price) * 9n) return await this.#send(before); // too little more to replace it
    const made = await this.#sign(account, { balance, nonce, dynamic, price });
    await this.#database.put(key, JSON.stringify(made));
    return await this.#send(made);
  }

  /** Return the hash of the newest sweep of an address, null where it was never swept. */
  async last(address) {
    const rows = await this.#database.scan({ prefix: `sweep/${address.toLowerCase()}/`, reverse: true, limit: 1 });
    return rows.length === 0 ? null : JSON.parse(rows[0][1]).hash;
  }

  async #sign(account, { balance, nonce, dynamic, price }) {
    const gas = await this.#chain.gas(account.address, this.#owner, balance / 2n);
    const fee = gas * price, value = balance - fee;
    if (value <= 0n) throw refusal(CODES.funds, `${account.address} has ${balance} wei, and the transaction costs ${fee}`);
    const fees = dynamic ? { type: "eip1559", maxFeePerGas: price, maxPriorityFeePerGas: price } : { type: "legacy", gasPrice: price };
    const raw = await account.signTransaction({ ...fees, chainId: this.#chainId, nonce, to: this.#owner, value, gas });
    return { raw, hash: keccak256(raw), price: String(price), value: String(value), fee: String(fee) };
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
