// The first module of an npm plugin's process: locks, tells the host what holds, reads the plugin's bundle and serves it.
//
// Its argument is what the launcher prepared (proxy/host/sandbox/deno_launch.py). Up to the lock everything is ours; the plugin
// comes over standard input after it (`LENGTH\n`, then the bytes of one ES module) and is imported as a data: URL, which can
// import no file. It gets the object of plugin.md's constructor. `Deno` stays, for the node modules that libraries import stand on it;
// every permission of it is denied, and the jail does not rely on that.

import { Console } from "node:console";
import process from "node:process"; // asks where deno lies, which it may not once the lock has fallen
import { empty } from "./environment.js";
import { lock } from "./lock.js";
import { Lines, encode } from "./lines.js";
import { Output, writeAll } from "./output.js";
import { Session, declared } from "./session.js";
import { ADVICE, reader, summary, told as errorTold, wasDenied } from "./stacks.js";

const PRINTS = ["debug", "info", "log"];
const PRINTS_MORE = ["clear", "count", "countReset", "dir", "dirxml", "group", "groupCollapsed", "groupEnd", "table", "time", "timeEnd", "timeLog"];

const told = JSON.parse(Deno.args[0]);
const output = Deno.stdout;
let readable = reader();

async function locked() {
  const report = told.report;
  Deno.addSignalListener("SIGUSR2", () => {}); // deno makes its signal pipe when it first idles; afterwards it may not
  if (report.why === undefined) {
    try {
      const through = await lock(told);
      report.layers = ["rlimits", "identity", "namespaces", "landlock"].filter((name) => report.layers.includes(name));
      report.layers.push("seccomp");
      if (through.length > 0) report.why = `the lock does not hold: ${through.join(", ")}`;
    } catch (error) {
      report.why = error.message;
    }
  }
  writeAll(output, encode(report));
  return report.why === undefined || told.unsandboxed;
}

async function load(lines) {
  const bundle = await lines.take(Number(await lines.line()));
  const url = `data:text/javascript;base64,${bundle.toBase64()}`;
  readable = reader(url);
  return await import(url);
}

function withdraw() {
  const print = console.error; // what goes to the log names places in the plugin, and none of ours
  let advised = false;
  console.error = (...values) => {
    if (!advised && values.some(wasDenied)) {
      advised = true;
      print(ADVICE);
    }
    print(...values.map((value) => {
      const text = errorTold(value);
      return typeof text === "string" ? readable(text) : text;
    }));
  };
  for (const name of PRINTS) console[name] = console.error; // standard output is the channel
  const printer = new Console(process.stderr, process.stderr);
  for (const name of PRINTS_MORE) console[name] = printer[name].bind(printer);
  console.trace = (...values) => console.error("Trace:", ...values, `\n${new Error().stack.split("\n").slice(2).join("\n")}`);
  Object.defineProperty(process, "stdout", { value: process.stderr });
  empty();
  for (const name of ["Worker", "localStorage", "sessionStorage", "caches"]) delete globalThis[name];
}

const exit = Deno.exit;

function fail(error) { // deno's own way to end would want what the jail refuses
  const text = readable(String(errorTold(error)));
  console.error(error);
  if (told.mode === "declare") writeAll(output, encode({ failed: summary(text) }));
  exit(1);
}

async function main() {
  globalThis.addEventListener("unhandledrejection", ({ reason }) => fail(reason));
  globalThis.addEventListener("error", ({ error }) => fail(error));
  if (!(await locked())) exit(0);
  const lines = new Lines(Deno.stdin);
  withdraw();
  const entry = (await load(lines)).default;
  if (typeof entry !== "function") throw new Error("the plugin's module has no class as its default export");
  if (told.mode === "declare") writeAll(output, encode(declared(entry)));
  else {
    const saying = new Output(output);
    await new Session(entry, lines, saying).run();
    await saying.flushed();
  }
  exit(0);
}

await main().catch(fail);
