// What the npm runtime of l2proxy hands to a plugin, and what it expects of one (docs/plugin-authors.md, "JavaScript").
//
// Types alone: at run time everything is injected into the constructor. Integers of the ABI are bigint; amounts are wei;
// addresses, hashes and signatures are 0x strings. What the proxy refuses rejects with a HostError.

/** 0x and hex digits: an address, a hash, a signature, bytes. */
export type Hex = string;

/** A value of the store: text, or bytes. */
export type Blob = string | Uint8Array;

/** An integer as code may give it; bigint is sent as a 0x quantity. */
export type Integer = bigint | number | string;

export type TypedData = Record<string, unknown>;

/**
 * The proxy said no: 4001 the owner, 4100 outside path, gateway, grant or manifest, -32602 malformed, -32005 quota or
 * rate, 4900 hub or L1 is away.
 */
export interface HostError extends Error {
  readonly name: "HostError";
  readonly code: number;
  readonly data?: unknown;
}

/** Throw an Error with these members and the caller sees code, message and data; of every other error the caller sees one plain sentence. */
export interface ActionError extends Error {
  name: "ActionError";
  code: number;
  data?: unknown;
  /** false: nothing was spent, the site gets its budget back. */
  spent?: false;
}

/** EIP-1193, for the methods the owner granted from the manifest's `layer1`; and watches. */
export interface Layer1Provider {
  request(call: { method: string; params?: unknown[] }): Promise<any>;
  /** Have blocks or logs delivered to onBlock and onLogs, gap-free from `from` on, also after a stop; the same name replaces. */
  watch(params: {
    name: string;
    blocks?: true;
    logs?: { address?: Hex | Hex[]; topics?: (Hex | Hex[] | null)[] };
    confirmations?: number;
    from?: Integer;
  }): Promise<unknown>;
  unwatch(name: string): Promise<unknown>;
}

/** The newest block, as MetaMask's block tracker tells it: 0x quantities. */
export interface Layer1BlockTracker {
  /** What was last heard, null before the first block. */
  getCurrentBlock(): Hex | null;
  getLatestBlock(): Promise<Hex>;
  on(event: "latest", listener: (block: Hex) => void): this;
  on(event: "sync", listener: (blocks: { oldBlock: Hex | null; newBlock: Hex }) => void): this;
  once(event: "latest", listener: (block: Hex) => void): this;
  once(event: "sync", listener: (blocks: { oldBlock: Hex | null; newBlock: Hex }) => void): this;
  removeListener(event: "latest" | "sync", listener: (value: any) => void): this;
}

/** The plugin's own ordered store; what a write resolved for is on disk. */
export interface LocalDatabase {
  get(key: Blob): Promise<Blob | null>;
  put(key: Blob, value: Blob): Promise<unknown>;
  delete(...keys: Blob[]): Promise<unknown>;
  /** Write and delete in one atomic batch; a Map or pairs where keys are bytes. */
  write(put: Record<string, Blob> | Iterable<[Blob, Blob]>, remove?: Blob[]): Promise<unknown>;
  /** Items below `prefix`, or from `start` to before `end`, in key order. */
  scan(range?: { prefix?: Blob; start?: Blob; end?: Blob; limit?: number; reverse?: boolean }): Promise<[Blob, Blob][]>;
}

export interface Account {
  address: Hex;
  publicKey: Hex;
  /** Relative to the plugin's own path, as "0'"; what `keys.sign` takes. */
  path: string;
  /** Only from `derive`, and only where the owner granted keys.export. */
  privateKey?: Hex;
}

export type Signed = ({ typedData: TypedData } | { message: string } | { digest: Hex }) & { signature: Hex };

export interface Keys {
  /** The account PATH/index'; without an index a new one. */
  account(index?: number): Promise<Account>;
  /** The key at a path relative to the plugin's own, as "0'/7'". */
  derive(path: string): Promise<Account>;
  /** EIP-712 or EIP-191. Own keys sign after `ready()`; "owner" asks the owner and waits. */
  sign(account: Account | string, content: { typedData: TypedData } | { message: string }): Promise<Hex>;
  /** The address that signed; a high s is refused. */
  recover(item: Signed): Promise<Hex>;
  /** Up to 64 at once. */
  recoverMany(items: Signed[]): Promise<Hex[]>;
  /** keccak-256 of typed data, of bytes, or of ABI-encoded values. */
  hash(item: { typedData: TypedData } | { data: Uint8Array | Hex } | { abi: string[]; values: unknown[] }): Promise<Hex>;
}

/** A call of a function the manifest lists. `args` may hold bigint and Uint8Array. */
export interface GatewayCall {
  gateway?: string;
  function?: string;
  args?: unknown[];
}

export interface PlanStep {
  gateway?: string;
  function: string;
  /** null: asked for when they are known, from the event or from `supply`. */
  args: unknown[] | null;
  value?: Integer;
  waitFor?: { blocks: number } | { time: number } | { event: { name: string; args?: Record<string, unknown>; gateway?: string } };
}

/** Money between the main account and the plugin's contract; each answers with the id of an operation at once, its progress comes to onOperation. */
export interface Gateway {
  deposit(params: GatewayCall & { value: Integer; token?: Hex }): Promise<string>;
  withdraw(params: GatewayCall & { value?: Integer }): Promise<string>;
  /** Several calls with waits between them, approved as one. */
  plan(steps: PlanStep[]): Promise<string>;
  /** The arguments of a plan's first step that has none yet. */
  supply(operation: string | Operation, args: unknown[] | Record<string, unknown>): Promise<string>;
  /** From the plugin's own key 0 and its gas; while the wallet is locked dispute functions alone. */
  send(params: GatewayCall & { function: string }): Promise<string>;
  /** From the main account to any address; needs the manifest's `transfer`. */
  transfer(params: { to: Hex; value: Integer; token?: Hex }): Promise<string>;
}

