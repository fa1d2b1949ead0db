// The peer: MetaMask's json-rpc-engine with its fetch middleware behind Node's own HTTP server, as a local provider would use it.
// node server.mjs UPSTREAM — says {"ready": true, "port": N} on its first line.
import { createServer } from "node:http";
import { createFetchMiddleware } from "@metamask/eth-json-rpc-middleware";
import { JsonRpcEngine } from "@metamask/json-rpc-engine";

const upstream = process.argv[2];

// What the network controller's RpcService does for a call that needs no retry: one fetch, the body read as JSON.
const rpcService = {
  async request(call, options) {
    const response = await fetch(upstream, {
      method: "POST",
      headers: { accept: "application/json", "content-type": "application/json", ...options.headers },
      body: JSON.stringify(call),
    });
    return response.json();
  },
};

const engine = new JsonRpcEngine();
engine.push(createFetchMiddleware({ rpcService }));

const server = createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", async () => {
    const answer = Buffer.from(JSON.stringify(await engine.handle(JSON.parse(Buffer.concat(parts).toString()))));
    response.writeHead(200, { "content-type": "application/json", "content-length": answer.length });
    response.end(answer);
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ ready: true, port: server.address().port })));
process.on("SIGTERM", () => process.exit(0));
