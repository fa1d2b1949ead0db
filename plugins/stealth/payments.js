// Payments: announce, then pay, each an operation the owner approves; exactly once, whenever the process dies.
//
// Store: `pay/STEALTH ADDRESS`. What is about to be asked is on disk before it is asked ("asking"), and what was asked is
// recognised by the stealth address, which no other payment has: so an answer that was lost is not asked for again. Only the owner,
// by `resume`, has something asked a second time, and not where the money has arrived.
//
// The transfer is asked once the announcement has a nonce: both come from the main account, so none is mined before the other.
// Announced and not paid harms nobody; paid and not announced would be money that its receiver does not see.

import { newStealthAddress, metadataOf, SCHEME } from "./scheme.js";
import { CODES, refusal } from "./refusal.js";

const ANNOUNCE = "announce(uint256,address,bytes,bytes)";
const TRANSFER = "transfer(address,uint256)";
const SENT = new Set(["submitted", "mined", "confirmed"]);
const OPEN = new Set(["announcing", "paying", "paid"]);

/** Makes payments through `gateway`; `chain` says whether money arrived. Every method is to be run in a turn of its own. */
export class Payments {
  #database;
  #gateway;
  #chain;
  #log;
  #unfinished = new Map(); // status by address, of those that are not done

  constructor({ localDatabase, gateway, log }, chain) {
    this.#database = localDatabase;
    this.#gateway = gateway;
    this.#log = log;
    this.#chain = chain;
  }

