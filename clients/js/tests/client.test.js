import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";

import { Client } from "../src/index.js";
import { FakeSocket, fixRandom, listen, pass, settle, start } from "./fakes.js";

afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

const names = (told) => told.map(([name]) => name);
const states = (told) => told.filter(([name]) => name === "state").map(([, { state }]) => state);

// ---- every event in every state -------------------------------------------------------------------------------

const token = async () => "T";

/** How a client is brought into each state. */
const STATES = {
  "asking for a token": async () => start({ token: () => new Promise(() => {}) }),
  opening: async () => start(),
  "awaiting the answer to connect": async () => {
    const given = start({ token });
    await settle();
    FakeSocket.last.opens();
    return given;
  },
  connected: async () => {
    const given = start({ token });
    await settle();
    FakeSocket.last.accepts();
    return given;
  },
  waiting: async () => {
    const given = start();
    FakeSocket.last.ends();
    return given;
  },
  closed: async () => {
    const given = start();
    given.client.close();
    return given;
  },
};

/** What may happen, and the state after it, by the state before it. */
const ALL = Object.keys(STATES);
const same = (state) => Object.fromEntries(ALL.map((name) => [name, state]));
const UNCHANGED = {
  "asking for a token": "connecting",
  opening: "connecting",
  "awaiting the answer to connect": "connecting",
  connected: "connected",
  waiting: "waiting",
  closed: "closed",
};
/** In these there is a socket that can end. */
const ends = (state) => ({ ...UNCHANGED, opening: state, "awaiting the answer to connect": state, connected: state });

const EVENTS = {
  "close()": [({ client }) => client.close(), same("closed")],
  "reconnect()": [({ client }) => client.reconnect(), { ...UNCHANGED, waiting: "connecting", closed: "connecting" }],
  "the end without a close frame": [() => FakeSocket.last?.ends(1006), ends("waiting")],
  "an error without an end": [() => FakeSocket.last?.failsWithoutClose(), ends("waiting")],
  "close 1001": [() => FakeSocket.last?.ends(1001), ends("waiting")],
  "close 1012": [() => FakeSocket.last?.ends(1012), ends("waiting")],
  "close 1013": [() => FakeSocket.last?.ends(1013), ends("waiting")],
  "close 4000": [() => FakeSocket.last?.ends(4000), ends("waiting")],
  // The state `opening` was made without a token function: nobody can be asked for another.
  "close 4001": [() => FakeSocket.last?.ends(4001), { ...ends("waiting"), opening: "closed" }],
  "close 4002": [() => FakeSocket.last?.ends(4002), { ...ends("waiting"), opening: "closed" }],
  "close 4003": [() => FakeSocket.last?.ends(4003), ends("closed")],
  "close 4004": [() => FakeSocket.last?.ends(4004), ends("waiting")],
  "close 4005": [() => FakeSocket.last?.ends(4005), ends("waiting")],
  "close 4006": [() => FakeSocket.last?.ends(4006), ends("waiting")],
  "no JSON": [() => FakeSocket.last?.says("{"), ends("waiting")],
  "JSON that is no object": [() => FakeSocket.last?.says("17"), ends("waiting")],
  "a message of a later version": [() => FakeSocket.last?.says({ type: "news", topic: "a" }), UNCHANGED],
  "a message for nobody": [() => FakeSocket.last?.says({ type: "message", topic: "a", offset: 1, data: 1 }), UNCHANGED],
  "an ack for nobody": [() => FakeSocket.last?.says({ type: "ack", id: 4711 }), UNCHANGED],
  "an error without id": [
    () => FakeSocket.last?.says({ type: "error", code: "bad_json", message: "no" }),
    UNCHANGED,
  ],
  "five seconds": [() => pass(5000), { ...UNCHANGED, waiting: "connecting" }],
  "ten seconds": [
    () => pass(10_000),
    { ...ends("waiting"), "asking for a token": "waiting", connected: "connected", waiting: "connecting" },
  ],
};

for (const state of ALL) {
  for (const [event, [happen, after]] of Object.entries(EVENTS)) {
    test(`${state}: ${event}`, async () => {
      fixRandom(0.5);
      const given = await STATES[state]();
      assert.equal(given.client.state, UNCHANGED[state]);
      await happen(given);
      await settle();
      assert.equal(given.client.state, after[state]);
      // Whatever happened: never two sockets, none when there should be none, and each change is told once.
      const open = FakeSocket.open.length;
      assert.ok(open <= (["connecting", "connected"].includes(given.client.state) ? 1 : 0), `${open} sockets`);
      const told = states(given.told);
      assert.ok(told.every((name, index) => name !== told[index - 1]), told.join());
      if (after[state] !== UNCHANGED[state]) assert.equal(told.at(-1), after[state]);
      // And it can still be ended, for good.
      given.client.close();
      await pass(600_000);
      assert.equal(given.client.state, "closed");
      assert.equal(FakeSocket.open.length, 0);
    });
  }
}

