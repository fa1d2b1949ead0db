// What an npm plugin tries: each attempt throws where it is refused. `scene`: what the battery laid out for it.
// Run free by `deno run -A`, where each must succeed, and as the plugin it is (default export) in the jail.

const node = (name) => import(`node:${name}`);

export const ATTEMPTS = {
  "read a file by node:fs": async ({ secret }) => (await node("fs")).readFileSync(secret),
  "read a file by promises": async ({ secret }) => await (await node("fs/promises")).readFile(secret),
  "list a folder": async ({ folder }) => (await node("fs")).readdirSync(folder),
  "stat a file": async ({ secret }) => (await node("fs")).statSync(secret),
  "read a link": async () => (await node("fs")).readlinkSync("/proc/self/exe"),
  "read its own memory map": async () => (await node("fs")).readFileSync("/proc/self/maps"),
  "read the environment of the host": async () => (await node("fs")).readFileSync("/proc/self/environ"),
  "write a file": async ({ folder }) => (await node("fs")).writeFileSync(`${folder}/written`, "x"),
  "make a folder": async ({ folder }) => (await node("fs")).mkdirSync(`${folder}/made`, { recursive: true }),
  "make a link": async ({ folder }) => (await node("fs")).symlinkSync("/", `${folder}/link${Math.random()}`),
  "remove a file": async ({ folder }) => {
    const fs = await node("fs");
    fs.accessSync(folder);
    fs.rmSync(`${folder}/gone`, { force: true });
  },
  "open a database file": async ({ folder }) => new (await node("sqlite")).DatabaseSync(`${folder}/a.db`),
  "write a heap snapshot": async ({ folder }) => {
    (await node("v8")).writeHeapSnapshot(`${folder}/heap`);
    (await node("fs")).statSync(`${folder}/heap`);
  },
  "import a local module": ({ folder }) => import(`file://${folder}/module.js`),
  "import local JSON": ({ folder }) => import(`file://${folder}/data.json`, { with: { type: "json" } }),
  "import a local module from data:": ({ folder }) => import(`data:text/javascript,import "file://${folder}/module.js"`),
  "import a local module from blob:": ({ folder }) => {
    const text = `import "file://${folder}/module.js"`;
    return import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
  },
  "require a local module": async ({ folder }) => (await node("module")).createRequire(`file://${folder}/`)("./module.cjs"),
  "import over http": ({ port }) => import(`http://127.0.0.1:${port}/module.js`),
  "fetch": async ({ port }) => await (await fetch(`http://127.0.0.1:${port}/module.js`)).text(),
  "open a WebSocket": ({ port }) => new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`);
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error("refused"));
  }),
  "connect by node:net": async ({ port }) => await heard((await node("net")).connect(port, "127.0.0.1"), "connect"),
  "listen by node:net": async () => await heard((await node("net")).createServer().listen(0, "127.0.0.1"), "listening"),
  "bind a datagram socket": async () => {
    const socket = (await node("dgram")).createSocket("udp4");
    socket.bind(0, "127.0.0.1");
    await heard(socket, "listening");
  },
  "look a name up": async () => await (await node("dns/promises")).lookup("localhost"),
  "run a program": async () => {
    const { status, error } = (await node("child_process")).spawnSync("/bin/true");
    if (error || status !== 0) throw error ?? new Error(String(status));
  },
  "run a shell": async () => (await node("child_process")).execSync("true"),
  "read an environment variable": async () => {
    if (!(await node("process")).env.L2PROXY_SECRET) throw new Error("it is not there");
  },
  "signal another process": async ({ other }) => (await node("process")).kill(other, 0),
  "change its folder": async () => (await node("process")).chdir("/tmp"),
  "load a native addon": async () => {
    const process = await node("process");
    try {
      process.dlopen({ exports: {} }, "/nonexistent.node");
    } catch (error) {
      if (!/cannot open shared object|No such file|nonexistent/.test(error.message)) throw error;
    }
    (await node("fs")).accessSync("/");
  },
  "compile WebAssembly": () => WebAssembly.compile(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])),
  "call C": () => Deno.dlopen("libc.so.6", { getpid: { parameters: [], result: "i32" } }).symbols.getpid(),
  "run a program by Deno": () => new Deno.Command("/bin/true").outputSync(),
  "read a file by Deno": ({ secret }) => Deno.readTextFileSync(secret),
  "find Deno by a function's constructor": () => (() => {}).constructor("return Deno")().readTextFileSync("/etc/passwd"),
  "find Deno by an indirect eval": () => (0, eval)("Deno").readTextFileSync("/etc/passwd"),
  "ask for a permission": async () => {
    if ((await Deno.permissions.request({ name: "read" })).state !== "granted") throw new Error("denied");
  },
  "keep something for other plugins": () => localStorage.setItem("a", "b"),
  "keep something in a cache": () => caches.open("a"),
  "start a worker": () => new Promise((resolve, reject) => {
    const worker = new Worker("data:text/javascript,postMessage(1)", { type: "module" });
    worker.onmessage = () => resolve(worker.terminate());
    worker.onerror = reject;
  }),
};

function heard(emitter, event) {
  return new Promise((resolve, reject) => {
    emitter.once(event, () => resolve(emitter.close?.() ?? emitter.destroy?.()));
    emitter.once("error", reject);
  });
}

/** Try one; return "done" or what refused it. */
export async function attempt(name, scene) {
  try {
    await ATTEMPTS[name](scene);
    return "done";
  } catch (error) {
    return `refused: ${String(error?.message ?? error).slice(0, 120)}`;
  }
}

export default class {
  constructor() {
    const call = async (scene, names) => {
      const given = JSON.parse(scene), found = {};
      for (const name of JSON.parse(names)) found[name] = await attempt(name, given);
      return { found: JSON.stringify(found) };
    };
    const params = [{ name: "scene", type: "string" }, { name: "names", type: "string" }];
    this.layer2Interface = { actions: [{ name: "try", call, params }] };
  }
}