  async load() {
    for (const [, text] of await this.#database.scan({ prefix: "pay/" })) this.#note(JSON.parse(text));
  }

  /** How many payments stand at each status but `done`. */
  get counts() {
    const counts = { open: 0, refused: 0, interrupted: 0, unannounced: 0 };
    for (const status of this.#unfinished.values()) counts[OPEN.has(status) ? "open" : status] += 1;
    return counts;
  }

  /** Return the payment asked for under an idempotency key, null where there is none. */
  async under(key) {
    const address = key === null ? null : await this.#database.get(keyRow(key));
    return address === null ? null : await this.get(address);
  }

  async get(address) {
    const text = await this.#database.get(row(address));
    return text === null ? null : JSON.parse(text);
  }

  /** Return up to `limit` payments behind `after` ("" from the first), by stealth address. */
  async list(after, limit) {
    const start = after === "" ? "pay/" : row(after) + "\0";
    return (await this.#database.scan({ start, end: "pay0", limit })).map(([, text]) => JSON.parse(text));
  }

  /** Begin a payment of `value` of `token` (null: ETH) to a meta-address. Throws a refusal for one that is none. */
  async begin(metaAddress, value, key, token = null) {
    let made;
    try {
      made = newStealthAddress(metaAddress);
    } catch {
      throw refusal(CODES.recipient, "the meta-address holds a key that is no point of the curve");
    }
    const payment = {
      ...{ stealthAddress: made.stealthAddress, ephemeralPublicKey: made.ephemeralPublicKey },
      ...{ metadata: metadataOf(made.viewTag, value, token), to: metaAddress, value: value.toString(), token, key },
      ...{ announce: { state: "none", operation: null }, transfer: { state: "none", operation: null }, error: null },
    };
    try {
      await this.#ask(payment, "announce");
    } catch (error) {
      await this.#forget(payment); // refused before anything was stored or asked: to be tried again as if for the first time
      throw refusal(CODES.refused, error.message);
    }
    return payment;
  }

  /** Go on with a payment: under its idempotency key after an announcement that may not have been asked for. */
  async again(payment) {
    if (payment.announce.state === "asking" && payment.transfer.state === "none") await this.#ask(payment, "announce");
    return payment;
  }

  /** Ask the owner again for what failed, was refused or may never have been asked. Throws a refusal. */
  async resume(address) {
    const payment = await this.get(address);
    if (payment === null) throw refusal(CODES.unknown, `${address} is no stealth address that was paid from here`);
    const { announce, transfer, token = null } = payment;
    if (["asking", "failed"].includes(announce.state)) return await this.#ask(payment, "announce");
    if (!["asking", "failed"].includes(transfer.state)) throw refusal(CODES.nothing, `the payment to ${address} is ${statusOf(payment)}`);
    const held = token === null ? await this.#chain.balance(address) : await this.#chain.held(token, address);
    if (held >= BigInt(payment.value) || await this.#chain.nonce(address) > 0) {
      transfer.state = "done";
      await this.#save(payment);
      throw refusal(CODES.nothing, `the payment has arrived at ${address}`);
    }
    return await this.#ask(payment, "transfer");
  }

  /** Take what became of an operation; one that is none of a payment's is left alone. */
  async heard(operation) {
    const address = subjectOf(operation);
    const payment = address === null ? null : await this.get(address);
    if (payment === null) return;
    const part = payment[operation.kind === "plan" ? "announce" : "transfer"];
    const { status, steps, error } = operation;
    if (status === "done") Object.assign(part, { state: "done", operation: operation.id });
    else if (status === "rejected" || status === "failed") {
      if (part.state === "done" || ![null, operation.id].includes(part.operation)) return; // another has taken its place
      Object.assign(part, { state: "failed", operation: operation.id });
      payment.error = error?.message ?? `the operation was ${status}`;
    } else if (part.state !== "done") {
      Object.assign(part, { state: steps.some((step) => SENT.has(step.status)) ? "sent" : "asked", operation: operation.id });
    }
    await this.#save(payment);
    const announced = ["sent", "done"].includes(payment.announce.state);
    if (announced && payment.transfer.state === "none") await this.#ask(payment, "transfer").catch((reason) => this.#stuck(payment, reason));
  }

  async #ask(payment, name) {
    const part = payment[name];
    const { stealthAddress, ephemeralPublicKey, metadata, value, token = null } = payment;
    Object.assign(part, { state: "asking", operation: null });
    payment.error = null;
    await this.#save(payment);
    try {
      const args = [BigInt(SCHEME), stealthAddress, ephemeralPublicKey, metadata];
      part.operation = name === "transfer"
        ? await this.#gateway.transfer({ to: stealthAddress, value: BigInt(value), ...(token !== null && { token }) })
        : await this.#gateway.plan([{ gateway: "announcer", function: ANNOUNCE, args }]);
    } catch (error) {
      Object.assign(part, { state: "failed" });
      payment.error = error.message;
      await this.#save(payment);
      throw error;
    }
    part.state = "asked";
    await this.#save(payment);
    return part.operation;
  }

  #stuck({ stealthAddress }, reason) {
    this.#log.warning("the transfer could not be asked for; `resume` asks again", { stealthAddress, reason: reason.message });
  }

  async #save(payment) {
    const keyed = payment.key === null ? {} : { [keyRow(payment.key)]: payment.stealthAddress };
    await this.#database.write({ [row(payment.stealthAddress)]: JSON.stringify(payment), ...keyed });
    this.#note(payment);
  }

  async #forget({ stealthAddress, key }) {
    await this.#database.delete(row(stealthAddress), ...(key === null ? [] : [keyRow(key)]));
    this.#unfinished.delete(stealthAddress);
  }

  #note(payment) {
    const status = statusOf(payment);
    if (status === "done") this.#unfinished.delete(payment.stealthAddress);
    else this.#unfinished.set(payment.stealthAddress, status);
  }
}

/** Return where a payment stands: announcing, paying, paid (and not yet announced for good), done, refused, interrupted, unannounced. */
export function statusOf({ announce, transfer }) {
  if (transfer.state === "done") return { done: "done", failed: "unannounced" }[announce.state] ?? "paid";
  for (const { state } of transfer.state === "none" ? [announce] : [transfer]) {
    if (state === "asking") return "interrupted";
    if (state === "failed") return "refused";
  }
  return transfer.state === "none" ? "announcing" : "paying";
}

function subjectOf({ kind, steps }) {
  if (kind === "transfer") return steps[0].function === TRANSFER ? steps[0].args[0] : steps[0].to; // of a token, or of ETH
  const { function: name, args } = steps[0];
  return kind === "plan" && name === ANNOUNCE && args ? args[1] : null;
}

function row(address) {
  return `pay/${address.toLowerCase()}`;
}

function keyRow(key) {
  return `key/${key}`;
}