// ---- connecting -----------------------------------------------------------------------------------------------

test("connects anonymously, with the subprotocol", () => {
  const { client, told } = start();
  assert.deepEqual(FakeSocket.last.protocols, ["corewire.v1"]);
  assert.equal(FakeSocket.last.url, "ws://server/ws");
  FakeSocket.last.opens();
  assert.deepEqual(FakeSocket.last.sent, [{ type: "connect", id: 1 }]);
  FakeSocket.last.acks({ id: 1 }, { connection: "0-18-1" });
  assert.equal(client.user, undefined);
  assert.deepEqual(told.at(-1), ["connected", { connection: "0-18-1", user: undefined }]);
});

test("another server at the address is none", () => {
  const { client, told } = start();
  FakeSocket.last.opens("");
  assert.equal(client.state, "waiting");
  assert.match(told.at(-1)[1].reason, /does not speak corewire.v1/);
});

test("URLs and platforms that cannot work are refused at once", () => {
  assert.throws(() => new Client("http://server/ws", { WebSocket: FakeSocket }), /ws:\/\/ or wss:\/\//);
  const { WebSocket } = globalThis;
  Object.defineProperty(globalThis, "WebSocket", { value: undefined, configurable: true, writable: true });
  assert.throws(() => new Client("ws://server/ws"), /no WebSocket/);
  Object.defineProperty(globalThis, "WebSocket", { value: WebSocket, configurable: true, writable: true });
});

test("a server that is not there is asked with growing pauses", async () => {
  fixRandom(0.5);
  const { told } = start();
  for (let attempt = 0; attempt < 8; attempt++) {
    FakeSocket.last.ends();
    const { retryInMs } = told.at(-1)[1];
    await pass(retryInMs - 1);
    assert.equal(FakeSocket.all.length, attempt + 1);
    await pass(1);
    assert.equal(FakeSocket.all.length, attempt + 2);
  }
  const pauses = told.filter(([name]) => name === "disconnected").map(([, event]) => event.retryInMs);
  assert.deepEqual(pauses, [500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
});

test("only a connection that held makes the pauses short again", async () => {
  fixRandom(0.5);
  const { told } = start();
  const lose = async (heldMs) => {
    FakeSocket.last.accepts();
    await pass(heldMs);
    FakeSocket.last.ends();
    const { retryInMs } = told.at(-1)[1];
    await pass(retryInMs);
    return retryInMs;
  };
  assert.deepEqual([await lose(0), await lose(9999), await lose(0)], [500, 1000, 2000]);
  assert.deepEqual([await lose(10_000), await lose(0)], [500, 1000]);
});

test("who is told to come later does", async () => {
  fixRandom(0);
  for (const code of [1013, 4004, 4005]) {
    const { told } = start();
    FakeSocket.last.ends(code);
    assert.equal(told.at(-1)[1].retryInMs, 4000);
  }
});

test("the server's own pause is kept", () => {
  fixRandom(0);
  const { told } = start();
  FakeSocket.last.opens();
  FakeSocket.last.refuses({ id: 1 }, "rate_limited", { retry_ms: 7000 });
  assert.equal(told.at(-1)[1].retryInMs, 7000);
  assert.equal(FakeSocket.open.length, 0);
});

test("a page that is online again does not wait", async () => {
  const target = new EventTarget();
  for (const name of ["addEventListener", "removeEventListener"]) globalThis[name] = target[name].bind(target);
  try {
    const { client } = start();
    FakeSocket.last.ends();
    target.dispatchEvent(new Event("online"));
    assert.equal(FakeSocket.all.length, 2);
    client.close();
    target.dispatchEvent(new Event("online"));
    assert.equal(FakeSocket.all.length, 2);
  } finally {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  }
});

test("listeners may do anything, and one that fails harms nobody", async () => {
  const failures = [];
  mock.method(globalThis, "queueMicrotask", (task) => {
    assert.throws(task);
    failures.push(task);
  });
  const { client, told } = start();
  client.on("state", () => {
    throw new Error("of the application");
  });
  client.on("state", ({ state }) => state === "connected" && client.close());
  FakeSocket.last.accepts();
  assert.equal(client.state, "closed");
  assert.equal(failures.length, 2);
  assert.deepEqual(names(told), ["state", "state", "disconnected"]);
});

// ---- tokens ---------------------------------------------------------------------------------------------------

test("a token is asked for before each connection", async () => {
  let count = 0;
  const { client } = start({ token: async () => `T${++count}` });
  assert.equal(FakeSocket.all.length, 0);
  await settle();
  FakeSocket.last.accepts({ user: "ada" });
  assert.equal(client.user, "ada");
  FakeSocket.last.ends();
  assert.equal(client.user, undefined);
  await pass(1000);
  FakeSocket.last.opens();
  assert.equal(FakeSocket.last.take("connect").token, "T2");
});

test("a token function that fails, throws or never answers is asked again", async () => {
  const throwing = () => {
    throw new Error("down");
  };
  for (const failing of [() => Promise.reject(new Error("down")), throwing, () => new Promise(() => {})]) {
    let isUp = false;
    const { client, told } = start({ token: () => (isUp ? "T" : failing()) });
    await settle();
    await pass(10_000);
    assert.equal(told.find(([name]) => name === "error")[1].code, "token_function");
    assert.equal(FakeSocket.all.length, 0);
    isUp = true;
    while (FakeSocket.all.length === 0) await pass(1000);
    FakeSocket.last.accepts();
    assert.equal(client.state, "connected");
  }
});

test("a refused token is not shown again", async () => {
  let current = "old";
  const { client, told } = start({ token: () => current });
  await settle();
  FakeSocket.last.opens();
  FakeSocket.last.refuses(FakeSocket.last.take("connect"), "token_invalid");
  FakeSocket.last.ends(4001, "token refused");
  assert.deepEqual(told.at(-1)[1].reason, "no: token_invalid");
  current = "new";
  await pass(1000);
  FakeSocket.last.opens();
  assert.equal(FakeSocket.last.take("connect").token, "new");
  FakeSocket.last.ends(4001, "token refused");
  await pass(30_000);
  assert.equal(client.state, "closed");
  assert.equal(FakeSocket.all.length, 2);
  // After somebody has logged in, it is shown again.
  client.reconnect();
  await settle();
  assert.equal(client.state, "connecting");
  assert.equal(FakeSocket.all.length, 3);
});

test("a token that was good is shown once more when the server wants a newer one", async () => {
  const { client } = start({ token: () => "T" });
  await settle();
  FakeSocket.last.accepts();
  FakeSocket.last.ends(4002, "token expired");
  await pass(1000);
  FakeSocket.last.opens();
  assert.equal(FakeSocket.last.take("connect").token, "T");
  FakeSocket.last.ends(4002, "token expired");
  await pass(2000);
  assert.equal(client.state, "closed");
});

test("a token is renewed before it expires, on the same connection", async () => {
  let count = 0;
  const { told } = start({ token: async () => `T${++count}` });
  await settle();
  const socket = FakeSocket.last;
  socket.accepts({ user: "ada", expires_in: 630 });
  await pass(25_000); // one ping is due
  socket.acks(socket.take("ping"));
  for (let minute = 1; minute < 10; minute++) await pass(60_000).then(() => socket.says({ type: "news" }));
  assert.equal(socket.sent.filter(({ type }) => type === "connect").length, 0);
  await pass(35_000);
  const renewal = socket.take("connect");
  assert.equal(renewal.token, "T2");
  socket.acks(renewal, { user: "ada", expires_in: 100 });
  assert.equal(names(told).filter((name) => name === "connected").length, 1);
  await pass(75_000);
  assert.equal(socket.take("connect").token, "T3");
});

test("a renewal that fails is tried again, until the server closes", async () => {
  fixRandom(0.5);
  let answer = () => "T1";
  const { client, told } = start({ token: () => answer(), pingIntervalMs: 1e9 });
  await settle();
  const socket = FakeSocket.last;
  socket.accepts({ expires_in: 100 });
  answer = () => Promise.reject(new Error("down"));
  await pass(75_000);
  assert.equal(told.at(-1)[1].code, "token_function");
  answer = () => "T2";
  await pass(750);
  socket.refuses(socket.take("connect"), "token_invalid");
  await pass(1500);
  assert.equal(socket.take("connect").token, "T2");
  assert.equal(client.state, "connected");
  socket.ends(4002, "token expired");
  await pass(1000);
  FakeSocket.last.accepts();
  assert.equal(client.state, "connected");
});

// ---- heartbeats -----------------------------------------------------------------------------------------------

test("who says something is not asked for a sign of life", async () => {
  start();
  FakeSocket.last.accepts();
  for (let round = 0; round < 10; round++) {
    await pass(20_000);
    FakeSocket.last.says({ type: "message", topic: "a", offset: 1, data: 1 });
  }
  assert.deepEqual(FakeSocket.last.sent, []);
});

test("a silent server is asked, and left if it does not answer", async () => {
  const { client, told } = start();
  const socket = FakeSocket.last;
  socket.accepts();
  for (let round = 0; round < 3; round++) {
    await pass(25_000);
    socket.acks(socket.take("ping"));
    await pass(10_000);
    assert.equal(client.state, "connected");
  }
  await pass(25_000);
  await pass(10_000);
  assert.equal(client.state, "waiting");
  assert.deepEqual([told.at(-1)[1].code, told.at(-1)[1].reason], [1006, "the server has fallen silent"]);
  assert.ok(socket.isClosed);
  socket.ends(1006); // late, as browsers do it
  assert.equal(names(told).filter((name) => name === "disconnected").length, 1);
});

// ---- requests -------------------------------------------------------------------------------------------------

test("a publication is answered with its place", async () => {
  const { client } = start();
  FakeSocket.last.accepts();
  const published = client.publish("a", { x: 1 }, { key: "k" });
  const message = FakeSocket.last.take("publish");
  assert.deepEqual(message, { type: "publish", topic: "a", key: "k", data: { x: 1 }, id: message.id });
  FakeSocket.last.acks(message, { epoch: "e", offset: 7 });
  assert.deepEqual(await published, { epoch: "e", offset: 7 });
});

test("a refusal is an error with the server's code", async () => {
  const { client, told } = start();
  FakeSocket.last.accepts();
  const published = client.publish("a", null);
  FakeSocket.last.refuses(FakeSocket.last.take("publish"), "rate_limited", { retry_ms: 64 });
  await assert.rejects(published, { code: "rate_limited", message: "no: rate_limited", retryMs: 64 });
  assert.ok(!names(told).includes("error"));
});

test("requests wait for a connection, in order, and not for ever", async () => {
  const { client } = start();
  const one = client.publish("a", 1);
  const two = client.presence("a");
  await pass(9000);
  FakeSocket.last.accepts();
  assert.deepEqual(FakeSocket.last.sent.map(({ type }) => type), ["publish", "presence"]);
  const { id } = FakeSocket.last.take("presence");
  FakeSocket.last.says({ type: "presence", id, topic: "a", members: [{ user: "u" }] });
  assert.deepEqual(await two, [{ user: "u" }]);
  mock.timers.tick(1000);
  await assert.rejects(one, { code: "timeout" });
  FakeSocket.last.ends();
  const three = client.publish("a", 3);
  mock.timers.tick(10_000);
  await assert.rejects(three, { code: "not_sent" });
  await settle();
  FakeSocket.last.accepts();
  assert.deepEqual(FakeSocket.last.sent, []);
});

test("so many may wait and no more", async () => {
  const { client } = start();
  const waiting = Array.from({ length: 1000 }, () => client.publish("a", 1));
  await assert.rejects(client.publish("a", 1), { code: "not_sent", message: /1000 requests wait/ });
  client.close();
  for (const one of waiting) await assert.rejects(one, { code: "not_sent" });
  await assert.rejects(client.publish("a", 1), { code: "not_sent" });
});

test("what was on its way when the connection was lost is not sent again", async () => {
  const { client } = start();
  FakeSocket.last.accepts();
  const published = client.publish("a", 1);
  FakeSocket.last.ends();
  await assert.rejects(published, { code: "connection_lost" });
  await pass(1000);
  FakeSocket.last.accepts();
  assert.deepEqual(FakeSocket.last.sent, []);
});

test("without an ack nothing is kept, and refusals are told", () => {
  const { client, told } = start();
  assert.equal(client.publishUnacked("a", 1), false);
  FakeSocket.last.accepts();
  assert.equal(client.publishUnacked("a", [1, 2], { key: "k" }), true);
  assert.deepEqual(FakeSocket.last.sent, [{ type: "publish", topic: "a", key: "k", data: [1, 2] }]);
  FakeSocket.last.says({ type: "error", code: "forbidden", message: "no" });
  assert.equal(told.at(-1)[1].code, "forbidden");
});

test("what JSON cannot say is not published", async () => {
  const { client } = start();
  for (const data of [undefined, () => {}, Symbol("x")]) {
    await assert.rejects(client.publish("a", data), TypeError);
    assert.throws(() => client.publishUnacked("a", data), TypeError);
  }
});

test("a topic is subscribed to once", () => {
  const { client } = start();
  const subscription = client.subscribe("a");
  assert.throws(() => client.subscribe("a"), /subscribed to already/);
  assert.equal(client.subscription("a"), subscription);
  listen(subscription);
  subscription.unsubscribe();
  assert.equal(client.subscription("a"), undefined);
  assert.notEqual(client.subscribe("a"), subscription);
});
