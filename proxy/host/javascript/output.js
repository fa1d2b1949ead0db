// What the plugin says, as bytes on standard output: it never stands still for a proxy that waits for it.
//
// A write that does not fit into the pipe stops the whole process, reading included, and the proxy reads no further from a plugin that does
// not read. So what surely fits is written at once, and all else beside the reading, in its order.

const ROOM = 30_000; // bytes: what a pipe of 16 pages holds however the writes are cut

const TOGETHER = 64 * 1024; // bytes that go out in one write at most, and one line

/** Writes to `file` (Deno.stdout). */
export class Output {
  #file;
  #said = 0;
  #read = 0;
  #waiting = [];
  #size = 0; // bytes of these
  #sending = null;

  constructor(file) {
    this.#file = file;
  }

  /** Say `bytes`; return how many have been said with them, for `wasRead`. */
  write(bytes) {
    this.#said += bytes.length;
    if (this.#sending === null && this.#said - this.#read <= ROOM) writeAll(this.#file, bytes);
    else {
      this.#waiting.push(bytes);
      this.#size += bytes.length;
      this.#sending ??= this.#send();
    }
    return this.#said;
  }

  /** Hear that the proxy has read as far as what `write` returned once. */
  wasRead(place) {
    this.#read = Math.max(this.#read, place);
  }

  /** Wait until everything is in the pipe. */
  async flushed() {
    await this.#sending;
  }

  /** How many bytes wait to be written. */
  get waiting() {
    return this.#size;
  }

  #together() { // all at once would be held twice
    let count = 0;
    for (let size = 0; count < this.#waiting.length && size < TOGETHER; count += 1) size += this.#waiting[count].length;
    return count;
  }

  async #send() {
    while (this.#waiting.length > 0) {
      const bytes = joined(this.#waiting.splice(0, this.#together()));
      this.#size -= bytes.length;
      for (let written = 0; written < bytes.length;) written += await this.#file.write(bytes.subarray(written));
    }
    this.#sending = null;
  }
}

/** Write all of `bytes` at once, waiting for who reads. */
export function writeAll(file, bytes) {
  for (let written = 0; written < bytes.length;) written += file.writeSync(bytes.subarray(written));
}

function joined(parts) {
  if (parts.length === 1) return parts[0];
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
