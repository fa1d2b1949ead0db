// An echo snap in MetaMask's own simulation: what one request to a snap costs, asked one after another.
//
// `node echo.mjs SECONDS REGISTRY` prints {"p50": ms, "p99": ms, "count": n}. The snap is served from here to the library as
// `local:` snaps are; it runs in the library's worker thread, under SES, as MetaMask's own tests run snaps. REGISTRY is the one
// address a snap's manifest may name; nothing is fetched from it.
import { createServer } from "node:http";

import { installSnap } from "@metamask/snaps-simulation";
import { getSnapChecksum } from "@metamask/snaps-utils";
import { VirtualFile } from "@metamask/snaps-utils/node";

const [seconds, registry] = process.argv.slice(2);

const bundle = "module.exports.onRpcRequest = async ({ request }) => ({ text: request.params.text });\n";
const manifest = {
  version: "1.0.0",
  description: "Says what it hears.",
  proposedName: "Echo",
  source: {
    shasum: "",
    location: { npm: { filePath: "bundle.js", packageName: "echo", registry } },
  },
  initialPermissions: { "endowment:rpc": { dapps: true, snaps: false } },
  platformVersion: "8.1.0",
  manifestVersion: "0.1",
};
const written = { value: JSON.stringify(manifest), result: manifest, path: "snap.manifest.json" };
manifest.source.shasum = await getSnapChecksum({
  manifest: new VirtualFile(written),
  sourceCode: new VirtualFile({ value: bundle, path: "bundle.js" }),
  auxiliaryFiles: [],
  localizationFiles: [],
});
const files = { "/snap.manifest.json": JSON.stringify(manifest), "/bundle.js": bundle };
const server = createServer((asked, answer) => {
  const file = files[new URL(asked.url, "http://localhost").pathname];
  answer.writeHead(file === undefined ? 404 : 200).end(file);
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const { request } = await installSnap(`local:http://127.0.0.1:${server.address().port}`, { options: {} });

async function ask() {
  const { response } = await request({ origin: "https://dapp.example", method: "echo", params: { text: "hello" } });
  if (response.result?.text !== "hello") throw new Error(JSON.stringify(response));
}

for (let n = 0; n < 200; n++) await ask();
const taken = [];
for (const until = performance.now() + Number(seconds) * 1000; performance.now() < until; ) {
  const began = performance.now();
  await ask();
  taken.push(performance.now() - began);
}
taken.sort((a, b) => a - b);
const at = (part) => taken[Math.floor(part * taken.length)];
process.stdout.write(`${JSON.stringify({ p50: at(0.5), p99: at(0.99), count: taken.length })}\n`);
process.exit(0);
