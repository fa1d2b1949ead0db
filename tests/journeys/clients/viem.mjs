// Drives viem 2 for a test: one JSON call a line on stdin, one JSON answer a line on stdout.
import { createPublicClient, http, webSocket } from "viem";
import { serve } from "./lines.mjs";

const url = process.argv[2];
// The owner may take his time: the journey waits for answers, and a retry would ask twice.
const options = { retryCount: 0, timeout: 60_000 };
const transport = url.startsWith("ws") ? webSocket(url, options) : http(url, options);
const client = createPublicClient({ transport });
await serve((method, params) => client.request({ method, params }), (error) => {
  const rpc = error.walk?.((cause) => typeof cause.code === "number") ?? error;
  return { code: rpc.code, message: rpc.details ?? rpc.message, data: rpc.data };
});
process.exit(0);
