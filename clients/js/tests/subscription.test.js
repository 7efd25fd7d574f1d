import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";

import { FakeSocket, fixRandom, listen, pass, settle, start } from "./fakes.js";

afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

const names = (heard) => heard.map(([name]) => name);
const datas = (heard) => heard.filter(([name]) => name === "message").map(([, { data }]) => data);
const message = (topic, offset, data = offset) => ({ type: "message", topic, offset, data });

/** A connected client with a subscription that has begun. */
function begun(topic = "a", options = {}, ack = { epoch: "e1", offset: 10, replay: 0 }) {
  const { client, told } = start();
  FakeSocket.last.accepts();
  const subscription = client.subscribe(topic, options);
  const heard = listen(subscription);
  FakeSocket.last.acks(FakeSocket.last.take("subscribe"), topic.includes("*") ? {} : ack);
  return { client, told, subscription, heard };
}

/** Loses the connection and makes another; the `subscribe` that comes on it. */
async function again() {
  const lost = FakeSocket.last;
  lost.ends();
  while (FakeSocket.last === lost) await pass(100);
  FakeSocket.last.accepts();
  return FakeSocket.last.take("subscribe");
}

test("begins when there is a connection, and hears what comes after", async () => {
  const { client } = start();
  const subscription = client.subscribe("a", { presence: true });
  const heard = listen(subscription);
  FakeSocket.last.accepts();
  const sent = FakeSocket.last.take("subscribe");
  assert.deepEqual(sent, { type: "subscribe", topic: "a", presence: true, id: sent.id });
  FakeSocket.last.says(message("a", 41)); // of somebody else's pattern: published before this began
  FakeSocket.last.acks(sent, { epoch: "e1", offset: 41, replay: 0 });
  FakeSocket.last.says({ ...message("a", 42, { text: "hello" }), user: "ada", key: "k" });
  const position = { epoch: "e1", offset: 41 };
  assert.deepEqual(heard, [
    ["subscribed", { isFirst: true, recovered: undefined, replay: 0, position }],
    ["message", { topic: "a", offset: 42, data: { text: "hello" }, user: "ada", key: "k" }],
  ]);
  assert.deepEqual((await subscription.ready).position, position);
  assert.deepEqual(subscription.position, { epoch: "e1", offset: 42 });
});

test("asks for what it missed, and says nothing of a gap when it gets it", async () => {
  const { heard } = begun();
  FakeSocket.last.says(message("a", 11));
  const sent = await again();
  assert.deepEqual(sent.recover, { epoch: "e1", offset: 11 });
  FakeSocket.last.acks(sent, { epoch: "e1", offset: 13, recovered: true, replay: 2 });
  for (const offset of [12, 13, 14]) FakeSocket.last.says(message("a", offset));
  assert.deepEqual(names(heard), ["subscribed", "message", "subscribed", "message", "message", "message"]);
  assert.deepEqual(datas(heard), [11, 12, 13, 14]);
  assert.deepEqual(heard[2][1], { isFirst: false, recovered: true, replay: 2, position: { epoch: "e1", offset: 13 } });
});

test("tells of a gap before what comes after it", async () => {
  const { heard } = begun();
  const sent = await again();
  FakeSocket.last.acks(sent, { epoch: "e2", offset: 3, recovered: false, replay: 1 });
  FakeSocket.last.says(message("a", 3));
  assert.deepEqual(names(heard), ["subscribed", "subscribed", "gap", "message"]);
  // From now on it is the new epoch that counts.
  assert.deepEqual((await again()).recover, { epoch: "e2", offset: 3 });
});

test("a loss in the middle of what is replayed loses nothing", async () => {
  const { heard } = begun("a", {}, { epoch: "e1", offset: 10, replay: 1 });
  let sent = await again(); // before the last value came
  assert.deepEqual(sent.recover, { epoch: "e1", offset: 9 });
  FakeSocket.last.acks(sent, { epoch: "e1", offset: 12, recovered: true, replay: 3 });
  FakeSocket.last.says(message("a", 10));
  FakeSocket.last.says(message("a", 11));
  sent = await again();
  assert.deepEqual(sent.recover, { epoch: "e1", offset: 11 });
  FakeSocket.last.acks(sent, { epoch: "e1", offset: 12, recovered: true, replay: 1 });
  FakeSocket.last.says(message("a", 12));
  assert.deepEqual(datas(heard), [10, 11, 12]);
  assert.ok(!names(heard).includes("gap"));
});

test("goes on from an earlier life", () => {
  const { client } = start();
  FakeSocket.last.accepts();
  const heard = listen(client.subscribe("a", { recover: { epoch: "e0", offset: 5 } }));
  const sent = FakeSocket.last.take("subscribe");
  assert.deepEqual(sent.recover, { epoch: "e0", offset: 5 });
  FakeSocket.last.acks(sent, { epoch: "e1", offset: 2, recovered: false, replay: 0 });
  assert.deepEqual(names(heard), ["subscribed", "gap"]);
});

