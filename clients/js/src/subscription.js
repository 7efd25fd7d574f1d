import { CorewireError } from "./errors.js";
import { Emitter } from "./events.js";
import { pauseMs } from "./policy.js";

/**
 * A publication.
 *
 * @typedef {object} Message
 * @property {string} topic
 * @property {number} offset its place in the topic, counted from 1
 * @property {any} data
 * @property {string} [key] what it is the newest value of
 * @property {string} [user] who published it, if a client did and the namespace tells
 */

/**
 * @typedef {object} Begun
 * @property {boolean} isFirst false if it had begun before, and the connection was lost in between
 * @property {boolean} [recovered] whether nothing is missing, where something could be: after a loss
 * @property {number} replay how many messages follow that were published before
 * @property {Position} [position] where the topic stands; a pattern has no position
 */

/** @typedef {{ epoch: string, offset: number }} Position a place in a topic */

/** @typedef {{ user: string, info?: any }} Joined */

/** @typedef {{ user: string }} Left */

/** @typedef {{ code: string, reason: string }} Ended */

/**
 * - `message`: a publication
 * - `subscribed`: it has begun, or begun again
 * - `gap`: something may be missing before the next message: load the state anew
 * - `join`, `leave`: with `presence: true`
 * - `unsubscribed`: it is over, and will not begin again: refused, or ended by the server
 * - `error`: it could not begin; the client tries again
 *
 * @typedef {object} SubscriptionEvents
 * @property {Message} message
 * @property {Begun} subscribed
 * @property {{ topic: string }} gap
 * @property {Joined} join
 * @property {Left} leave
 * @property {Ended} unsubscribed
 * @property {CorewireError} error
 */

/** @typedef {(topic: string) => string | Promise<string>} TopicToken */

/**
 * @typedef {object} SubscriptionOptions
 * @property {boolean} [presence] whether joins and leaves are told
 * @property {string | TopicToken} [token] for a topic whose namespace wants one; a function is asked again when needed
 * @property {Position} [recover] the last publication that the application has, from an earlier life
 */

/** @typedef {(error: CorewireError | null, token: string | undefined) => void} Told */

/**
 * What a subscription needs of the client.
 *
 * @typedef {object} Link
 * @property {(message: Record<string, unknown>, answered: import("./connection.js").Answered) => void} request
 * @property {(source: () => unknown, told: Told) => void} ask for a token
 * @property {() => { firstMs: number, maxMs: number }} pauses
 * @property {(subscription: Subscription) => void} forget
 */

/**
 * A subscription to a topic or a pattern. It outlives connections: after each loss it begins again with what was
 * missed, and where that is not to be had, there is a `gap`.
 *
 * @extends {Emitter<SubscriptionEvents>}
 */
export class Subscription extends Emitter {
  /** @type {Link} */
  #link;
  /** @type {SubscriptionOptions} */
  #options;
  /** @type {"subscribing" | "subscribed" | "ended"} */
  #state = "subscribing";
  #hasBegun = false;
  /** The last publication that the application has got. @type {Position | undefined} */
  #position;
  /** What is older was heard already by those who heard it live. */
  #liveAfter = 0;
  #attempt = 0;
  /** Each start and each end begins a new turn; what belongs to an earlier one is too late. */
  #turn = 0;
  /** @type {any} */
  #timer;
  /** Whether the server may know of it. */
  #isAsked = false;
  /** Which token was refused last; `null` for none was. @type {string | undefined | null} */
  #refused = null;
  /** @type {(begun: Begun) => void} */
  #resolve = () => {};
  /** @type {(error: CorewireError) => void} */
  #reject = () => {};

  /**
   * @param {string} topic
   * @param {SubscriptionOptions} options
   * @param {Link} link
   * @internal
   */
  constructor(topic, options, link) {
    super();
    /** The topic or pattern. @readonly */
    this.topic = topic;
    /** @readonly */
    this.isPattern = topic.includes("*");
    this.#options = options;
    this.#position = options.recover;
    this.#link = link;
    /** When it begins for the first time; fails if it is refused. @type {Promise<Begun>} @readonly */
    this.ready = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.ready.catch(() => {}); // who does not ask is not told twice
  }

  /** `subscribing` is also: there is no connection now. */
  get state() {
    return this.#state;
  }

  /** The last publication that the application has got; kept, it makes a good `recover` for later. */
  get position() {
    return this.#position && { ...this.#position };
  }

