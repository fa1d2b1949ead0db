// Stealth addresses: register a meta-address, pay others at addresses nobody can link to them, find and sweep what others paid.
//
// The plugin's entry: actions and deliveries become calls of `scanner`, `payments` and `sweeps`. The private keys stay in this
// process; what sites see of it (`state`) names no stealth address. README.md tells what is trusted and what is linked.

import { isAddress } from "viem/utils";
import { Chain } from "./chain.js";
import { Payments, statusOf } from "./payments.js";
import { CODES, refusal } from "./refusal.js";
import { Scanner } from "./scanner.js";
import { ANNOUNCEMENT, keysFrom, metaAddressOf, readMetaAddress, SCHEME, SCHEME_TOPIC } from "./scheme.js";
import { Sweeps } from "./sweeps.js";
import { turns } from "./turn.js";

const SPENDING = "0'/0'", VIEWING = "0'/1'";
const WATCH = "announcements";
const REGISTER = "registerKeys(uint256,bytes)";
const MAX_PAGE = 100n;

const text = (name) => ({ name, type: "string" });
const address = (name) => ({ name, type: "address" });
const wei = (name) => ({ name, type: "uint256" });
const TOKENS = { name: "tokens", type: "tuple[]", components: [address("token"), wei("balance")] };
const SWEPT = [{ name: "transactionHash", type: "bytes32" }, wei("value"), wei("fee")];
const PAGE = [text("after"), { name: "limit", type: "uint64" }];

/** One owner's stealth addresses. */
export default class Stealth {
  constructor(injected) {
    this.injected = injected;
    this.turn = turns();
    this.layer2Interface = {
      actions: [
        {
          name: "metaAddress",
          description: "The owner's own meta-address, and whether the registry names it.",
          call: () => this.metaAddress(),
          returns: [text("metaAddress"), { name: "registered", type: "bool" }],
          approval: "never",
        },
        {
          name: "register",
          description: "Have the registry name the owner's meta-address, so that others find it by the main account's address.",
          call: () => this.register(),
          returns: [text("operation"), text("metaAddress")],
          approval: "policy",
        },
        {
          name: "lookup",
          description: "The meta-address that an account registered.",
          call: (account) => this.lookup(account),
          params: [address("account")],
          returns: [text("metaAddress")],
          approval: "never",
        },
        {
          name: "send",
          description: "Pay ETH to a meta-address (st:eth:0x…) or to an account that registered one: an announcement, then a transfer.",
          call: (to, value, call) => this.send(to, value, call),
          params: [text("to"), wei("value")],
          returns: [address("stealthAddress"), text("operation")],
          spends: { param: "value", asset: "ETH" },
          approval: "policy",
          idempotent: true,
        },
        {
          name: "sendToken",
          description: "Pay a token to a meta-address (st:eth:0x…) or to an account that registered one: an announcement, then a transfer.",
          call: (token, to, value, call) => this.send(to, value, call, token),
          params: [address("token"), text("to"), wei("value")],
          returns: [address("stealthAddress"), text("operation")],
          approval: "policy",
          idempotent: true,
        },
        {
          name: "resume",
          description: "Ask the owner again for what is missing of a payment that was refused, failed or interrupted.",
          call: (stealthAddress) => this.resume(stealthAddress),
          params: [address("stealthAddress")],
          returns: [text("operation")],
          approval: "policy",
        },
        {
          name: "payments",
          description: "What was paid from here, by stealth address.",
          call: (after, limit) => this.payments(after, limit),
          params: PAGE,
          returns: [
            {
              name: "payments",
              type: "tuple[]",
              components: [address("stealthAddress"), text("to"), text("asset"), wei("value"), text("status"), text("error")],
            },
            text("next"),
          ],
          approval: "policy",
        },
        {
          name: "list",
          description: "The owner's stealth addresses that were found, with what lies there.",
          call: (after, limit) => this.list(after, limit),
          params: PAGE,
          returns: [
            {
              name: "addresses",
              type: "tuple[]",
              components: [address("stealthAddress"), wei("balance"), { name: "block", type: "uint64" }, { name: "announced", type: "bool" }, text("swept"), TOKENS],
            },
            text("next"),
          ],
          approval: "policy",
        },
        {
          name: "sweep",
          description: "Empty one of the owner's stealth addresses into the main account.",
          call: (stealthAddress) => this.sweep(stealthAddress),
          params: [address("stealthAddress")],
          returns: SWEPT,
          approval: "policy",
        },
        {
          name: "sweepToken",
          description: "Move all of a token from one of the owner's stealth addresses to the main account.",
          call: (stealthAddress, token) => this.sweepToken(stealthAddress, token),
          params: [address("stealthAddress"), address("token")],
          returns: SWEPT,
          approval: "policy",
        },
        {
          name: "fundSweep",
          description: "Send a stealth address the gas that sweeping a token from it takes, from the main account.",
          call: (stealthAddress, token) => this.fundSweep(stealthAddress, token),
          params: [address("stealthAddress"), address("token")],
          returns: [text("operation")],
          approval: "policy",
        },
      ],
    };
  }