/** The one connection to the plugin's operator; the proxy holds it and reconnects. */
export interface Hub {
  send(message: Blob): Promise<unknown>;
  /** An HTTP hub; a body that is no text arrives as base64. */
  request(call: { method: string; path: string; headers?: Record<string, string>; body?: Blob }): Promise<{
    status: number;
    headers: Record<string, string>;
    body?: string;
    base64?: string;
  }>;
}

/** What sites see of the plugin. */
export interface State {
  /** Publish a whole state or an RFC 7396 patch; with `origin` for that site alone. Answers with the revision. */
  update(change: { state: Record<string, unknown>; origin?: string } | { patch: Record<string, unknown>; origin?: string }): Promise<number>;
}

/** A durable timer: late with `missed` rather than never. `time` in unix seconds; the same id replaces. */
export type Schedule = (
  timer: { id: string; block: Integer; data?: unknown } | { id: string; time: number; data?: unknown } | { id: string; cancel: true },
) => Promise<unknown>;

/** Lines for `l2proxy plugin logs`; never put a secret there. */
export interface Log {
  debug(message: string, fields?: Record<string, unknown>): void;
  info(message: string, fields?: Record<string, unknown>): void;
  warning(message: string, fields?: Record<string, unknown>): void;
  error(message: string, fields?: Record<string, unknown>): void;
}

/** The object the constructor gets. */
export interface Injected {
  layer1Provider: Layer1Provider;
  layer1BlockTracker: Layer1BlockTracker;
  layer1NetworkId: number;
  layer1OwnerAddress: Hex;
  localDatabase: LocalDatabase;
  keys: Keys;
  gateway: Gateway;
  hub: Hub;
  state: State;
  schedule: Schedule;
  log: Log;
  /** Say that hub and L1 were asked after a start; own keys sign from then on. A plugin without `start` needs not say it. */
  ready(): Promise<void>;
}

/** A declared value: a Solidity type, with `components` where it is a tuple. `uint` is `uint256`. */
export interface Param {
  name: string;
  type: string;
  description?: string;
  components?: Param[];
}

/** What an action's `call` gets behind its params. */
export interface Call {
  /** Who asked: a page's origin or the name of a token. */
  origin: string;
  /** Unix seconds. */
  deadline: number;
  idempotencyKey?: string;
}

export interface Action {
  name: string;
  description?: string;
  /** Gets the params in declared order, integers as bigint, and last a Call. Answers with an object of the declared returns. */
  call(...params: any[]): unknown;
  params?: Param[];
  returns?: Param[];
  /** The uint param that is the most this action costs; `asset` is "ETH" or a token's address. */
  spends?: { param: string; asset: string };
  /** "policy" where it is left out: rules and budgets decide, else the owner is asked. */
  approval?: "always" | "policy" | "never";
  idempotent?: boolean;
}

export interface Layer2Interface {
  actions: Action[];
}

export interface StartInfo {
  chainId: number;
  owner: Hex;
  /** `chain` and `since` as 0x quantities. */
  gateways: { name: string; chain: Hex; address: Hex; since: Hex }[];
  accounts: Account[];
  /** Whether the store may be older than what was signed: false, the two counters, or "unknown". */
  restored: false | { storeCounter: number; expectedCounter: number } | "unknown";
}

export interface LogEntry {
  address: Hex;
  topics: Hex[];
  data: Hex;
  blockNumber: Hex;
  blockHash: Hex;
  transactionHash: Hex;
  transactionIndex: Hex;
  logIndex: Hex;
  removed?: boolean;
}

export interface HubEvent {
  event: "open" | "message" | "close";
  text?: string;
  base64?: string;
  code?: number;
  reason?: string;
}

export interface OperationStep {
  status: "pending" | "submitted" | "mined" | "confirmed" | "reverted" | "dropped";
  /** Every attempt at its one nonce, the newest or the mined one last. */
  hashes?: Hex[];
  [member: string]: unknown;
}

export interface Operation {
  id: string;
  kind: "deposit" | "withdraw" | "plan" | "send" | "transfer";
  status: "awaiting_approval" | "running" | "waiting" | "done" | "rejected" | "failed";
  steps: OperationStep[];
  error?: unknown;
  [member: string]: unknown;
}

/** The class a plugin's module exports as default. Deliveries come in order and again after a restart until the hook resolved. */
export interface Plugin {
  layer2Interface: Layer2Interface;
  start?(info: StartInfo): unknown;
  stop?(): unknown;
  /** What one site sees; nothing: the published state. */
  getLayer2State?(path: string | undefined, origin: string): unknown;
  onBlock?(block: { number: number; hash: Hex; timestamp: number }): unknown;
  /** Numbers of the first and last block that are no longer there. */
  onReorg?(blocks: { from: number; to: number }): unknown;
  onLogs?(delivery: { watch: string; logs: LogEntry[]; removed: boolean }): unknown;
  onHubMessage?(event: HubEvent): unknown;
  onOperation?(operation: Operation): unknown;
  onScheduled?(timer: { id: string; data: any; missed: boolean }): unknown;
  onLock?(): unknown;
  onUnlock?(): unknown;
}

export type PluginClass = new (injected: Injected) => Plugin;
