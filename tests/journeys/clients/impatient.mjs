// viem with a short patience: sends a transaction of the account at the URL, asks again whenever its patience ends.
// argv: URL, from. Prints "asked" for every request that leaves, then the hash (or the error) as the last line.
import { createClient, http } from "viem";

const [url, from] = process.argv.slice(2);
const transport = http(url, { timeout: 700, retryCount: 20, retryDelay: 10, onFetchRequest: () => console.log("asked") });
const transaction = { from, to: "0x00000000000000000000000000000000000000ab", value: "0x2" };
console.log(await createClient({ transport }).request({ method: "eth_sendTransaction", params: [transaction] }).catch((error) => error.message));
process.exit(0);
