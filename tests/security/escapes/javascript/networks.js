// The network, by everything that opens a socket, and modules that would be fetched.

attempt("fetch", {}, async ({ http }) => await (await fetch(`${http}/module.js`)).text());
attempt("open a WebSocket", { bare: "unreached" }, ({ http }) => new Promise((resolve, reject) => {
  const socket = new WebSocket(`${http.replace("http", "ws")}/ws`);
  socket.onopen = resolve;
  socket.onerror = (event) => reject(event.error ?? new Error(event.message));
}));
attempt("ask by node:http", {}, async ({ http }) => {
  const { get } = await node("http");
  await new Promise((resolve, reject) => get(`${http}/module.js`, resolve).on("error", reject));
});
attempt("ask by node:http2", {}, async ({ tcp4 }) => await heard((await node("http2")).connect(`http://127.0.0.1:${tcp4}`), "connect"));
attempt("connect by node:net", {}, async ({ tcp4 }) => await heard((await node("net")).connect(tcp4, "127.0.0.1"), "connect"));
attempt("connect by Deno", {}, async ({ tcp4 }) => (await Deno.connect({ hostname: "127.0.0.1", port: tcp4 })).close());
attempt("connect over IPv6", { needs: "tcp6" }, async ({ tcp6 }) => (await Deno.connect({ hostname: "::1", port: tcp6 })).close());
attempt("connect to a socket with a path", {}, async ({ path }) => (await Deno.connect({ transport: "unix", path })).close());
attempt("connect to a socket with a path by node:net", {}, async ({ path }) => await heard((await node("net")).connect(path), "connect"));
attempt("listen by Deno", {}, () => Deno.listen({ hostname: "127.0.0.1", port: 0 }).close());
attempt("listen at a path", {}, ({ folder }) => Deno.listen({ transport: "unix", path: `${folder}/u${Math.random()}` }).close());
attempt("serve HTTP", {}, async () => await Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, () => new Response()).shutdown());
attempt("send a datagram", {}, async ({ udp }) => {
  const socket = (await node("dgram")).createSocket("udp4");
  await new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.send("x", udp, "127.0.0.1", (error) => error ? reject(error) : resolve(socket.close()));
  });
});
attempt("look a name up", { expected: "kernel", bare: "unreached" }, async () => await (await node("dns/promises")).lookup("localhost"));
attempt("ask which interfaces there are", {}, () => found(Deno.networkInterfaces()));
attempt("let itself be debugged", {}, async () => {
  const inspector = await node("inspector");
  inspector.open(0, "127.0.0.1");
  if (inspector.url() === undefined) throw new Error("nothing listens");
  inspector.close();
});

attempt("import over http", { bare: "not loaded" }, ({ http }) => import(`${http}/module.js`));
attempt("import over http from data:", { bare: "not loaded" }, ({ http }) => import(`data:text/javascript,import "${http}/module.js"`));
attempt("import from npm", { expected: "switched off", bare: "not loaded" }, () => import("npm:tiny@1.0.0"));
attempt("import from jsr", { bare: "not loaded" }, () => import("jsr:@a/tiny@1.0.0"));
