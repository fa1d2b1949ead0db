// The second half of the jail of an npm plugin, put on by our own code before the first byte of the plugin is read.
//
// The launcher (proxy/host/sandbox/deno_launch.py) has set limits, identity, namespaces and Landlock; deno then needed files
// and threads to start. Here the filter of system calls falls over every thread at once (SECCOMP_FILTER_FLAG_TSYNC), the same
// allow-list as for Python with the threads V8 lives on. The right to call C is given back before anything foreign runs.
// Source: seccomp(2), prctl(2).

const SET_MODE_FILTER = 1n, ON_EVERY_THREAD = 1n;
const SET_DUMPABLE = 4;
const READ_WRITE_EXECUTE = 7n, PRIVATE_ANONYMOUS = 0x22n;

/** Lock this process; return what still gets through, empty when the lock holds. Throws where the kernel refuses a step. */
export async function lock({ filter, numbers }) {
  const word = "i64", words = [word, word, word, word, word, word, word];
  const { symbols } = Deno.dlopen("libc.so.6", {
    prctl: { parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
    syscall: { parameters: words, result: word },
  });
  const call = (name, ...rest) => symbols.syscall(BigInt(numbers[name]), ...rest, ...Array(6 - rest.length).fill(0n));
  if (symbols.prctl(SET_DUMPABLE, 0n, 0n, 0n, 0n) !== 0) throw new Error("prctl: it cannot be made undumpable");
  const program = Uint8Array.from(filter.match(/../g), (digits) => parseInt(digits, 16));
  const described = new BigUint64Array([BigInt(program.length / 8), address(program)]);
  const answer = call("seccomp", SET_MODE_FILTER, ON_EVERY_THREAD, address(described));
  if (BigInt(answer) !== 0n) throw new Error(`seccomp: the filter was refused (${answer})`);
  const root = new TextEncoder().encode("/\0");
  const attempts = {
    "opening a file": () => call("openat", -100n, address(root), 0n),
    "making a socket": () => call("socket", 2n, 1n),
    "starting a process": () => call("clone", 17n),
    "executable memory": () => call("mmap", 0n, 4096n, READ_WRITE_EXECUTE, PRIVATE_ANONYMOUS, -1n),
  };
  const succeeding = Object.keys(attempts).filter((name) => BigInt(attempts[name]()) !== -1n);
  await Deno.permissions.revoke({ name: "ffi" });
  if ((await Deno.permissions.query({ name: "ffi" })).state === "granted") succeeding.push("calling C");
  return succeeding;
}

function address(bytes) {
  return BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)));
}
