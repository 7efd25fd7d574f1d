// A client against a naive server, with connections that are lost at any moment: everything is heard exactly once and
// in order, or the client says that there is a gap, and never when there is none.
// CLIENT_SEED=n repeats one seed, CLIENT_SEEDS=n tries more.

import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";

import { FakeSocket, listen, pass, settle, start } from "./fakes.js";

const SEED_COUNT = Number(process.env.CLIENT_SEEDS ?? 100);
const FIRST_SEED = Number(process.env.CLIENT_SEED ?? Date.now() % 1e9);
const STEP_COUNT = 300;
const TOPICS = ["a", "b:c"];

afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

test(`everything once and in order, or a gap: seeds from ${FIRST_SEED}`, async () => {
  const last = process.env.CLIENT_SEED ? FIRST_SEED : FIRST_SEED + SEED_COUNT - 1;
  for (let seed = FIRST_SEED; seed <= last; seed++) {
    try {
      await run(seed);
    } catch (error) {
      error.message = `CLIENT_SEED=${seed}: ${error.message}`;
      throw error;
    }
  }
});

async function run(seed) {
  const random = generator(seed);
  const pick = (list) => list[Math.floor(random() * list.length)];
  mock.restoreAll();
  mock.method(Math, "random", random);
  const hasToken = random() < 0.5;
  const { client } = start({ token: hasToken ? async () => `${random()}` : undefined });
  const server = new Server(random);
  const ears = TOPICS.map((topic) => new Ear(client, server, topic));
  const steps = {
    publish: () => server.publish(pick(TOPICS)),
    deliver: () => server.deliver(),
    forget: () => random() < 0.1 && server.forget(pick(TOPICS)),
    restart: () => random() < 0.1 && server.restart(),
    lose: () => random() < 0.3 && server.lose(pick([1006, 1012, 4006, hasToken ? 4002 : 1006])),
    end: () => random() < 0.3 && server.endSubscription(pick(TOPICS)),
    refuse: () => (server.isRefusing = random() < 0.2),
    resubscribe: () => random() < 0.2 && pick(ears).resubscribe(),
    pass: () => pass(pick([1, 100, 3000])),
  };
  for (let step = 0; step < STEP_COUNT; step++) {
    await pick([steps.publish, steps.deliver, ...Object.values(steps)])();
    await settle();
  }
  // Peace: all arrives in the end.
  server.isRefusing = false;
  for (let round = 0; round < 100; round++) {
    server.deliver();
    await pass(1000);
  }
  ears.forEach((ear) => ear.check());
  client.close();
}

/** What one subscription hears, held against what was published. */
class Ear {
  constructor(client, server, topic) {
    Object.assign(this, { client, server, topic });
    this.listen();
  }

  listen() {
    this.at = null;
    const subscription = this.client.subscribe(this.topic);
    subscription.on("subscribed", ({ position, replay }) => {
      // Without a gap nothing may be missing: the place stays where it was.
      this.at ??= { epoch: position.epoch, offset: position.offset - replay };
      this.next = { epoch: position.epoch, offset: position.offset - replay };
    });
    subscription.on("gap", () => (this.at = this.next));
    subscription.on("message", ({ offset, data }) => {
      assert.deepEqual(data, { epoch: this.at.epoch, offset }, `after ${JSON.stringify(this.at)}`);
      assert.equal(offset, this.at.offset + 1, "in order, none missing, none twice");
      this.at = { epoch: this.at.epoch, offset };
    });
    this.heard = listen(subscription);
    this.subscription = subscription;
  }

  resubscribe() {
    this.subscription.unsubscribe();
    this.listen();
  }

  check() {
    assert.equal(this.client.state, "connected");
    assert.equal(this.subscription.state, "subscribed");
    const { epoch, published } = this.server.topics[this.topic];
    assert.deepEqual(this.at, { epoch, offset: published });
    const gaps = this.heard.filter(([name]) => name === "gap").length;
    const fails = this.heard.filter(([name, event]) => name === "subscribed" && event.recovered === false).length;
    assert.equal(gaps, fails);
    assert.ok(gaps <= this.server.unrecovered[this.topic], `${gaps} gaps, without need`);
  }
}

/** As naive as can be: what it says waits in a list until it is delivered, or the connection is lost. */
class Server {
  isRefusing = false;
  epochs = 0;
  /** How often it was asked for more than it has. */
  unrecovered = Object.fromEntries(TOPICS.map((topic) => [topic, 0]));
  topics = {};
  /** Of the newest socket: names that are subscribed to, and what is on its way to it. */
  socket = null;
  subscribed = new Set();
  outbox = [];

  constructor(random) {
    this.random = random;
    this.restart();
  }

  restart() {
    for (const topic of TOPICS) this.topics[topic] = { epoch: `e${++this.epochs}`, published: 0, forgotten: 0 };
    this.lose(1006);
  }

  /** Its history is gone. */
  forget(topic) {
    this.topics[topic].forgotten = this.topics[topic].published;
  }

  publish(topic) {
    const { epoch } = this.topics[topic];
    const offset = ++this.topics[topic].published;
    if (this.subscribed.has(topic)) this.outbox.push({ type: "message", topic, offset, data: { epoch, offset } });
  }

  lose(code) {
    if (this.socket) this.socket.ends(code);
    [this.socket, this.outbox] = [null, []];
    this.subscribed.clear();
  }

  endSubscription(topic) {
    if (!this.subscribed.delete(topic)) return;
    this.outbox.push({ type: "unsubscribe", topic, code: "unavailable", reason: "lost" });
  }

  /** Reads everything, and lets some of what waits arrive. */
  deliver() {
    if (this.socket !== FakeSocket.last || this.socket?.isClosed) {
      [this.socket, this.outbox] = [null, []];
      this.subscribed.clear();
      if (!FakeSocket.last || FakeSocket.last.isClosed) return;
      this.socket = FakeSocket.last;
      this.socket.opens();
    }
    for (const message of this.socket.sent.splice(0)) this.answer(message);
    const count = Math.ceil(this.random() * this.outbox.length);
    const { socket } = this;
    for (const message of this.outbox.splice(0, count)) socket.says(message);
  }

  answer(message) {
    const { id, topic } = message;
    const ack = (fields) => this.outbox.push({ type: "ack", id, ...fields });
    const refuse = (code) => this.outbox.push({ type: "error", id, code, message: code });
    switch (message.type) {
      case "connect":
        return ack({ connection: "0-1-1", user: message.token && "ada", expires_in: message.token && 40 });
      case "unsubscribe":
        return this.subscribed.delete(topic) ? ack({}) : refuse("not_subscribed");
      case "subscribe":
        if (this.subscribed.has(topic)) throw new Error(`${topic} is subscribed to twice`);
        return this.isRefusing ? refuse("unavailable") : this.subscribe(message, ack);
      default:
        return ack({});
    }
  }

  subscribe({ topic, recover }, ack) {
    const { epoch, published, forgotten } = this.topics[topic];
    const isWhole = recover?.epoch === epoch && recover.offset >= forgotten;
    if (recover && !isWhole) this.unrecovered[topic]++;
    const from = recover === undefined ? published : isWhole ? recover.offset : forgotten;
    ack({ epoch, offset: published, replay: published - from, recovered: recover && isWhole });
    for (let offset = from + 1; offset <= published; offset++) {
      this.outbox.push({ type: "message", topic, offset, data: { epoch, offset } });
    }
    this.subscribed.add(topic);
  }
}

/** Numbers that look random, always the same for one seed (mulberry32). */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
