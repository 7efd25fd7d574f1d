// What the tests put in the place of the world: a WebSocket that does as it is told, and time that stands still.

import { mock } from "node:test";

import { Client } from "../src/index.js";

/** Every socket that a client has opened, in order. */
export class FakeSocket {
  /** @type {FakeSocket[]} */
  static all = [];
  protocol = "";
  isClosed = false;
  /** Messages of the client, parsed. @type {any[]} */
  sent = [];

  constructor(url, protocols) {
    Object.assign(this, { url, protocols, onopen: null, onmessage: null, onclose: null, onerror: null });
    FakeSocket.all.push(this);
  }

  static get last() {
    return FakeSocket.all.at(-1);
  }

  static get open() {
    return FakeSocket.all.filter((socket) => !socket.isClosed);
  }

  send(text) {
    if (!this.protocol) throw new Error("sent before it was open");
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.isClosed = true;
  }

  // What the other side does.

  opens(protocol = "corewire.v1") {
    this.protocol = protocol;
    this.onopen?.({});
  }

  says(message) {
    this.onmessage?.({ data: typeof message === "string" ? message : JSON.stringify(message) });
  }

  ends(code = 1006, reason = "") {
    this.isClosed = true;
    if (code === 1006) this.onerror?.({});
    this.onclose?.({ code, reason });
  }

  /** As in Node before version 22. */
  failsWithoutClose() {
    this.isClosed = true;
    this.onerror?.({});
  }

  /** Opens and answers `connect`. */
  accepts(ack = {}) {
    this.opens();
    this.acks(this.take("connect"), { connection: "0-1-1", ...ack });
  }

  acks(message, fields = {}) {
    this.says({ type: "ack", id: message.id, ...fields });
  }

  refuses(message, code, fields = {}) {
    this.says({ type: "error", id: message.id, code, message: `no: ${code}`, ...fields });
  }

  /** The first message of this type that has not been taken. */
  take(type) {
    const index = this.sent.findIndex((message) => message.type === type);
    if (index < 0) throw new Error(`the client sent no ${type}, but ${JSON.stringify(this.sent)}`);
    return this.sent.splice(index, 1)[0];
  }
}

/** A client with fake time, and a list of everything that it told. */
export function start(options = {}) {
  FakeSocket.all = [];
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const client = new Client("ws://server/ws", { WebSocket: FakeSocket, ...options });
  const told = [];
  for (const name of ["state", "connected", "disconnected", "error"]) {
    client.on(name, (event) => told.push([name, event]));
  }
  return { client, told };
}

/** A subscription and a list of everything that it told. */
export function listen(subscription) {
  const heard = [];
  for (const name of ["message", "subscribed", "gap", "join", "leave", "unsubscribed", "error"]) {
    subscription.on(name, (event) => heard.push([name, event]));
  }
  return heard;
}

/** Lets everything happen that waits for promises. */
export async function settle() {
  for (let round = 0; round < 20; round++) await Promise.resolve();
}

export async function pass(milliseconds) {
  mock.timers.tick(milliseconds);
  await settle();
}

/** `Math.random` answers this until the end of the test. */
export function fixRandom(value) {
  mock.method(Math, "random", () => value);
}
