// Run a plugin in process, without a daemon: `FakeHost` speaks the real protocol to the real runtime.
//
//     const host = new FakeHost(Tally);
//     await host.start();
//     assertEquals(await host.invoke("add", { amount: 2n }), { total: "0x2" });
//     await host.stop();
//
// `l2proxy plugin test` runs tests that import this; it brings along what is imported here as "#runtime" and "#manifest".
// The Python twin is l2proxy_sdk.testing; like it, this has no quotas, budgets or permissions of sites.

export { FakeClock } from "./clock.js";
export { PretendCrypto } from "./crypto.js";
export { FakeHost, Killed } from "./host.js";
export { FakeHub } from "./hub.js";
export { FakeLayer1, layer1At } from "./layer1.js";
export { HostError } from "#runtime/session.js";
export { default as manifest } from "#manifest";
