// Drives ethers 6 for a test: one JSON call a line on stdin, one JSON answer a line on stdout.
import { JsonRpcProvider, WebSocketProvider } from "ethers";
import { serve } from "./lines.mjs";

const url = process.argv[2];
const provider = url.startsWith("ws") ? new WebSocketProvider(url) : new JsonRpcProvider(url, undefined, { polling: true });
await serve((method, params) => provider.send(method, params), (error) => error.info?.error ?? error.error ?? error);
provider.destroy();
