/**
 * What went wrong with a request, a token or a connection.
 *
 * `code` is for programs. It is one of the server's (`docs/WIRE.md`), or one of the client's own:
 *
 * - `timeout`: there was no answer in time; a publication may have been accepted all the same
 * - `connection_lost`: the connection ended before the answer came; a publication may have been accepted all the same
 * - `not_sent`: nothing was sent, because the client is closed or too much waits already
 * - `token_function`: the application's token function failed
 * - `bad_message`: the server said something that is no message of `corewire.v1`
 * - `unsubscribed`: the application ended the subscription itself
 */
export class CorewireError extends Error {
  /**
   * @param {string} code
   * @param {string} message a sentence for people
   * @param {{ retryMs?: number, cause?: unknown }} [details]
   */
  constructor(code, message, { retryMs, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "CorewireError";
    /** @readonly */
    this.code = code;
    /** When to try again, in milliseconds, if the server said so. @readonly */
    this.retryMs = retryMs;
  }

  /** Whether the same request may succeed later. */
  get isTemporary() {
    return TEMPORARY.has(this.code);
  }
}

const TEMPORARY = new Set(["rate_limited", "unavailable", "internal", "timeout", "connection_lost"]);
