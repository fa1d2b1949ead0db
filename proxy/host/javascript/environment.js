// An environment without variables, arguments and places, where deno would throw or end the process for a look at it: packages ask
// for `process.env.DEBUG`, and where deno lies on this machine is no plugin's business.
//
// Shared with the author's tests (`l2proxy plugin test`), so that they see what the daemon shows. Everything that node:process
// exports changes with it, however it is imported: its `env` stands on `Deno.env`.

import process from "node:process";

const NAME = "deno";

/** Leave nothing of how this process was started. */
export function empty() {
  const variables = new Map();
  Object.assign(Deno.env, {
    get: (name) => variables.get(String(name)),
    set: (name, value) => void variables.set(String(name), String(value)),
    has: (name) => variables.has(String(name)),
    delete: (name) => void variables.delete(String(name)),
    toObject: () => Object.fromEntries(variables),
  });
  process.argv.splice(0, Infinity, NAME, "plugin");
  process.execArgv.length = 0;
  process.execPath = process.argv0 = NAME;
  Deno.execPath = () => NAME;
}
