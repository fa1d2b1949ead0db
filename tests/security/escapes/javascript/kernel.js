// System calls by their number, for a plugin that could call C: deno refuses it the right, and behind that the kernel the calls.

/** Return a function that makes a system call by its name. It throws with the name of the error. */
function system({ numbers }) {
  const word = "i64";
  const { symbols } = Deno.dlopen("libc.so.6", {
    syscall: { parameters: Array(7).fill(word), result: word },
    __errno_location: { parameters: [], result: "pointer" },
  });
  return (name, ...rest) => {
    const words = rest.map((value) => typeof value === "string" ? address(new TextEncoder().encode(value + "\0")) : value);
    const answer = symbols.syscall(BigInt(numbers[name]), ...words.map(BigInt), ...Array(6 - words.length).fill(0n));
    if (BigInt(answer) !== -1n) return Number(answer);
    const code = new Deno.UnsafePointerView(symbols.__errno_location()).getInt32();
    throw new Error(code === 1 ? "EPERM" : `error ${code}`);
  };
}

const kept = []; // what the kernel was pointed at

function address(bytes) {
  kept.push(bytes);
  return BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)));
}

attempt("call C", { bare: null }, () => Deno.dlopen("libc.so.6", { getpid: { parameters: [], result: "i32" } }).symbols.getpid());
attempt("make a pointer", { bare: null }, () => found(Deno.UnsafePointer.create(4096n)));
attempt("read memory by a pointer", { bare: null }, () => {
  const bytes = new Uint8Array([7]);
  if (new Deno.UnsafePointerView(Deno.UnsafePointer.of(bytes)).getUint8() !== 7) throw new Error("another byte");
});
attempt("make a callback for C", { bare: "no executable memory" }, () => new Deno.UnsafeCallback({ parameters: [], result: "void" }, () => {}).close());

attempt("open by the kernel", {}, (scene) => system(scene)("openat", -100, "/etc/passwd", 0));
attempt("make a socket by the kernel", {}, (scene) => system(scene)("socket", 2, 1, 0));
attempt("make a pair of sockets by the kernel", {}, (scene) => system(scene)("socketpair", 1, 2, 0, address(new Uint8Array(8))));
attempt("fork by the kernel", {}, (scene) => {
  const call = system(scene);
  if (call("clone", 17) === 0) call("exit_group", 0);
});
attempt("map memory to write and execute", {}, (scene) => system(scene)("mmap", 0, 4096, 7, 0x22, -1));
attempt("make memory executable", {}, (scene) => {
  const call = system(scene);
  call("mprotect", call("mmap", 0, 4096, 3, 0x22, -1), 4096, 5);
});
attempt("make a file in memory", {}, (scene) => system(scene)("memfd_create", "x", 0));
attempt("signal by the kernel", {}, (scene) => system(scene)("kill", scene.victim, 15));
attempt("signal a thread of another process", {}, (scene) => system(scene)("tgkill", scene.victim, scene.victim, 0));
attempt("hold another process by a descriptor", {}, (scene) => system(scene)("pidfd_open", scene.victim, 0));
attempt("change the limits of another process", {}, (scene) => system(scene)("prlimit64", scene.victim, 7, 0, address(new Uint8Array(16))));
attempt("become dumpable again", {}, (scene) => system(scene)("prctl", 4, 1));
attempt("take a session of its own away from the host", {}, (scene) => {
  const call = system(scene);
  if (call("getsid", 0) !== call("getpid")) call("setsid");
});
attempt("watch files by the kernel", {}, (scene) => system(scene)("inotify_init1", 0));
attempt("share memory with others", {}, (scene) => system(scene)("shmget", 0, 4096, 0o1600));
attempt("read another process's memory", { bare: "tripwire" }, (scene) => {
  const into = new BigUint64Array([address(new Uint8Array(8)), 8n]), from = new BigUint64Array([BigInt(scene.secretAt), 8n]);
  system(scene)("process_vm_readv", scene.victim, address(into), 1, address(from), 1);
});
attempt("move into namespaces of its own", { bare: "tripwire" }, (scene) => system(scene)("unshare", 0));
attempt("trace", { bare: "tripwire" }, (scene) => system(scene)("ptrace", 0x4206, scene.victim, 0, 0)); // and it ends with this process