test("a pattern cannot be recovered, so each loss is a gap", async () => {
  const { subscription, heard } = begun("prices:*");
  FakeSocket.last.says(message("prices:eur", 7));
  assert.equal(subscription.position, undefined);
  const sent = await again();
  assert.equal(sent.recover, undefined);
  FakeSocket.last.acks(sent);
  assert.deepEqual(names(heard), ["subscribed", "message", "subscribed", "gap"]);
});

test("a message is for all subscriptions that it fits, a replayed one only for who asked for it", () => {
  const { client, heard } = begun("prices:eur");
  const patterns = ["prices:*", "**", "chat:*"].map((topic) => {
    const subscription = client.subscribe(topic);
    FakeSocket.last.acks(FakeSocket.last.take("subscribe"));
    return listen(subscription);
  });
  FakeSocket.last.says(message("prices:eur", 10)); // replayed: the ack stood at 10
  FakeSocket.last.says(message("prices:eur", 11));
  FakeSocket.last.says(message("prices:usd", 3));
  assert.deepEqual(datas(heard), [10, 11]);
  assert.deepEqual(patterns.map(datas), [[11, 3], [11, 3], []]);
});

test("joins and leaves are told", () => {
  const { heard } = begun("a", { presence: true });
  FakeSocket.last.says({ type: "presence", topic: "a", event: "join", user: "eve", info: { name: "Eve" } });
  FakeSocket.last.says({ type: "presence", topic: "a", event: "leave", user: "eve" });
  FakeSocket.last.says({ type: "presence", topic: "a", event: "dance", user: "eve" }); // of a later version
  assert.deepEqual(heard.slice(1), [["join", { user: "eve", info: { name: "Eve" } }], ["leave", { user: "eve" }]]);
});

test("what the server ends for want of a message begins again, with recovery", async () => {
  fixRandom(0.5);
  const { heard } = begun();
  const lost = { type: "unsubscribe", topic: "a", code: "unavailable", reason: "something was lost on the way" };
  FakeSocket.last.says(lost);
  FakeSocket.last.says(message("a", 99)); // by a pattern, say
  await pass(499);
  assert.deepEqual(FakeSocket.last.sent, []);
  await pass(1);
  const sent = FakeSocket.last.take("subscribe");
  assert.deepEqual(sent.recover, { epoch: "e1", offset: 10 });
  FakeSocket.last.says(lost); // twice: the second is about the one before
  FakeSocket.last.acks(sent, { epoch: "e1", offset: 11, recovered: true, replay: 1 });
  FakeSocket.last.says(message("a", 11));
  assert.deepEqual(names(heard), ["subscribed", "error", "subscribed", "message"]);
});

test("what is refused for now is asked for again, and what is refused is over", async () => {
  fixRandom(0.5);
  const { client } = start();
  FakeSocket.last.accepts();
  const subscription = client.subscribe("a");
  const heard = listen(subscription);
  const refusals = [["unavailable", {}, 500], ["internal", {}, 1000], ["rate_limited", { retry_ms: 9000 }, 9000]];
  for (const [code, fields, pause] of refusals) {
    FakeSocket.last.refuses(FakeSocket.last.take("subscribe"), code, fields);
    await pass(pause - 1);
    assert.deepEqual(FakeSocket.last.sent, [], code);
    await pass(1);
  }
  FakeSocket.last.refuses(FakeSocket.last.take("subscribe"), "forbidden");
  assert.equal(subscription.state, "ended");
  await assert.rejects(subscription.ready, { code: "forbidden" });
  assert.deepEqual(names(heard), ["error", "error", "error", "unsubscribed"]);
  assert.deepEqual(heard.at(-1)[1], { code: "forbidden", reason: "no: forbidden" });
  assert.equal(client.subscription("a"), undefined);
});

test("every final code ends it, and nobody who does not ask is bothered by the promise", () => {
  const codes = ["bad_topic", "unknown_namespace", "too_many_subscriptions", "not_recoverable", "presence_disabled"];
  for (const code of [...codes, "token_required", "token_invalid", "token_expired", "of_a_later_version"]) {
    const { client } = start();
    FakeSocket.last.accepts();
    const subscription = client.subscribe("a");
    FakeSocket.last.refuses(FakeSocket.last.take("subscribe"), code);
    assert.equal(subscription.state, "ended", code);
  }
});

