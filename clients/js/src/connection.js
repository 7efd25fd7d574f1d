// One WebSocket, from opening to its end: `connect`, requests and their answers, heartbeats. Knows nothing of what
// comes before or after it.

import { CorewireError } from "./errors.js";
import { CLOSE } from "./policy.js";

export const SUBPROTOCOL = "corewire.v1";

/**
 * The part of a WebSocket that is used here. The platform's own has it, and so have others, such as npm's `ws`.
 *
 * @typedef {object} WebSocketLike
 * @property {string} protocol
 * @property {((event: any) => void) | null} onopen
 * @property {((event: { data: any }) => void) | null} onmessage
 * @property {((event: { code: number, reason: string }) => void) | null} onclose
 * @property {((event: any) => void) | null} onerror
 * @property {(text: string) => void} send
 * @property {(code?: number, reason?: string) => void} close
 */

/** @typedef {new (url: string, protocols: string[]) => WebSocketLike} WebSocketClass */

/** @typedef {(error: CorewireError | null, answer: any) => void} Answered called in order with the messages */

/**
 * @typedef {object} Listener
 * @property {(ack: any) => void} ready `connect` is answered
 * @property {(message: any) => void} heard a message that is no answer
 * @property {(error: CorewireError) => void} failed something went wrong, and the connection goes on
 * @property {(code: number, reason: string, retryMs?: number) => void} ended the last call, unless `close` was called
 */

export class Connection {
  /** @type {WebSocketLike} */
  #socket;
  /** @type {Listener} */
  #listener;
  /** @type {{ connectTimeoutMs: number, pingIntervalMs: number, pongTimeoutMs: number }} */
  #times;
  #isOver = false;
  #lastId = 0;
  /** @type {Map<number, { answered: Answered, timer: any }>} */
  #requests = new Map();
  /** Of `connect`, then of the heartbeat. @type {any} */
  #timer;
  #hasHeard = false;
  /** Why the server will close, if it has said so. @type {string | undefined} */
  #refusal;

  /**
   * @param {string} url
   * @param {WebSocketClass} WebSocketClass
   * @param {string | undefined} token
   * @param {{ connectTimeoutMs: number, pingIntervalMs: number, pongTimeoutMs: number }} times
   * @param {Listener} listener
   */
  constructor(url, WebSocketClass, token, times, listener) {
    this.#times = times;
    this.#listener = listener;
    const socket = new WebSocketClass(url, [SUBPROTOCOL]);
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#end(CLOSE.abnormal, "no answer to connect in time"), times.connectTimeoutMs);
    socket.onopen = () => this.#open(token);
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = ({ code, reason }) => this.#end(code, this.#refusal ?? reason);
    // Not all platforms have a close event follow, as they should.
    socket.onerror = () => this.#end(CLOSE.abnormal, "the connection failed");
  }

  /**
   * Sends a message with an `id`. `answered` is called once, unless `close` is called before.
   *
   * @param {Record<string, unknown>} message
   * @param {Answered} answered
   * @param {number} [timeoutMs] without it, it waits as long as the connection lives
   */
  request(message, answered, timeoutMs) {
    const id = (this.#lastId = (this.#lastId % ID_MAX) + 1);
    this.send({ ...message, id });
    const late = () => this.#answer(id, new CorewireError("timeout", `no answer in ${timeoutMs} ms`), null);
    const timer = timeoutMs === undefined ? undefined : setTimeout(late, timeoutMs);
    this.#requests.set(id, { answered, timer });
  }

  /** @param {Record<string, unknown>} message */
  send(message) {
    if (!this.#isOver) this.#socket.send(JSON.stringify(message));
  }

  /** Ends it. Whoever waits for an answer gets an error; the listener is not called any more. */
  close() {
    this.#listener = SILENT;
    this.#end(CLOSE.normal, "");
  }

  /** @param {string | undefined} token */
  #open(token) {
    if (this.#socket.protocol !== SUBPROTOCOL) {
      return this.#end(CLOSE.abnormal, `the server does not speak ${SUBPROTOCOL} at this address`);
    }
    this.request({ type: "connect", token }, (error, ack) => {
      if (!error) {
        this.#armHeartbeat();
        this.#listener.ready(ack);
      } else if (!this.#isOver) {
        this.#refusal = error.message;
        this.#listener.failed(error);
        // The server closes after a refusal that is final for this connection. All others mean: try again.
        if (!ENDS_CONNECT.has(error.code)) this.#end(CLOSE.abnormal, error.message, error.retryMs);
      }
    });
  }

  /** @param {unknown} text */
  #hear(text) {
    this.#hasHeard = true;
    const message = parse(text);
    if (message === undefined) {
      this.#listener.failed(new CorewireError("bad_message", "the server said something that is no message"));
      return this.#end(CLOSE.abnormal, "the server said something that is no message");
    }
    if (message.type === "error") {
      const error = new CorewireError(message.code, message.message, { retryMs: message.retry_ms });
      if (!this.#answer(message.id, error, null)) this.#listener.failed(error);
    } else if (!this.#answer(message.id, null, message)) {
      this.#listener.heard(message);
    }
  }

  /**
   * Whether somebody waited for it.
   *
   * @param {number | undefined} id
   * @param {CorewireError | null} error
   * @param {any} answer
   */
  #answer(id, error, answer) {
    const request = id === undefined ? undefined : this.#requests.get(id);
    if (id === undefined || request === undefined) return false;
    this.#requests.delete(id);
    clearTimeout(request.timer);
    request.answered(error, answer);
    return true;
  }

  // A browser cannot send WebSocket's pings, and does not show the server's.
  #armHeartbeat() {
    clearTimeout(this.#timer);
    this.#hasHeard = false;
    this.#timer = setTimeout(() => {
      if (this.#hasHeard) return this.#armHeartbeat();
      this.request({ type: "ping" }, () => {});
      this.#timer = setTimeout(() => {
        if (this.#hasHeard) return this.#armHeartbeat();
        this.#end(CLOSE.abnormal, "the server has fallen silent");
      }, this.#times.pongTimeoutMs);
    }, this.#times.pingIntervalMs);
  }

  /**
   * @param {number} code
   * @param {string} reason
   * @param {number} [retryMs]
   */
  #end(code, reason, retryMs) {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    const socket = this.#socket;
    // A dead peer answers no close frame, so the socket's own end is not waited for.
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {}; // `ws` throws without a listener
    socket.close(CLOSE.normal);
    this.#listener.ended(code, reason, retryMs);
    // After it, so that subscriptions know that the connection is gone, and do not try again on it.
    const lost = new CorewireError("connection_lost", "the connection ended before the answer came");
    for (const id of [...this.#requests.keys()]) this.#answer(id, lost, null);
  }
}

/**
 * @param {unknown} text
 * @returns {any} `undefined` if it is no JSON object
 */
function parse(text) {
  try {
    const value = JSON.parse(/** @type {string} */ (text));
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Errors after which the server itself closes, if they answer the first `connect`. */
const ENDS_CONNECT = new Set(["token_required", "token_invalid", "token_expired", "forbidden"]);

const ID_MAX = 2 ** 32 - 1;

/** @type {Listener} */
const SILENT = { ready() {}, heard() {}, failed() {}, ended() {} };
