"""The JavaScript project of `l2proxy plugin new --npm`; `$` words are filled in.

The SDK's types are copied into it, so that an editor knows the injected object without a registry; `plugin pack` leaves them out.
"""

from __future__ import annotations

TAKEN = frozenset({"Error", "Object", "BigInt", "String", "FakeHost", "Deno", "Injected", "Layer2Interface", "Plugin"})

_PACKAGE = """{
  "name": "$id",
  "private": true,
  "type": "module",
  "exports": "./$id.js",
  "scripts": { "test": "l2proxy plugin test" }
}
"""

_EDITOR = """{
  "compilerOptions": {
    "checkJs": true,
    "strict": true,
    "target": "esnext",
    "module": "nodenext",
    "types": [],
    "paths": {
      "@l2proxy/sdk": ["./types/index.d.ts"],
      "@l2proxy/sdk/testing": ["./types/testing/index.d.ts"]
    }
  },
  "include": ["*.js"]
}
"""

_CODE = """// $name: a plugin of l2proxy that keeps a counter.

/** @import { Injected, Layer2Interface, Plugin } from "@l2proxy/sdk" */

/** @implements {Plugin} */
export default class $kind {
  /** @param {Injected} injected what there is more: types/index.d.ts */
  constructor({ localDatabase, state }) {
    this.database = localDatabase;
    this.state = state;
    /** @type {Layer2Interface} */
    this.layer2Interface = {
      actions: [
        {
          name: "add",
          description: "Add to the counter.",
          call: this.add.bind(this),
          params: [{ name: "amount", type: "uint64" }],
          returns: [{ name: "total", type: "uint64" }],
        },
      ],
    };
  }

  /** @param {bigint} amount */
  async add(amount) {
    const total = await this.total() + amount;
    if (total >= 2n ** 64n) throw Object.assign(new Error("the counter is full"), { name: "ActionError", code: 1, spent: false });
    await this.database.put("total", String(total));
    await this.state.update({ state: { total } });
    return { total };
  }

  async total() {
    return BigInt(String(await this.database.get("total") ?? 0));
  }
}
"""

_TEST = """// Runs without a daemon: `l2proxy plugin test`.

import assert from "node:assert/strict";
import { FakeHost } from "@l2proxy/sdk/testing";
import $kind from "../$id.js";

Deno.test("add", async () => {
  const host = new FakeHost($kind);
  await host.start();
  assert.deepEqual(await host.invoke("add", { amount: 2n }), { total: "0x2" });
  assert.deepEqual(await host.invoke("add", { amount: 3n }), { total: "0x5" });
  await host.stop();
});
"""

ENTRY = "$id.js"
FILES = {
    "package.json": _PACKAGE,
    "jsconfig.json": _EDITOR,
    "$id.js": _CODE,
    "tests/$id.test.js": _TEST,
}


def copied() -> dict[str, str]:
    """Return what goes into the project as it is: the SDK's types."""
    from proxy.cli.plugin_javascript import sdk_folder

    folder = sdk_folder()
    return {f"types/{name}": (folder / name).read_text("utf-8") for name in ("index.d.ts", "testing/index.d.ts")}
