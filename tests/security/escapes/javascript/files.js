// Files, folders, devices and what /proc tells, by node, by Deno and by the loader of modules.

attempt("read a file by node:fs", {}, async ({ secret }) => (await node("fs")).readFileSync(secret));
attempt("read a file by promises", {}, async ({ secret }) => await (await node("fs/promises")).readFile(secret));
attempt("read a file as a stream", {}, async ({ secret }) => {
  for await (const part of (await node("fs")).createReadStream(secret)) found(part);
});
attempt("read a file by Deno", {}, ({ secret }) => Deno.readTextFileSync(secret));
attempt("read a file by Deno, without waiting", {}, async ({ secret }) => await Deno.readFile(secret));
attempt("open a file by Deno", {}, ({ secret }) => Deno.openSync(secret).close());
attempt("read a file by fetch", {}, async ({ secret }) => found(await (await fetch(`file://${secret}`)).text()));
attempt("read a file as a blob", {}, async ({ secret }) => found(await (await (await node("fs")).openAsBlob(secret)).text()));
attempt("read /etc/passwd", {}, () => Deno.readTextFileSync("/etc/passwd"));
attempt("read by the root of its process", {}, () => Deno.readTextFileSync("/proc/self/root/etc/passwd"));
attempt("list a folder", {}, async ({ folder }) => (await node("fs")).readdirSync(folder));
attempt("list a folder by Deno", {}, ({ folder }) => found([...Deno.readDirSync(folder)]));
attempt("stat a file", {}, async ({ secret }) => (await node("fs")).statSync(secret));
attempt("stat a file by Deno", {}, ({ secret }) => Deno.lstatSync(secret));
attempt("stat a file system", {}, async ({ folder }) => (await node("fs")).statfsSync(folder));
attempt("ask whether a file is there", {}, async ({ secret }) => (await node("fs")).accessSync(secret));
attempt("read a link", {}, async () => (await node("fs")).readlinkSync("/proc/self/exe"));
attempt("find the real path of a file", {}, ({ folder }) => Deno.realPathSync(`${folder}/link`));
attempt("watch a folder", {}, ({ folder }) => Deno.watchFs(folder).close());

attempt("read its own memory map", {}, async () => (await node("fs")).readFileSync("/proc/self/maps"));
attempt("read its environment", {}, async () => (await node("fs")).readFileSync("/proc/self/environ"));
attempt("list its descriptors", {}, () => found([...Deno.readDirSync("/proc/self/fd")]));
attempt("list the processes", {}, async () => (await node("fs")).readdirSync("/proc"));
attempt("read the command line of another process", {}, ({ victim }) => found(Deno.readTextFileSync(`/proc/${victim}/cmdline`)));
attempt("read the environment of another process", {}, ({ victim }) => Deno.readTextFileSync(`/proc/${victim}/environ`));
attempt("open the memory of another process", {}, ({ victim }) => Deno.openSync(`/proc/${victim}/mem`).close());

attempt("write a file", {}, async ({ folder }) => (await node("fs")).writeFileSync(`${folder}/written`, "x"));
attempt("write a file by Deno", {}, ({ folder }) => Deno.writeTextFileSync(`${folder}/written`, "x"));
attempt("append to a file", {}, async ({ folder }) => (await node("fs")).appendFileSync(`${folder}/written`, "x"));
attempt("truncate a file", {}, ({ folder }) => Deno.truncateSync(`${folder}/mine`, 0));
attempt("rename a file", {}, ({ folder }) => {
  Deno.renameSync(`${folder}/mine`, `${folder}/yours`);
  Deno.renameSync(`${folder}/yours`, `${folder}/mine`);
});
attempt("copy a file", {}, ({ folder }) => Deno.copyFileSync(`${folder}/mine`, `${folder}/copied`));
attempt("change the mode of a file", {}, ({ folder }) => Deno.chmodSync(`${folder}/mine`, 0o600));
attempt("change the owner of a file", {}, async ({ folder }) => {
  const { uid, gid } = (await node("fs")).statSync(`${folder}/mine`);
  Deno.chownSync(`${folder}/mine`, uid, gid);
});
attempt("change the times of a file", {}, ({ folder }) => Deno.utimeSync(`${folder}/mine`, 1, 1));
attempt("make a folder", {}, async ({ folder }) => (await node("fs")).mkdirSync(`${folder}/made`, { recursive: true }));
attempt("make a folder of its own choice of name", {}, async ({ folder }) => (await node("fs")).mkdtempSync(`${folder}/t`));
attempt("make a symbolic link", {}, async ({ folder }) => (await node("fs")).symlinkSync("/", `${folder}/s${Math.random()}`));
attempt("make a hard link", {}, ({ folder }) => Deno.linkSync(`${folder}/mine`, `${folder}/l${Math.random()}`));
attempt("remove a file", {}, ({ folder }) => Deno.removeSync(`${folder}/gone`));
attempt("make a temporary file", {}, () => Deno.removeSync(Deno.makeTempFileSync()));
attempt("write to shared memory", {}, () => {
  const path = `/dev/shm/escape-${Math.random()}`;
  Deno.writeTextFileSync(path, "x");
  Deno.removeSync(path);
});
attempt("open a device", {}, () => Deno.openSync("/dev/zero").close());
attempt("open a database file", { bare: "unopened" }, async ({ folder }) => new (await node("sqlite")).DatabaseSync(`${folder}/a.db`).exec("create table a (b)"));
attempt("attach a database file to one in memory", { expected: "no attachments", bare: "unopened" }, async ({ folder }) => {
  new (await node("sqlite")).DatabaseSync(":memory:").exec(`attach database '${folder}/b.db' as other; create table other.a (b)`);
});
attempt("write a heap snapshot", {}, async ({ folder }) => {
  (await node("v8")).writeHeapSnapshot(`${folder}/heap`);
  (await node("fs")).statSync(`${folder}/heap`);
});

attempt("import a local module", { bare: "not loaded" }, ({ folder }) => import(`file://${folder}/module.js`));
attempt("import local JSON", { bare: "not loaded" }, ({ folder }) => import(`file://${folder}/data.json`, { with: { type: "json" } }));
attempt("import a local text", { bare: "not loaded" }, ({ folder }) => import(`file://${folder}/plain.txt`, { with: { type: "text" } }));
attempt("import a local module from data:", { bare: "not loaded" }, ({ folder }) => import(`data:text/javascript,import "file://${folder}/module.js"`));
attempt("import a local module from blob:", { bare: "not loaded" }, ({ folder }) => {
  const text = `import "file://${folder}/module.js"`;
  return import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
});
attempt("require a local module", { bare: "not loaded" }, async ({ folder }) => (await node("module")).createRequire(`file://${folder}/`)("./module.cjs"));
attempt("load a native addon", {}, async ({ folder }) => {
  try {
    (await node("process")).dlopen({ exports: {} }, `${folder}/secret`);
  } catch (error) {
    if (!/invalid ELF|too short|file too small/.test(error.message)) throw error; // it was read
  }
});