  async start({ gateways, restored }) {
    const { keys, localDatabase, layer1Provider, log, ready } = this.injected;
    const announcer = gateways.find(({ name }) => name === "announcer"), registry = gateways.find(({ name }) => name === "registry");
    if (announcer === undefined || registry === undefined) throw new Error("announcer and registry are needed: grant gateway, or name them with --gateway");
    const [spending, viewing] = [await keys.derive(SPENDING), await keys.derive(VIEWING)];
    if (spending.privateKey === undefined || viewing.privateKey === undefined) throw new Error("keys.export is needed: --grant all,keys.export,…");
    this.keys = keysFrom(spending.privateKey, viewing.privateKey);
    this.own = metaAddressOf(this.keys);
    this.chain = new Chain(layer1Provider, registry.address);
    this.scanner = new Scanner(localDatabase, this.keys);
    this.paid = new Payments(this.injected, this.chain);
    this.sweeps = new Sweeps(this.injected, this.chain, this.keys);
    this.registered = false;
    const anew = restored !== false; // the watch may have told more than this store remembers
    if (anew) await layer1Provider.unwatch(WATCH);
    await this.scanner.load(anew);
    await this.paid.load();
    const logs = { address: announcer.address, topics: [ANNOUNCEMENT, SCHEME_TOPIC] };
    await layer1Provider.watch({ name: WATCH, logs, from: BigInt(announcer.since) });
    await this.publish();
    this.metaAddress().catch((error) => log.warning("the registry cannot be read", { reason: error.message }));
    await ready();
  }

  async metaAddress() {
    const registered = await this.chain.registered(this.injected.layer1OwnerAddress) === this.own;
    if (registered !== this.registered) {
      this.registered = registered;
      await this.publish();
    }
    return { metaAddress: `st:eth:${this.own}`, registered };
  }

  async register() {
    const { metaAddress, registered } = await this.metaAddress();
    if (registered) throw refusal(CODES.registered, "the registry names this meta-address already");
    const { gateway } = this.injected;
    const operation = await gateway.plan([{ gateway: "registry", function: REGISTER, args: [BigInt(SCHEME), this.own] }]);
    return { operation, metaAddress };
  }

  async lookup(account) {
    const found = readMetaAddress(await this.chain.registered(account));
    if (found === null) throw refusal(CODES.recipient, `${account} has registered no meta-address of scheme 1`);
    return { metaAddress: `st:eth:${found}` };
  }

  async send(to, value, { origin, idempotencyKey }, token = null) {
    const key = idempotencyKey === undefined ? null : `${origin} ${idempotencyKey}`;
    return await this.turn(async () => {
      const known = await this.paid.under(key);
      const payment = known === null ? await this.begin(to, value, key, token) : await this.paid.again(known);
      await this.publish();
      return { stealthAddress: payment.stealthAddress, operation: payment.announce.operation ?? "" };
    });
  }