  /** Ends it. Nothing comes after this. */
  unsubscribe() {
    if (this.#state === "ended") return;
    const isAsked = this.#isAsked;
    this.#finish(new CorewireError("unsubscribed", "the application has ended the subscription"));
    // The server may have ended it at the same moment and say so: good as well.
    if (isAsked) this.#link.request({ type: "unsubscribe", topic: this.topic }, () => {});
  }

  /**
   * There is a connection.
   *
   * @internal
   */
  _start() {
    const turn = ++this.#turn;
    clearTimeout(this.#timer);
    this.#state = "subscribing";
    const { token } = this.#options;
    if (typeof token !== "function") return this.#subscribe(turn, token);
    this.#link.ask(
      () => token(this.topic),
      (error, got) => {
        if (turn !== this.#turn) return;
        if (error) return this.#retry(error);
        const isTheRefused = this.#refused !== null && got === this.#refused;
        if (isTheRefused) return this.#over("token_invalid", "there is no other token than the one that was refused");
        this.#subscribe(turn, got);
      },
    );
  }

  /**
   * There is none any more.
   *
   * @internal
   */
  _stop() {
    this.#turn++;
    clearTimeout(this.#timer);
    this.#state = "subscribing";
    this.#isAsked = false;
  }

  /**
   * Not if it was published before it was subscribed to.
   *
   * @param {any} message
   * @internal
   */
  _message({ topic, offset, data, key, user }) {
    if (this.#state !== "subscribed") return;
    if (this.#position && !this.isPattern) this.#position.offset = offset;
    this._emit("message", { topic, offset, data, key, user });
  }

  /**
   * Whether a message with this offset was asked for by this subscription alone, to be told what it missed.
   *
   * @param {number} offset
   * @internal
   */
  _isReplay(offset) {
    return this.#state === "subscribed" && offset <= this.#liveAfter;
  }

  /**
   * @param {any} message
   * @internal
   */
  _presence({ event, user, info }) {
    if (this.#state !== "subscribed") return;
    if (event === "join") this._emit("join", { user, info });
    if (event === "leave") this._emit("leave", { user });
  }

  /**
   * The server has ended it. If it has not begun, this is about an earlier one of the same name.
   *
   * @param {any} message
   * @internal
   */
  _unsubscribed({ code, reason }) {
    if (this.#state !== "subscribed") return;
    this.#isAsked = false;
    this.#failed(new CorewireError(code, reason));
  }

  /**
   * @param {number} turn
   * @param {string | undefined} token
   */
  #subscribe(turn, token) {
    const recover = this.isPattern ? undefined : this.#position;
    const presence = this.#options.presence || undefined;
    this.#isAsked = true;
    this.#link.request({ type: "subscribe", topic: this.topic, recover, token, presence }, (error, ack) => {
      if (turn !== this.#turn) return;
      if (!error) return this.#begin(ack, recover !== undefined);
      this.#isAsked = false;
      if (TOKEN_ERRORS.has(error.code)) this.#refused = token;
      this.#failed(error);
    });
  }

  /**
   * @param {any} ack
   * @param {boolean} hasAskedForMore
   */
  #begin({ epoch, offset, replay = 0, recovered }, hasAskedForMore) {
    const isFirst = !this.#hasBegun;
    this.#state = "subscribed";
    this.#hasBegun = true;
    this.#attempt = 0;
    this.#refused = null;
    const isPosition = typeof epoch === "string";
    // What is replayed counts as missing until it is here: the connection may be lost on the way.
    if (isPosition) this.#position = { epoch, offset: offset - replay };
    this.#liveAfter = isPosition ? offset : 0;
    const isWhole = hasAskedForMore ? recovered === true : isFirst;
    const begun = {
      isFirst,
      recovered: hasAskedForMore || !isFirst ? isWhole : undefined,
      replay,
      position: isPosition ? { epoch, offset } : undefined,
    };
    this.#resolve(begun);
    this._emit("subscribed", begun);
    if (!isWhole && this.#state === "subscribed") this._emit("gap", { topic: this.topic });
  }

  /** @param {CorewireError} error */
  #failed(error) {
    const hasNewToken = TOKEN_ERRORS.has(error.code) && typeof this.#options.token === "function";
    if (error.isTemporary || hasNewToken) this.#retry(error);
    else this.#over(error.code, error.message);
  }

  /** @param {CorewireError} error */
  #retry(error) {
    this.#turn++;
    this.#state = "subscribing";
    const pause = Math.max(error.retryMs ?? 0, pauseMs(this.#attempt++, this.#link.pauses()));
    this.#timer = setTimeout(() => this._start(), pause);
    this._emit("error", error);
  }

  /**
   * @param {string} code
   * @param {string} reason
   */
  #over(code, reason) {
    this.#finish(new CorewireError(code, reason));
    this._emit("unsubscribed", { code, reason });
  }

  /** @param {CorewireError} error */
  #finish(error) {
    this._stop();
    this.#state = "ended";
    this.#reject(error);
    this.#link.forget(this);
  }
}

const TOKEN_ERRORS = new Set(["token_required", "token_invalid", "token_expired"]);
