// L1 for a test: a small chain in memory, or a node by its URL. Both are `{request({method, params})}`, as EIP-1193 has it.

/** An error of the node, with its code. */
class NodeError extends Error {
  constructor(code, message, data) {
    super(message);
    Object.assign(this, { code, data });
  }
}

/** A chain that grows when the test says so. `answers` holds for each other method a value or a function of its params. */
export class FakeLayer1 {
  #number = 0;

  constructor({ chainId = 1337, answers = {}, time = 1_700_000_000 } = {}) {
    Object.assign(this, { chainId, answers });
    this.blocks = [];
    this.logs = [];
    this.mine({ timestamp: time });
  }

  get head() {
    return this.blocks.at(-1);
  }

  /** Grow by a block that holds `logs` (`{address, topics, data}`, the rest is filled in); return it. */
  mine({ logs = [], timestamp = Number(this.head?.timestamp ?? 0) + 12 } = {}) {
    const number = this.blocks.length, salt = ++this.#number;
    const block = { number: hex(number), hash: word(salt), parentHash: this.head?.hash ?? word(0), timestamp: hex(timestamp) };
    this.blocks.push(block);
    logs.forEach((log, index) =>
      this.logs.push({
        ...{ data: "0x", topics: [], blockNumber: block.number, blockHash: block.hash, transactionHash: word(salt * 2 ** 20 + index) },
        ...{ transactionIndex: hex(index), logIndex: hex(index), removed: false, ...log },
      })
    );
    return block;
  }

  /** Take the last `depth` blocks off the chain; return the logs that were in them. */
  drop(depth) {
    if (!(depth > 0 && depth < this.blocks.length)) throw new RangeError(`a chain of ${this.blocks.length} blocks drops 1 to all but one`);
    const gone = new Set(this.blocks.splice(-depth).map((block) => block.hash));
    const logs = this.logs.filter((log) => gone.has(log.blockHash));
    this.logs = this.logs.filter((log) => !gone.has(log.blockHash));
    return logs;
  }

  /** Answer as a node does. Throws an error with its code. */
  async request({ method, params = [] }) {
    const answer = this.answers[method] ?? OWN[method]?.bind(this);
    if (answer === undefined) throw new NodeError(-32601, `this fake L1 has no ${method}: give it in \`answers\``);
    return typeof answer === "function" ? await answer(...params) : answer;
  }
}

const OWN = {
  eth_chainId() { return hex(this.chainId); },
  eth_blockNumber() { return this.head.number; },
  eth_getBlockByNumber(at) {
    if (["latest", "safe", "finalized", "pending"].includes(at)) return this.head;
    return this.blocks[at === "earliest" ? 0 : Number(at)] ?? null;
  },
  eth_getLogs({ address, topics = [], fromBlock = this.head.number, toBlock = this.head.number, blockHash }) {
    const from = fromBlock === "earliest" ? 0 : Number(fromBlock), to = toBlock === "latest" ? Infinity : Number(toBlock);
    const placed = ({ blockNumber, blockHash: hash }) =>
      blockHash === undefined ? Number(blockNumber) >= from && Number(blockNumber) <= to : hash === blockHash;
    const asked = (log) => fits(address, log.address) && topics.every((topic, index) => fits(topic, log.topics[index]));
    return this.logs.filter((log) => placed(log) && asked(log));
  },
};

function fits(wanted, found) {
  if (wanted === undefined || wanted === null) return true;
  return [wanted].flat().some((one) => one.toLowerCase() === found?.toLowerCase());
}

/** Return the node at a URL; `l2proxy plugin test --l1 URL` lets the tests reach it. */
export function layer1At(url) {
  let last = 0;
  return {
    async request({ method, params = [] }) {
      const body = JSON.stringify({ jsonrpc: "2.0", id: ++last, method, params });
      const response = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body });
      const { result, error } = await response.json();
      if (error !== undefined) throw new NodeError(error.code, error.message, error.data);
      return result;
    },
  };
}

function hex(number) {
  return "0x" + number.toString(16);
}

function word(number) {
  return "0x" + number.toString(16).padStart(64, "0");
}
