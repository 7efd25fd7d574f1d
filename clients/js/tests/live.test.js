// The client against the real server, through a proxy that cuts connections.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";

import { listen } from "./fakes.js";
import { connect, numbers, of, options, proxy, Server, until } from "./server.js";

test("what is published is heard, with its place and key", options, async () => {
  const server = await Server.start();
  const client = connect(server.url);
  const topic = client.subscribe("chat:room1");
  const pattern = client.subscribe("chat:*");
  const [heard, byPattern] = [topic, pattern].map(listen);
  await Promise.all([topic.ready, pattern.ready]);
  const data = { text: "Grüße 🌍", list: [1, null, true] };
  const place = await client.publish("chat:room1", data, { key: "k" });
  assert.equal(place.offset, 1);
  assert.match(place.epoch, /^[0-9a-f]{16}$/);
  await until("it is heard", () => of(heard, "message").length && of(byPattern, "message").length);
  const message = { topic: "chat:room1", offset: 1, data, key: "k", user: undefined };
  assert.deepEqual([of(heard, "message"), of(byPattern, "message")], [[message], [message]]);
  client.publishUnacked("chat:room1", 2);
  await until("the second is heard", () => of(heard, "message").length === 2);
  assert.deepEqual(topic.position, { epoch: place.epoch, offset: 2 });
  topic.unsubscribe();
  await client.publish("chat:room1", 3);
  await until("the pattern hears it", () => of(byPattern, "message").length === 3);
  assert.equal(of(heard, "message").length, 2);
});

test("refusals have the server's codes", options, async () => {
  const server = await Server.start();
  const client = connect(server.url);
  await assert.rejects(client.publish("a::b", 1), { code: "bad_topic" });
  await assert.rejects(client.publish("a", "x".repeat(70_000)), { code: "data_too_big" });
  await assert.rejects(client.presence("a"), { code: "presence_disabled" });
  await assert.rejects(client.subscribe("a:**:b").ready, { code: "bad_topic" });
  await assert.rejects(client.subscribe("a", { presence: true }).ready, { code: "presence_disabled" });
});

test("a token is refused for good where nobody can check it", options, async () => {
  const server = await Server.start();
  const client = connect(server.url, { token: "x.y.z" });
  const { code, retryInMs } = await client.next("disconnected");
  assert.deepEqual([code, retryInMs, client.state], [4001, undefined, "closed"]);
});

test("connections that are cut again and again lose nothing and repeat nothing", options, async () => {
  const COUNT = 400;
  const server = await Server.start();
  const way = await proxy(server);
  const ears = numbers(5).map(() => {
    const subscription = connect(way.url).subscribe("prices:eur");
    return { subscription, heard: listen(subscription) };
  });
  await Promise.all(ears.map(({ subscription }) => subscription.ready));
  const publisher = connect(server.url);
  for (const number of numbers(COUNT)) {
    await publisher.publish("prices:eur", number);
    if (number % 40 === 0) {
      // At most once in forty publications, so that the history of a hundred is enough.
      await until("all are back", () => ears.every(({ subscription }) => subscription.state === "subscribed"));
      way.cut();
    }
    if (number % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  for (const { heard } of ears) {
    await until("all have come", () => of(heard, "message").length >= COUNT);
    assert.deepEqual(of(heard, "message").map(({ data }) => data), numbers(COUNT));
    assert.deepEqual(of(heard, "message").map(({ offset }) => offset), numbers(COUNT));
    assert.deepEqual(of(heard, "gap"), []);
    assert.ok(of(heard, "subscribed").filter(({ recovered }) => recovered).length >= 8, "it was hardly cut");
  }
});

test("who was away for longer than the history is told of a gap", options, async () => {
  const server = await Server.start();
  const way = await proxy(server);
  const client = connect(way.url);
  const subscription = client.subscribe("a");
  const heard = listen(subscription);
  await subscription.ready;
  const publisher = connect(server.url);
  await publisher.publish("a", 1);
  await until("the first", () => of(heard, "message").length === 1);
  client.close();
  for (const number of numbers(150, 2)) await publisher.publish("a", number);
  client.reconnect();
  await until("the gap", () => of(heard, "gap").length === 1);
  await publisher.publish("a", "last");
  await until("the last", () => of(heard, "message").at(-1).data === "last");
  // What there is of history would be no whole: the server sends none of it.
  assert.deepEqual(of(heard, "message").map(({ data }) => data), [1, "last"]);
  assert.equal(subscription.position.offset, 152);
});

test("a server that is killed and started again is found, and its loss is told", options, async () => {
  const server = await Server.start();
  const client = connect(server.url);
  const subscription = client.subscribe("a");
  const heard = listen(subscription);
  const { position } = await subscription.ready;
  for (const number of numbers(10)) await client.publish("a", number);
  await until("ten", () => of(heard, "message").length === 10);
  const disconnected = client.next("disconnected");
  await server.kill();
  assert.equal((await disconnected).code, 1006);
  await server.restart();
  for (const number of numbers(10, 11)) await client.publish("a", number);
  await until("twenty", () => of(heard, "message").length === 20);
  assert.deepEqual(of(heard, "message").map(({ data }) => data), numbers(20));
  assert.deepEqual(of(heard, "message").map(({ offset }) => offset), [...numbers(10), ...numbers(10)]);
  // History lives in the server's memory: nobody can say that nothing is missing.
  assert.equal(of(heard, "gap").length, 1);
  assert.notEqual(subscription.position.epoch, position.epoch);
  const order = heard.map(([name]) => name).filter((name) => name !== "message");
  assert.deepEqual(order, ["subscribed", "subscribed", "gap"]);
});

test("a server that stops is left with 1001 and found again", options, async () => {
  const server = await Server.start("--drain-time", "100ms");
  const client = connect(server.url);
  await client.next("connected");
  const gone = once(server.process, "exit");
  server.process.kill("SIGTERM");
  const { code, retryInMs } = await client.next("disconnected");
  assert.equal(code, 1001);
  assert.ok(retryInMs <= 200);
  await gone;
  // It may be there before we have heard that the server is.
  const connected = client.next("connected");
  await server.restart();
  await connected;
});

test("a server that falls silent is left, and what it said meanwhile is caught up", options, async () => {
  const server = await Server.start();
  // As long as a busy machine may take for an answer, or the server would be left before it is silent.
  const client = connect(server.url, { pingIntervalMs: 1000, pongTimeoutMs: 1000 });
  const subscription = client.subscribe("a");
  const heard = listen(subscription);
  await subscription.ready;
  await client.publish("a", 1);
  await until("the first", () => of(heard, "message").length === 1);
  server.process.kill("SIGSTOP");
  const { reason } = await client.next("disconnected");
  assert.equal(reason, "the server has fallen silent");
  const publisher = connect(server.url);
  const published = publisher.publish("a", 2);
  server.process.kill("SIGCONT");
  await published;
  await until("the second", () => of(heard, "message").length === 2);
  assert.deepEqual(of(heard, "message").map(({ data }) => data), [1, 2]);
  assert.deepEqual(of(heard, "gap"), []);
});
