import { Connection } from "./connection.js";
import { CorewireError } from "./errors.js";
import { Emitter } from "./events.js";
import { afterClose, CLOSE, LATER_ATTEMPT, matches, pauseMs, refreshMs, STABLE_MS } from "./policy.js";
import { Subscription } from "./subscription.js";

/** @typedef {import("./subscription.js").Position} Position */

/**
 * - `connecting`: a token is asked for, a WebSocket opened, the server's answer awaited
 * - `connected`
 * - `waiting`: it will connect again by itself
 * - `closed`: by `close()`, or because the server does not want this client; `reconnect()` begins anew
 *
 * @typedef {"connecting" | "connected" | "waiting" | "closed"} State
 */

/** @typedef {{ user: string, info?: any, connections?: number }} Member somebody who is there */

/** @typedef {() => string | null | undefined | Promise<string | null | undefined>} TokenFunction */

/**
 * Times are in milliseconds.
 *
 * @typedef {object} ClientOptions
 * @property {string | TokenFunction} [token] proves who this is; a function is asked before each connection, and again
 *   before the token expires. Without a token, or if the function has none, the connection is anonymous.
 * @property {number} [connectTimeoutMs] for a token, and again until the server has answered `connect`: 10,000
 * @property {number} [requestTimeoutMs] for an answer, waiting for a connection included: 10,000
 * @property {number} [pingIntervalMs] silence after which the server is asked for a sign of life: 25,000
 * @property {number} [pongTimeoutMs] how long it has for that: 10,000
 * @property {number} [firstPauseMs] bound of the random pause before the first new attempt: 1,000
 * @property {number} [maxPauseMs] bound of all pauses; it doubles up to this: 30,000
 * @property {import("./connection.js").WebSocketClass} [WebSocket] where the platform has none
 */

/**
 * - `state`: each change
 * - `connected`: also after each reconnection
 * - `disconnected`: a connection, or an attempt, has ended; without `retryInMs` there will be no other
 * - `error`: something failed for which no promise or subscription is responsible
 *
 * @typedef {object} ClientEvents
 * @property {{ state: State, previous: State }} state
 * @property {{ connection: string, user?: string }} connected
 * @property {{ code: number, reason: string, retryInMs?: number }} disconnected
 * @property {CorewireError} error
 */

/**
 * A connection to `corewire serve` that comes back by itself. It begins to connect when it is made.
 *
 * @extends {Emitter<ClientEvents>}
 */
export class Client extends Emitter {
  #url;
  #options;
  /** @type {State} */
  #state = "connecting";
  /** @type {Connection | undefined} */
  #connection;
  /** @type {Map<string, Subscription>} */
  #subscriptions = new Map();
  /** Requests that wait for a connection. @type {Set<Waiting>} */
  #waiting = new Set();
  /** Each attempt and each end begins a new turn; what belongs to an earlier one is too late. */
  #turn = 0;
  #attempt = 0;
  /** Until the next attempt. @type {any} */
  #timer;
  /** Until the token is old, or the connection a good one. @type {any} */
  #refreshTimer;
  /** @type {any} */
  #stableTimer;
  /** @type {string | undefined} */
  #token;
  /** Which token was refused last; `null` for none was. @type {string | undefined | null} */
  #refused = null;
  /** @type {string | undefined} */
  #user;
  /** How long tokens are waited for. @type {Set<any>} */
  #asking = new Set();
  #hurry = () => {
    if (this.#state === "waiting") this.reconnect();
  };

