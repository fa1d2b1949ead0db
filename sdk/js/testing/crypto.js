// Keys and signatures of a test that need no library: only this object can recover them.

import { createHash } from "node:crypto";

/** Deterministic pretended keys and signatures: enough to test a plugin's decisions. A real one has the same methods. */
export class PretendCrypto {
  #seed;
  #signed = new Map();

  constructor(seed = "test") {
    this.#seed = seed;
  }

  /** Return the key at a path ("owner": the main account). The private one goes to plugins that ask for keys.export. */
  account(path) {
    const digest = sha256(`${this.#seed}/${path}`);
    return { address: "0x" + digest.slice(0, 40), publicKey: "0x02" + digest, privateKey: "0x" + sha256(digest) };
  }

  /** Sign `{typedData}` or `{message}`; the same content gives the same 65 bytes. */
  sign(path, content) {
    const text = sorted(content), half = sha256(`${this.#seed}/${path}/${text}`);
    const signature = `0x${half}${half}1b`;
    this.#signed.set(text + signature, this.account(path).address);
    return signature;
  }

  /** Return who signed exactly this, null for nobody. */
  recover(content, signature) {
    return this.#signed.get(sorted(content) + signature) ?? null;
  }

  /** Return some digest of the params. */
  hash(params) {
    return "0x" + sha256(sorted(params));
  }
}

function sha256(text) {
  return createHash("sha256").update(text).digest("hex");
}

/** Return JSON whose objects have their members in order of their names. */
function sorted(value) {
  return JSON.stringify(value, (_, item) => {
    if (item === null || typeof item !== "object" || Array.isArray(item)) return item;
    return Object.fromEntries(Object.entries(item).sort(([one], [other]) => (one < other ? -1 : 1)));
  });
}
