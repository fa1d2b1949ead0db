// The hub of a test: it keeps what the plugin sent and says what the test says.

/** `answer(message)`, if given, is asked for a reply to each message; `respond(request)` answers `hub.request` of an HTTP hub. */
export class FakeHub {
  #deliver = null;

  constructor({ answer, respond, online = true } = {}) {
    Object.assign(this, { answer, respond, online });
    this.sent = [];
    this.requests = [];
  }

  /** Begin; open at once where online. Called by the host at its start. */
  connect(deliver) {
    this.#deliver = deliver;
    if (this.online) deliver({ event: "open" });
  }

  /** Take a message of the plugin, text or Uint8Array. Throws while away. */
  async send(message) {
    if (!this.online) throw new Error("the hub is away");
    this.sent.push(message);
    const reply = await this.answer?.(message);
    if (reply !== undefined && reply !== null) this.deliver(reply);
  }

  /** Answer a request of the plugin to an HTTP hub: `{status, headers?, body?}`. */
  async request(asked) {
    if (!this.online) throw new Error("the hub is away");
    this.requests.push(asked);
    if (this.respond === undefined) throw new Error("this hub has no `respond`");
    return { status: 200, headers: {}, ...await this.respond(asked) };
  }

  /** Send the plugin a message, text or Uint8Array. */
  deliver(message) {
    this.#tell({ event: "message", ...(typeof message === "string" ? { text: message } : { base64: message.toBase64() }) });
  }

  /** Connect again. */
  goOnline() {
    this.online = true;
    this.#tell({ event: "open" });
  }

  /** Break the connection. */
  goAway() {
    this.online = false;
    this.#tell({ event: "close", code: 1006, reason: "gone" });
  }

  /** Tell nothing any more. Called by the host at its end. */
  close() {
    this.#deliver = null;
  }

  #tell(event) {
    if (this.#deliver === null) throw new Error("the host is not started, or plugin.toml has no [hub]");
    this.#deliver(event);
  }
}
