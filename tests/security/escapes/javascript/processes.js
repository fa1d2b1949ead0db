// Other processes, other programs, threads, and what the system tells of itself.

// node:child_process tells no reason: what waits hands out a result that says neither how it ended nor why it did not begin, what
// does not wait says ENOENT for anything. "run a program by Deno" is the same attempt with its reason.
const EVERYTHING_WELL = ({ status, error }) => {
  if (status === undefined && !error) throw new Error("nothing was run");
  if (error || status !== 0) throw error ?? new Error(String(status));
};

attempt("run a program", { expected: "nothing", bare: "nothing" }, async () => EVERYTHING_WELL((await node("child_process")).spawnSync("/bin/true")));
attempt("run a program without waiting", { bare: "no reason" }, async () => {
  const child = (await node("child_process")).spawn("/bin/true");
  await new Promise((resolve, reject) => child.on("error", reject).on("exit", resolve));
});
attempt("run a shell", { expected: "nothing", bare: "nothing" }, async () => {
  const { execSync } = await node("child_process");
  try {
    execSync("true");
  } catch (error) {
    EVERYTHING_WELL({ status: error.status, error: error.status === undefined ? undefined : error });
  }
});
attempt("run a program by Deno", {}, () => new Deno.Command("/bin/true").outputSync());
attempt("run another deno", { expected: "kernel" }, async ({ folder }) => {
  const child = (await node("child_process")).fork(`${folder}/module.js`);
  await new Promise((resolve, reject) => child.on("error", reject).on("exit", resolve));
});
attempt("start a worker", { expected: "withdrawn", bare: "withdrawn" }, () => new Promise((resolve, reject) => {
  const worker = new Worker("data:text/javascript,postMessage(1)", { type: "module" });
  worker.onmessage = () => resolve(worker.terminate());
  worker.onerror = reject;
}));
attempt("start a thread of node's that reads", { expected: "tripwire", bare: "tripwire" }, async ({ secret }) => {
  const { Worker } = await node("worker_threads");
  const text = `require("node:worker_threads").parentPort.postMessage(require("node:fs").readFileSync(${JSON.stringify(secret)}).length)`;
  const worker = new Worker(text, { eval: true });
  await new Promise((resolve, reject) => worker.on("message", resolve).on("error", reject));
  await worker.terminate();
});
attempt("signal another process", {}, async ({ victim }) => (await node("process")).kill(victim, "SIGTERM"));
attempt("signal another process by Deno", {}, ({ victim }) => Deno.kill(victim, "SIGTERM"));
attempt("see whether a process is there", {}, async ({ victim }) => (await node("process")).kill(victim, 0));
attempt("change the priority of another process", {}, async ({ victim }) => (await node("os")).setPriority(victim, 19));
attempt("change its user", {}, async () => {
  const { getuid, setuid } = await node("process");
  setuid(getuid());
});
attempt("change its group", {}, async () => {
  const { getgid, setgid } = await node("process");
  setgid(getgid());
});
attempt("change its folder", {}, async () => (await node("process")).chdir("/tmp"));
attempt("change its folder by Deno", {}, () => Deno.chdir("/tmp"));

attempt("read an environment variable", { expected: "empty", bare: "empty" }, async () => found((await node("process")).env.L2PROXY_SECRET));
attempt("read an environment variable of the global process", { expected: "empty", bare: "empty" }, () => found(process.env.L2PROXY_SECRET));
attempt("read the environment by Deno", { expected: "empty", bare: "empty" }, () => found(Deno.env.get("L2PROXY_SECRET")));
attempt("list the environment", { expected: "empty", bare: "empty" }, () => found(Deno.env.toObject().L2PROXY_SECRET));
attempt("learn the name of the machine", { bare: null }, () => found(Deno.hostname()));
attempt("learn who the user is", {}, async () => found((await node("os")).userInfo().uid));
attempt("learn its number", { bare: null }, () => found(Deno.uid()));
attempt("learn the memory of the machine", { bare: null }, () => found(Deno.systemMemoryInfo()));
attempt("learn the load of the machine", { bare: null }, () => found(Deno.loadavg()));
attempt("learn the kernel's release", { bare: "empty" }, () => found(Deno.osRelease()));
