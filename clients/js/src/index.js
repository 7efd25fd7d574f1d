// A client for `corewire serve`, in its subprotocol `corewire.v1`. Plain ES modules without dependencies: what stands
// here runs as it is in browsers, Node and Bun.

export { Client } from "./client.js";
export { CorewireError } from "./errors.js";
export { Subscription } from "./subscription.js";

/** @typedef {import("./client.js").ClientOptions} ClientOptions */
/** @typedef {import("./client.js").Member} Member */
/** @typedef {import("./client.js").State} State */
/** @typedef {import("./subscription.js").Begun} Begun */
/** @typedef {import("./subscription.js").Message} Message */
/** @typedef {import("./subscription.js").Position} Position */
/** @typedef {import("./subscription.js").SubscriptionOptions} SubscriptionOptions */