  async begin(to, value, key, token) {
    if (value === 0n) throw refusal(CODES.funds, "value: more than nothing");
    const metaAddress = isAddress(to, { strict: false }) ? readMetaAddress((await this.lookup(to)).metaAddress) : readMetaAddress(to);
    if (metaAddress === null) throw refusal(CODES.recipient, "to: an address, or a meta-address st:eth:0x… of 33 or 66 bytes");
    const owner = this.injected.layer1OwnerAddress;
    const held = token === null ? await this.chain.balance(owner) : await this.chain.held(token, owner);
    const unit = token === null ? "wei" : `of token ${token}`;
    if (held < value) throw refusal(CODES.funds, `the main account has ${held} ${unit}, which is less than ${value}`);
    return await this.paid.begin(metaAddress, value, key, token);
  }

  async resume(stealthAddress) {
    return await this.turn(async () => {
      try {
        return { operation: await this.paid.resume(stealthAddress) };
      } finally {
        await this.publish();
      }
    });
  }

  async payments(after, limit) {
    const rows = await this.paid.list(after, pageOf(limit));
    const payments = rows.map((row) => ({
      ...{ stealthAddress: row.stealthAddress, to: `st:eth:${row.to}`, asset: row.token ?? "ETH", value: BigInt(row.value) },
      ...{ status: statusOf(row), error: row.error ?? "" },
    }));
    return { payments, next: nextOf(rows, limit) };
  }

  async list(after, limit) {
    const rows = await this.scanner.list(after, pageOf(limit));
    const addresses = await Promise.all(rows.map(async ({ stealthAddress, block, announced, tokens = [] }) => ({
      ...{ stealthAddress, block, announced: announced.length > 0 },
      balance: await this.chain.balance(stealthAddress),
      swept: await this.sweeps.last(stealthAddress) ?? "",
      tokens: await Promise.all(tokens.map(async (token) => ({ token, balance: await this.chain.held(token, stealthAddress) }))),
    })));
    return { addresses, next: nextOf(rows, limit) };
  }

  async sweep(stealthAddress) {
    return await this.turn(async () => await this.sweeps.sweep(await this.mine(stealthAddress)));
  }

  async sweepToken(stealthAddress, token) {
    return await this.turn(async () => await this.sweeps.sweepToken(await this.mine(stealthAddress), token));
  }

  async fundSweep(stealthAddress, token) {
    return await this.turn(async () => {
      const value = await this.sweeps.lacking(await this.mine(stealthAddress), token);
      return { operation: await this.injected.gateway.transfer({ to: stealthAddress, value }) };
    });
  }

  async mine(stealthAddress) {
    const found = await this.scanner.get(stealthAddress);
    if (found === null) throw refusal(CODES.unknown, `${stealthAddress} is none of the stealth addresses that were found`);
    return found;
  }

  async onLogs({ logs, removed }) {
    await (removed ? this.scanner.takeBack(logs) : this.scanner.take(logs));
    await this.publish();
  }

  async onOperation(operation) {
    await this.turn(() => this.paid.heard(operation));
    if (operation.status === "done" && operation.steps[0].function === REGISTER) await this.metaAddress();
    await this.publish();
  }

  async publish() {
    const { cursor, found } = this.scanner;
    await this.injected.state.update({
      state: { metaAddress: `st:eth:${this.own}`, registered: this.registered, scanned: Math.max(cursor.block, 0), found, payments: this.paid.counts },
    });
  }
}

function pageOf(limit) {
  return Number(limit === 0n || limit > MAX_PAGE ? MAX_PAGE : limit);
}

function nextOf(rows, limit) {
  return rows.length < pageOf(limit) ? "" : rows.at(-1).stealthAddress;
}
