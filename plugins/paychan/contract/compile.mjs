// Compile PayChan.sol into PayChan.json, byte for byte the same everywhere.
//
//   node compile.mjs [PATH-OF-SOLC-MODULE] [OUTPUT]
//
// The path is a folder that holds the npm package solc 0.8.37 (default: node_modules/solc beside this file, which
// `npm ci` makes). No metadata hash is appended, so the bytecode depends on source, compiler and settings alone.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const solc = createRequire(import.meta.url)(resolve(process.argv[2] ?? join(here, "node_modules/solc")));
const output = resolve(process.argv[3] ?? join(here, "PayChan.json"));
const WANTED = "0.8.37";

if (!solc.version().startsWith(`${WANTED}+`)) {
  console.error(`this contract is compiled with solc ${WANTED}; ${solc.version()} was found`);
  process.exit(1);
}
const settings = {
  evmVersion: "paris",
  optimizer: { enabled: true, runs: 1000 },
  viaIR: true,
  metadata: { appendCBOR: false, bytecodeHash: "none" },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.methodIdentifiers"] } },
};
const sources = { "PayChan.sol": { content: readFileSync(join(here, "PayChan.sol"), "utf8") } };
const result = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings })));
const problems = result.errors ?? [];
for (const problem of problems) console.error(problem.formattedMessage);
if (problems.length > 0) process.exit(1);

const contract = result.contracts["PayChan.sol"].PayChan;
const artefact = {
  contract: "PayChan",
  compiler: { name: "solc", version: solc.version(), evmVersion: settings.evmVersion, optimizerRuns: 1000, viaIR: true },
  abi: contract.abi,
  methods: contract.evm.methodIdentifiers,
  bytecode: `0x${contract.evm.bytecode.object}`,
};
writeFileSync(output, `${JSON.stringify(artefact, null, 2)}\n`);
