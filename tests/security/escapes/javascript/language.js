// What the language itself and the runtime's own insides offer: constructors, call sites, pollution, permissions, stores.

const reads = (deno) => found(deno.readTextFileSync("/etc/passwd"));

attempt("compile WebAssembly", { expected: "withdrawn", bare: "withdrawn" }, () => WebAssembly.compile(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])));
attempt("switch the compiler on", { expected: "withdrawn", bare: "withdrawn" }, async () => {
  (await node("v8")).setFlagsFromString("--no-jitless");
  await WebAssembly.compile(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]));
});
attempt("find Deno by a function's constructor", {}, () => reads((() => {}).constructor("return Deno")()));
attempt("find Deno by an indirect eval", {}, () => reads((0, eval)("Deno")));
attempt("find Deno by a generator's constructor", {}, () => reads(Object.getPrototypeOf(function* () {}).constructor("yield Deno")().next().value));
attempt("find Deno in another context", {}, async () => reads((await node("vm")).runInThisContext("Deno")));
attempt("find Deno by the call sites of a stack", {}, () => {
  const kept = Error.prepareStackTrace;
  Error.prepareStackTrace = (_, sites) => sites;
  try {
    for (const site of new Error().stack) site.getThis()?.Deno && reads(site.getThis().Deno);
  } finally {
    Error.prepareStackTrace = kept;
  }
  reads(Deno);
});
attempt("pollute what options are read from", {}, () => {
  for (const name of ["read", "permissions", "prefix", "path"]) Object.prototype[name] = "inherit";
  try {
    reads(Deno);
  } finally {
    for (const name of ["read", "permissions", "prefix", "path"]) delete Object.prototype[name];
  }
});
attempt("answer the question about a permission itself", {}, () => {
  const kept = Deno.permissions.querySync;
  Deno.permissions.querySync = () => ({ state: "granted" });
  try {
    reads(Deno);
  } finally {
    Deno.permissions.querySync = kept;
  }
});
attempt("ask for the right to read", { expected: "denied", bare: null }, async () => {
  if ((await Deno.permissions.request({ name: "read" })).state !== "granted") throw new Error("denied");
});
attempt("ask for the right to call C", { expected: "denied", bare: null }, async () => {
  if ((await Deno.permissions.request({ name: "ffi" })).state !== "granted") throw new Error("denied");
});
attempt("keep something for other plugins", { expected: "withdrawn", bare: "withdrawn" }, () => localStorage.setItem("a", "b"));
attempt("keep something for a session", { expected: "withdrawn", bare: "withdrawn" }, () => sessionStorage.setItem("a", "b"));
attempt("keep something in a cache", { expected: "withdrawn", bare: "withdrawn" }, () => caches.open("a"));
attempt("take a withdrawn store back from the runtime", { expected: "withdrawn", bare: "withdrawn" }, () => {
  const { globalThis: other } = (0, eval)("({ globalThis })");
  other.localStorage.setItem("a", "b");
});
