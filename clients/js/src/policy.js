// What follows from the end of a connection, and how long the client waits. Decides; does nothing.

/**
 * - `retry`: connect again
 * - `retry-later`: connect again, but never soon
 * - `new-token`: connect again with another token, if the application has one
 * - `final`: the server does not want this client
 *
 * @typedef {"retry" | "retry-later" | "new-token" | "final"} AfterClose
 */

/**
 * What a close code asks of a client (`docs/WIRE.md`, "Close codes").
 *
 * @param {number} code
 * @returns {AfterClose}
 */
export function afterClose(code) {
  switch (code) {
    case CLOSE.tokenRefused:
    case CLOSE.tokenExpired:
      return "new-token";
    case CLOSE.disconnected:
      return "final";
    case CLOSE.tooManyConnections:
    case CLOSE.tooManyMessages:
    case CLOSE.serverFull:
      return "retry-later";
    default:
      return "retry";
  }
}

/**
 * The pause before an attempt, in milliseconds: random, so that the clients of a server that has restarted do not come
 * back all at once, and within a bound that doubles from attempt to attempt.
 *
 * @param {number} attempt counted from zero
 * @param {{ firstMs: number, maxMs: number }} bounds
 * @param {boolean} [isLater] whether half of the bound is waited for in any case
 */
export function pauseMs(attempt, { firstMs, maxMs }, isLater = false) {
  const bound = Math.min(maxMs, firstMs * 2 ** Math.min(attempt, 30));
  return isLater ? bound / 2 + (Math.random() * bound) / 2 : Math.random() * bound;
}

/**
 * When to ask for a newer token, in milliseconds from now: 30 seconds before the end, or at three quarters of a short
 * time.
 *
 * @param {number} expiresInSeconds
 */
export function refreshMs(expiresInSeconds) {
  const lead = Math.min(30, expiresInSeconds / 4);
  // No timer of JavaScript holds more. Asking earlier does no harm.
  return Math.min((expiresInSeconds - lead) * 1000, 2 ** 31 - 1);
}

/**
 * Whether a pattern matches a topic: `*` is one segment, `**` at the end is all that follow, at least one.
 *
 * @param {string} pattern
 * @param {string} topic
 */
export function matches(pattern, topic) {
  const wanted = pattern.split(":");
  const segments = topic.split(":");
  const hasTail = wanted.at(-1) === "**";
  if (hasTail ? segments.length < wanted.length : segments.length !== wanted.length) return false;
  return wanted.every((want, index) => want === "*" || want === segments[index] || (want === "**" && hasTail));
}

export const CLOSE = {
  normal: 1000,
  /** Never sent: the connection ended without a close frame (RFC 6455, section 7.4.1). */
  abnormal: 1006,
  serverFull: 1013,
  tokenRefused: 4001,
  tokenExpired: 4002,
  disconnected: 4003,
  tooManyConnections: 4004,
  tooManyMessages: 4005,
};

/** From which attempt on `retry-later` counts. */
export const LATER_ATTEMPT = 3;

/** A connection that has held so long was a good one: the next pause is a short one again. */
export const STABLE_MS = 10_000;
