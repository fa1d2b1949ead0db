// Deposits, withdrawals, plans, sends and transfers of a test: listed, and carried out by what the test gives.

import { refused } from "./services.js";

/** A Map of operations by id. `execute(kind, params)` returns a step's members (hashes, blockNumber); if it throws, the operation
 * fails; without it operations stay "awaiting_approval". */
export class Operations extends Map {
  #host;
  #execute;
  #tell;

  constructor(host, execute, tell) {
    super();
    this.#host = host;
    this.#execute = execute;
    this.#tell = tell;
  }

  /** Answer one of the host calls that move money. */
  submit(kind, { call: _, ...params }) {
    if (kind === "plan" && params.operation !== undefined) return this.#supply(params);
    const calls = kind === "plan" ? params.steps : [params];
    for (const call of calls) this.#mustBeListed(kind, call);
    const id = `op-${this.size + 1}`, plugin = this.#host.manifest?.id ?? "test";
    this.set(id, { id, plugin, kind, status: "awaiting_approval", steps: calls.map((call) => ({ ...shown(kind, call), status: "pending", hashes: [], confirmations: "0x0" })) });
    this.#carryOut(id, kind, params);
    return { operation: id };
  }

  /** The owner says no. */
  reject(id) {
    this.#change(id, { status: "rejected", error: { code: 4001, message: "the owner refused" } });
  }

  #supply({ operation: id, args }) {
    const operation = this.get(id);
    const step = operation?.kind === "plan" ? operation.steps.find((row) => row.args === null) : undefined;
    if (step === undefined) throw refused(-32602, "operation: a plan with a step that has no arguments yet");
    step.args = args;
    if (operation.status === "waiting") this.#carryOut(id, "plan", { steps: operation.steps });
    return { operation: id };
  }

  async #carryOut(id, kind, params) {
    if (this.#execute === undefined) return;
    if (this.get(id).steps.some((step) => step.args === null)) {
      this.#change(id, { status: "waiting" });
      return;
    }
    try {
      const outcome = await this.#execute(kind, params);
      this.#change(id, { status: "done", steps: this.get(id).steps.map((step) => ({ ...step, status: "confirmed", ...outcome })) });
    } catch (error) {
      const steps = this.get(id).steps.map((step) => ({ ...step, status: "reverted" }));
      this.#change(id, { status: "failed", error: { code: error.code ?? -32603, message: error.message }, steps });
    }
  }

  #change(id, members) {
    this.set(id, { ...this.get(id), ...members });
    this.#tell(this.get(id));
    this.#host.look();
  }

  #mustBeListed(kind, { function: name }) {
    const manifest = this.#host.manifest;
    if (manifest === null) return;
    if (kind === "transfer") {
      if (manifest.permissions?.transfer !== true) throw refused(4100, "plugin.toml does not ask for transfer");
      return;
    }
    const lists = ["plan", "send"].includes(kind) ? ["dispute", "withdraw", "deposit"] : [kind];
    const listed = (manifest.gateway ?? []).flatMap((gateway) => lists.flatMap((list) => gateway[list] ?? []));
    const known = [...listed, ...listed.map((signature) => signature.split("(")[0])];
    if (name === undefined ? listed.length === 0 : !known.includes(name)) {
      throw refused(4100, `${name ?? kind} is no ${kind} function of a gateway in plugin.toml`);
    }
  }
}

/** Return what a host call asks for as a step shows it: a transfer's has no gateway, and for a token is a call of the token's. */
function shown(kind, call) {
  if (kind !== "transfer") return call;
  const { to, value, token } = call, step = { gateway: null, function: null, args: [], value, to };
  return token === undefined ? step : { ...step, function: "transfer(address,uint256)", args: [to, value], value: "0x0", to: token };
}