  /**
   * @param {string | URL} url such as `wss://example.com/ws`
   * @param {ClientOptions} [options]
   */
  constructor(url, options = {}) {
    super();
    this.#url = String(url);
    const WebSocketClass = options.WebSocket ?? /** @type {any} */ (globalThis).WebSocket;
    if (!WebSocketClass) {
      throw new TypeError("this platform has no WebSocket: use Node 22 or later, or name one in the option `WebSocket`");
    }
    if (!/^wss?:\/\//.test(this.#url)) throw new TypeError(`the URL must begin with ws:// or wss://: ${this.#url}`);
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    this.#options = { ...DEFAULTS, ...given, WebSocket: WebSocketClass };
    this.#begin();
  }

  get state() {
    return this.#state;
  }

  /** Who the server says this is; `undefined` while nobody has said, and for anonymous connections. */
  get user() {
    return this.#user;
  }

  /**
   * Subscribes to a topic or a pattern, now and after each reconnection, until `unsubscribe()`.
   *
   * @param {string} topic
   * @param {import("./subscription.js").SubscriptionOptions} [options]
   * @returns {Subscription}
   */
  subscribe(topic, options = {}) {
    if (this.#subscriptions.has(topic)) {
      throw new Error(`${topic} is subscribed to already: listen to subscription(${JSON.stringify(topic)})`);
    }
    const subscription = new Subscription(topic, options, {
      request: (message, answered) => this.#connection?.request(message, answered),
      ask: (source, told) => this.#ask(source, told),
      pauses: () => this.#pauses(),
      forget: () => void this.#subscriptions.delete(topic),
    });
    this.#subscriptions.set(topic, subscription);
    if (this.#state === "connected") subscription._start();
    return subscription;
  }

  /**
   * The subscription of this name, if there is one.
   *
   * @param {string} topic
   */
  subscription(topic) {
    return this.#subscriptions.get(topic);
  }

  /**
   * Publishes; done when the topic has accepted it. If the connection is lost before that is known, it fails with
   * `connection_lost` and is not sent again: it may have been accepted.
   *
   * @param {string} topic
   * @param {unknown} data any JSON
   * @param {{ key?: string }} [options] `key`: what it is the newest value of
   * @returns {Promise<Position>}
   */
  async publish(topic, data, { key } = {}) {
    const { epoch, offset } = await this.#request({ type: "publish", topic, key, data: json(data) });
    return { epoch, offset };
  }

  /**
   * Publishes what is worth something only now, such as a position. Not sent without a connection, and nobody says
   * that it was accepted; a refusal comes as `error`.
   *
   * @param {string} topic
   * @param {unknown} data any JSON
   * @param {{ key?: string }} [options]
   * @returns {boolean} whether it was sent
   */
  publishUnacked(topic, data, { key } = {}) {
    const message = { type: "publish", topic, key, data: json(data) };
    if (this.#state !== "connected") return false;
    this.#connection?.send(message);
    return true;
  }

  /**
   * Who is there, each user once.
   *
   * @param {string} topic
   * @returns {Promise<Member[]>}
   */
  async presence(topic) {
    return (await this.#request({ type: "presence", topic })).members;
  }

  /** Connects at once: instead of waiting on, or after the client was closed. */
  reconnect() {
    if (this.#state === "connected" || this.#state === "connecting") return;
    if (this.#state === "closed") [this.#attempt, this.#refused] = [0, null];
    this.#begin();
  }

  /** Ends the connection and connects no more. Subscriptions are kept for `reconnect()`. */
  close() {
    if (this.#state === "closed") return;
    this.#leave();
    this.#end({ code: CLOSE.normal, reason: "closed by the application" });
  }

  #begin() {
    this.#leave();
    const turn = this.#turn;
    if (!this.#setState("connecting") || turn !== this.#turn) return;
    /** @type {any} */ (globalThis).addEventListener?.("online", this.#hurry);
    const { token } = this.#options;
    if (typeof token !== "function") return this.#open(token);
    this.#ask(token, (error, got) => {
      if (turn !== this.#turn) return;
      if (error) {
        this._emit("error", error);
        if (turn === this.#turn) this.#wait(CLOSE.abnormal, error.message);
      } else if (this.#refused !== null && got === this.#refused) {
        this.#end({ code: CLOSE.tokenRefused, reason: "there is no other token than the one that was refused" });
      } else this.#open(got);
    });
  }

  /** @param {string | undefined} token */
  #open(token) {
    this.#token = token;
    try {
      this.#connection = new Connection(this.#url, this.#options.WebSocket, token, this.#options, {
        ready: (ack) => this.#ready(ack),
        heard: (message) => this.#heard(message),
        failed: (error) => this._emit("error", error),
        ended: (code, reason, retryMs) => this.#ended(code, reason, retryMs),
      });
    } catch (error) {
      // The URL is not one, or the page may not use it: trying again would not help.
      this.#end({ code: CLOSE.abnormal, reason: String(error) });
      throw error;
    }
  }

  /** @param {any} ack */
  #ready({ connection, user, expires_in }) {
    const turn = this.#turn;
    this.#user = user;
    this.#refused = null;
    this.#stableTimer = setTimeout(() => (this.#attempt = 0), STABLE_MS);
    this.#armRefresh(expires_in);
    const previous = this.#state;
    this.#state = "connected";
    // Before anybody is told, who may add to them.
    for (const subscription of [...this.#subscriptions.values()]) subscription._start();
    for (const waiting of [...this.#waiting]) this.#send(waiting);
    if (turn === this.#turn) this._emit("state", { state: "connected", previous });
    if (turn === this.#turn) this._emit("connected", { connection, user });
  }

  /** @param {any} message */
  #heard(message) {
    const own = this.#subscriptions.get(message.topic);
    switch (message.type) {
      case "message": {
        const isReplay = own?._isReplay(message.offset);
        own?._message(message);
        // The server sends each publication once, however many subscriptions it is for.
        if (isReplay) return;
        for (const other of [...this.#subscriptions.values()]) {
          if (other.isPattern && matches(other.topic, message.topic)) other._message(message);
        }
        return;
      }
      case "presence": {
        for (const other of [...this.#subscriptions.values()]) {
          if (other === own || (other.isPattern && matches(other.topic, message.topic))) other._presence(message);
        }
        return;
      }
      case "unsubscribe":
        return own?._unsubscribed(message);
      default: // of a later version
    }
  }

  /**
   * @param {number} code
   * @param {string} reason
   * @param {number} [retryMs]
   */
  #ended(code, reason, retryMs) {
    const wasGood = this.#state === "connected";
    this.#leave();
    switch (afterClose(code)) {
      case "final":
        return this.#end({ code, reason });
      case "new-token":
        // A token that was good may still be: the back end can ask for a newer one before the old one expires.
        this.#refused = wasGood ? null : this.#token;
        if (typeof this.#options.token !== "function") return this.#end({ code, reason });
        return this.#wait(code, reason, retryMs);
      case "retry-later":
        this.#attempt = Math.max(this.#attempt, LATER_ATTEMPT);
        return this.#wait(code, reason, retryMs, true);
      case "retry":
        return this.#wait(code, reason, retryMs);
    }
  }

  /**
   * @param {number} code
   * @param {string} reason
   * @param {number} [retryMs]
   * @param {boolean} [isLater]
   */
  #wait(code, reason, retryMs = 0, isLater = false) {
    const turn = ++this.#turn;
    const retryInMs = Math.max(retryMs, pauseMs(this.#attempt++, this.#pauses(), isLater));
    this.#timer = setTimeout(() => this.#begin(), retryInMs);
    if (this.#setState("waiting") && turn === this.#turn) this._emit("disconnected", { code, reason, retryInMs });
  }

  /** @param {{ code: number, reason: string }} why */
  #end(why) {
    /** @type {any} */ (globalThis).removeEventListener?.("online", this.#hurry);
    const turn = ++this.#turn;
    for (const waiting of [...this.#waiting]) {
      this.#forget(waiting);
      waiting.answered(new CorewireError("not_sent", `the client is closed: ${why.reason}`), null);
    }
    if (this.#setState("closed") && turn === this.#turn) this._emit("disconnected", why);
  }

  /** Drops the connection, if there is one, and every plan. */
  #leave() {
    this.#turn++;
    for (const timer of [this.#timer, this.#refreshTimer, this.#stableTimer, ...this.#asking]) clearTimeout(timer);
    this.#asking.clear();
    const connection = this.#connection;
    this.#connection = undefined;
    this.#user = undefined;
    for (const subscription of this.#subscriptions.values()) subscription._stop();
    connection?.close();
  }

  /** @param {number | undefined} expiresInSeconds */
  #armRefresh(expiresInSeconds) {
    if (expiresInSeconds === undefined || typeof this.#options.token !== "function") return;
    this.#refreshTimer = setTimeout(() => this.#refresh(0), refreshMs(expiresInSeconds));
  }

  /**
   * Without success the server closes with 4002 in the end.
   *
   * @param {number} attempt
   */
  #refresh(attempt) {
    const { token } = this.#options;
    if (typeof token !== "function") return;
    const turn = this.#turn;
    /** @param {CorewireError} error */
    const failed = (error) => {
      const pause = Math.max(error.retryMs ?? 0, pauseMs(attempt, this.#pauses(), true));
      this.#refreshTimer = setTimeout(() => this.#refresh(attempt + 1), pause);
      this._emit("error", error);
    };
    this.#ask(token, (error, got) => {
      if (turn !== this.#turn) return;
      if (error) return failed(error);
      this.#connection?.request({ type: "connect", token: got }, (refusal, ack) => {
        if (turn !== this.#turn) return;
        if (refusal) return failed(refusal);
        this.#token = got;
        this.#armRefresh(ack.expires_in);
      });
    });
  }

  /**
   * Asks the application for a token, and waits no longer than for a connection, or until that is left.
   *
   * @param {() => unknown} source
   * @param {(error: CorewireError | null, token: string | undefined) => void} told called at most once
   */
  #ask(source, told) {
    let isTold = false;
    /** @param {CorewireError | null} error @param {unknown} [token] */
    const tell = (error, token) => {
      if (isTold) return;
      isTold = true;
      clearTimeout(timer);
      this.#asking.delete(timer);
      told(error, /** @type {string | undefined} */ (token ?? undefined));
    };
    const { connectTimeoutMs } = this.#options;
    const late = () => tell(new CorewireError("token_function", `no token in ${connectTimeoutMs} ms`));
    const timer = setTimeout(late, connectTimeoutMs);
    this.#asking.add(timer);
    new Promise((resolve) => resolve(source())).then(
      (token) => tell(null, token),
      (cause) => tell(new CorewireError("token_function", `the token function failed: ${cause?.message}`, { cause })),
    );
  }

  /**
   * @param {Record<string, unknown>} message
   * @returns {Promise<any>}
   */
  #request(message) {
    return new Promise((resolve, reject) => {
      /** @type {import("./connection.js").Answered} */
      const answered = (error, answer) => (error ? reject(error) : resolve(answer));
      if (this.#state === "closed") return reject(new CorewireError("not_sent", "the client is closed"));
      if (this.#waiting.size >= WAITING_MAX) {
        return reject(new CorewireError("not_sent", `${WAITING_MAX} requests wait for a connection already`));
      }
      const { requestTimeoutMs } = this.#options;
      /** @type {Waiting} */
      const waiting = { message, answered, giveUpAt: Date.now() + requestTimeoutMs, timer: undefined };
      if (this.#state === "connected") return this.#send(waiting);
      // As it is now, and refused now if JSON has no form for it.
      waiting.message = JSON.parse(JSON.stringify(message));
      waiting.timer = setTimeout(() => {
        this.#forget(waiting);
        reject(new CorewireError("not_sent", `no connection in ${requestTimeoutMs} ms`));
      }, requestTimeoutMs);
      this.#waiting.add(waiting);
    });
  }

  /** @param {Waiting} waiting */
  #send(waiting) {
    this.#forget(waiting);
    this.#connection?.request(waiting.message, waiting.answered, Math.max(1, waiting.giveUpAt - Date.now()));
  }

  /** @param {Waiting} waiting */
  #forget(waiting) {
    clearTimeout(waiting.timer);
    this.#waiting.delete(waiting);
  }

  #pauses() {
    return { firstMs: this.#options.firstPauseMs, maxMs: this.#options.maxPauseMs };
  }

  /**
   * Whether no listener has changed it again.
   *
   * @param {State} state
   */
  #setState(state) {
    const previous = this.#state;
    this.#state = state;
    if (state !== previous) this._emit("state", { state, previous });
    return this.#state === state;
  }
}

/**
 * @typedef {object} Waiting
 * @property {Record<string, unknown>} message
 * @property {import("./connection.js").Answered} answered
 * @property {number} giveUpAt
 * @property {any} timer
 */

/**
 * What can be sent: `undefined` and functions have no form in JSON.
 *
 * @param {unknown} data
 */
function json(data) {
  if (["undefined", "function", "symbol"].includes(typeof data)) {
    throw new TypeError(`JSON has no form for ${typeof data}: publish null, for example`);
  }
  return data;
}

/** Requests that may wait for a connection. */
const WAITING_MAX = 1000;

const DEFAULTS = {
  connectTimeoutMs: 10_000,
  requestTimeoutMs: 10_000,
  pingIntervalMs: 25_000,
  pongTimeoutMs: 10_000,
  firstPauseMs: 1_000,
  maxPauseMs: 30_000,
  /** @type {string | TokenFunction | undefined} */
  token: undefined,
};
