// The testing twin of l2proxy_sdk.testing: run a plugin in process, without a daemon (`l2proxy plugin test`).

import type { Action, HubEvent, Integer, LogEntry, Operation, PluginClass } from "../index.d.ts";

export type Layer1 = { request(call: { method: string; params?: unknown[] }): Promise<any> };

/** The project's plugin.toml. */
export const manifest: Record<string, any>;

/** What the plugin's action or a host call was answered with. */
export class HostError extends Error {
  constructor(error: { code: number; message: string; data?: unknown });
  code: number;
  data?: any;
}

/** Throw it in `beforeCall` or `afterCall`: the plugin's process dies there. */
export class Killed extends Error {}

export interface Crypto {
  /** The private key goes to plugins whose manifest asks for keys.export, from `derive`. */
  account(path: string): { address: string; publicKey: string; privateKey?: string };
  sign(path: string, content: Record<string, unknown>): string;
  recover(content: Record<string, unknown>, signature: string): string | null;
  hash(params: Record<string, unknown>): string;
}

export class PretendCrypto implements Crypto {
  constructor(seed?: string);
  /** The private key goes to plugins whose manifest asks for keys.export, from `derive`. */
  account(path: string): { address: string; publicKey: string; privateKey?: string };
  sign(path: string, content: Record<string, unknown>): string;
  recover(content: Record<string, unknown>, signature: string): string | null;
  hash(params: Record<string, unknown>): string;
}

export class FakeClock {
  constructor(now?: number);
  /** Unix seconds. */
  now: number;
  advance(seconds: number): void;
  /** Make `Date` tell this time, in the test and in the plugin, until `restore`. */
  install(): this;
  restore(): void;
}

export interface HttpRequest {
  method: string;
  path: string;
  headers: Record<string, string>;
  body?: unknown;
}

export class FakeHub {
  constructor(options?: {
    answer?(message: string | Uint8Array): string | Uint8Array | null | undefined | void | Promise<string | Uint8Array | null | undefined | void>;
    respond?(request: HttpRequest): unknown;
    online?: boolean;
  });
  online: boolean;
  sent: (string | Uint8Array)[];
  requests: HttpRequest[];
  connect(deliver: (event: HubEvent) => void): void;
  send(message: string | Uint8Array): Promise<void>;
  request(asked: HttpRequest): Promise<{ status: number; headers: Record<string, string>; body?: string; base64?: string }>;
  deliver(message: string | Uint8Array): void;
  goOnline(): void;
  goAway(): void;
  close(): void;
}

export class FakeLayer1 {
  constructor(options?: { chainId?: number; answers?: Record<string, unknown>; time?: number });
  answers: Record<string, unknown>;
  blocks: { number: string; hash: string; parentHash: string; timestamp: string }[];
  logs: LogEntry[];
  get head(): { number: string; hash: string; parentHash: string; timestamp: string };
  mine(block?: { logs?: Partial<LogEntry>[]; timestamp?: number }): FakeLayer1["head"];
  drop(depth: number): LogEntry[];
  request(call: { method: string; params?: any[] }): Promise<any>;
}

/** A node by its URL; `l2proxy plugin test --l1 URL` lets the tests reach it and gives the URL as Deno.args[0]. */
export function layer1At(url: string): Layer1;

export class FakeHost {
  constructor(plugin: PluginClass, options?: {
    chainId?: number;
    owner?: string;
    /** Addresses by the names of the manifest's gateways. */
    gateways?: Record<string, string>;
    /** Give the same one to another host and the plugin finds what it wrote. */
    store?: Map<string, string>;
    crypto?: Crypto;
    hub?: FakeHub;
    layer1?: Layer1 | ((method: string, params: unknown[]) => unknown);
    /** Carries out an operation; returns members of its steps. Without it operations await approval. */
    execute?(kind: Operation["kind"], params: Record<string, any>): unknown;
    /** Another than the project's; null: nothing is refused. */
    manifest?: Record<string, any> | null;
    clock?: FakeClock;
  });
  readonly chainId: number;
  readonly owner: string;
  readonly gateways: Record<string, string>;
  readonly manifest: Record<string, any> | null;
  readonly crypto: Crypto;
  readonly hub: FakeHub;
  readonly clock: FakeClock;
  readonly layer1: any;
  readonly store: Map<string, string>;
  /** What sites see. */
  state: any;
  revision: number;
  isReady: boolean;
  died: boolean;
  /** Every host call so far. */
  calls: [method: string, params: Record<string, any>][];
  logs: { level: string; message: string; fields: Record<string, unknown> }[];
  operations: Map<string, Operation> & { reject(id: string): void };
  timers: Map<string, { id: string; block?: Integer; time?: number; data?: unknown }>;
  watches: Map<string, Record<string, unknown>>;
  beforeCall: ((method: string, params: Record<string, any>) => void) | null;
  afterCall: ((method: string, params: Record<string, any>) => void) | null;
  start(restored?: false | { storeCounter: number; expectedCounter: number } | "unknown"): Promise<Action[]>;
  invoke(action: string, params?: Record<string, unknown>, call?: { origin?: string; key?: string; deadline?: number }): Promise<any>;
  ask(method: string, params?: Record<string, unknown>): Promise<any>;
  until(condition: () => boolean, seconds?: number): Promise<void>;
  delivered(): Promise<void>;
  mine(block?: { logs?: Partial<LogEntry>[] }): Promise<void>;
  follow(): Promise<void>;
  reorg(depth?: number): Promise<void>;
  advance(seconds: number): Promise<void>;
  fire(timer: string, how?: { missed?: boolean }): Promise<void>;
  stop(): Promise<void>;
  kill(): Promise<void>;
}
