// The channel as bytes: standard input in lines of at most 1 MiB, and one JSON message as a line (plugin.md, "Plugins").

export const MAX_LINE = 1 << 20;
const MAX_DEPTH = 64; // arrays and objects inside one another in a line

const NEWLINE = 10;

/** Reads lines and, before the first of them, a number of bytes. */
export class Lines {
  #input;
  #buffer = new Uint8Array(64 * 1024);
  #start = 0;
  #end = 0;

  constructor(input) {
    this.#input = input;
  }

  /** Return the next line without its newline as text, null at the end. Throws on a line that is too long or cut off. */
  async line() {
    for (let looked = 0;;) {
      const waiting = this.#buffer.subarray(this.#start, this.#end);
      const at = waiting.indexOf(NEWLINE, looked);
      if (at >= 0) {
        this.#start += at + 1;
        return new TextDecoder("utf-8", { fatal: true }).decode(waiting.subarray(0, at));
      }
      if (this.#end - this.#start >= MAX_LINE) throw new Error(`a line over ${MAX_LINE} bytes`);
      looked = this.#end - this.#start;
      if (!(await this.#more())) {
        if (this.#end > 0) throw new Error("the proxy closed in the middle of a line");
        return null;
      }
    }
  }

  /** Return exactly `length` bytes. */
  async take(length) {
    const taken = new Uint8Array(length);
    for (let filled = 0; filled < length;) {
      if (this.#start === this.#end && !(await this.#more())) throw new Error("the bundle ends too early");
      const part = this.#buffer.subarray(this.#start, Math.min(this.#end, this.#start + length - filled));
      taken.set(part, filled);
      filled += part.length;
      this.#start += part.length;
    }
    return taken;
  }

  async #more() {
    this.#buffer.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
    if (this.#end === this.#buffer.length) {
      const larger = new Uint8Array(2 * this.#buffer.length);
      larger.set(this.#buffer);
      this.#buffer = larger;
    }
    const count = await this.#input.read(this.#buffer.subarray(this.#end));
    this.#end += count ?? 0;
    return count !== null;
  }
}

/** Return a message as one line; BigInt values become 0x quantities. Throws for what the proxy would not read: it would end the process. */
export function encode(message) {
  const text = JSON.stringify(message, (_, value) => typeof value === "bigint" ? quantity(value) : value);
  if (text.includes("\\ud") && LONE_SURROGATE.test(text)) throw new Error("a text holds half of a character (a lone surrogate)");
  if (openings(text) > MAX_DEPTH && depth(text) > MAX_DEPTH) throw new Error(`a value nested deeper than ${MAX_DEPTH}`);
  const line = new TextEncoder().encode(text + "\n");
  if (line.length > MAX_LINE) throw new Error(`a message of ${line.length} bytes; the limit of the channel is ${MAX_LINE}`);
  return line;
}

const LONE_SURROGATE = /(?<!\\)(?:\\\\)*\\ud[89a-f]/; // JSON.stringify escapes no other
const STRING = /"(?:[^"\\]|\\.)*"/g;

function openings(text) {
  return text.split("[").length + text.split("{").length - 2;
}

function depth(text) {
  let now = 0, deepest = 0;
  for (const sign of text.replaceAll(STRING, "").replaceAll(/[^\[\]{}]+/g, "")) {
    now += sign === "[" || sign === "{" ? 1 : -1;
    deepest = Math.max(deepest, now);
  }
  return deepest;
}

function quantity(value) {
  if (value < 0n) return value.toString();
  return "0x" + value.toString(16);
}