test("topics have tokens of their own, renewed when the server says so", async () => {
  let count = 0;
  const { client } = start();
  FakeSocket.last.accepts();
  const heard = listen(client.subscribe("a", { token: async (topic) => `${topic}${++count}` }));
  await settle();
  const sent = FakeSocket.last.take("subscribe");
  assert.equal(sent.token, "a1");
  FakeSocket.last.acks(sent, { epoch: "e1", offset: 1, replay: 0 });
  FakeSocket.last.says({ type: "unsubscribe", topic: "a", code: "token_expired", reason: "expired" });
  await pass(1000);
  const renewed = FakeSocket.last.take("subscribe");
  assert.deepEqual([renewed.token, renewed.recover], ["a2", { epoch: "e1", offset: 1 }]);
  FakeSocket.last.refuses(renewed, "token_invalid");
  await pass(2000);
  assert.equal(FakeSocket.last.take("subscribe").token, "a3");
  assert.deepEqual(names(heard), ["subscribed", "error", "error"]);
});

test("a topic's token that was refused is not shown again", async () => {
  const { client } = start();
  FakeSocket.last.accepts();
  const heard = listen(client.subscribe("a", { token: () => "same" }));
  await settle();
  FakeSocket.last.refuses(FakeSocket.last.take("subscribe"), "token_invalid");
  await pass(2000);
  assert.deepEqual(FakeSocket.last.sent, []);
  assert.deepEqual(names(heard), ["error", "unsubscribed"]);
});

test("a token function that fails is asked again", async () => {
  let isUp = false;
  const { client } = start();
  FakeSocket.last.accepts();
  const token = () => (isUp ? "T" : Promise.reject(new Error("down")));
  const heard = listen(client.subscribe("a", { token }));
  await settle();
  assert.equal(heard[0][1].code, "token_function");
  isUp = true;
  await pass(2000);
  assert.equal(FakeSocket.last.take("subscribe").token, "T");
});

// ---- the end, at every moment -----------------------------------------------------------------------------------

const MOMENTS = {
  "without a connection": async () => start().client.subscribe("a"),
  "while a token is asked for": async () => {
    const { client } = start();
    FakeSocket.last.accepts();
    return client.subscribe("a", { token: () => new Promise(() => {}) });
  },
  "before the answer": async () => {
    const { client } = start();
    FakeSocket.last.accepts();
    return client.subscribe("a");
  },
  "when it has begun": async () => begun().subscription,
  "while it waits to begin again": async () => {
    const { subscription } = begun();
    FakeSocket.last.says({ type: "unsubscribe", topic: "a", code: "unavailable", reason: "" });
    return subscription;
  },
  "after it was refused": async () => {
    const { client } = start();
    FakeSocket.last.accepts();
    const subscription = client.subscribe("a");
    FakeSocket.last.refuses(FakeSocket.last.take("subscribe"), "forbidden");
    return subscription;
  },
};

for (const [moment, bring] of Object.entries(MOMENTS)) {
  test(`unsubscribed ${moment}`, async () => {
    const subscription = await bring();
    const heard = listen(subscription);
    const isKnown = ["before the answer", "when it has begun"].includes(moment);
    const asked = FakeSocket.last.sent.find(({ type }) => type === "subscribe");
    subscription.unsubscribe();
    subscription.unsubscribe();
    assert.equal(subscription.state, "ended");
    if (isKnown) assert.equal(FakeSocket.last.take("unsubscribe").topic, "a");
    assert.ok(!FakeSocket.last.sent.some(({ type }) => type === "unsubscribe"));
    if (asked) FakeSocket.last.acks(asked, { epoch: "e", offset: 1, replay: 0 });
    FakeSocket.last.says(message("a", 11));
    FakeSocket.last.ends();
    await pass(1000);
    FakeSocket.last.accepts();
    await pass(60_000);
    assert.ok(!FakeSocket.last.sent.some(({ type }) => type === "subscribe"), "it came back");
    assert.deepEqual(heard, []);
  });
}

test("a new one of the same name hears nothing of the old one", () => {
  const { client, subscription, heard } = begun();
  subscription.unsubscribe();
  const next = listen(client.subscribe("a"));
  FakeSocket.last.says(message("a", 11)); // was on its way
  FakeSocket.last.says({ type: "unsubscribe", topic: "a", code: "unavailable", reason: "of the old one" });
  FakeSocket.last.acks(FakeSocket.last.take("unsubscribe"));
  FakeSocket.last.acks(FakeSocket.last.take("subscribe"), { epoch: "e1", offset: 11, replay: 0 });
  FakeSocket.last.says(message("a", 12));
  assert.deepEqual([datas(heard), datas(next)], [[], [12]]);
  assert.deepEqual(names(next), ["subscribed", "message"]);
});

test("close keeps subscriptions for a reconnection", async () => {
  const { client, heard } = begun();
  client.close();
  await pass(60_000);
  client.reconnect();
  FakeSocket.last.accepts();
  assert.deepEqual(FakeSocket.last.take("subscribe").recover, { epoch: "e1", offset: 10 });
  assert.deepEqual(names(heard), ["subscribed"]);
});
