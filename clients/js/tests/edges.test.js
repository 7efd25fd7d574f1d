// What applications do at the wrong moment: in listeners, without a connection, with what JSON cannot say.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { afterEach, mock, test } from "node:test";

import { FakeSocket, pass, settle, start } from "./fakes.js";

afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

test("what JSON cannot say is refused at once, without a connection too, and harms nothing else", async () => {
  const { client, told } = start();
  const circle = {};
  circle.circle = circle;
  await assert.rejects(client.publish("a", 1n), TypeError);
  await assert.rejects(client.publish("a", circle), TypeError);
  const good = client.publish("a", 2);
  FakeSocket.last.accepts();
  await assert.rejects(client.publish("a", 1n), TypeError);
  FakeSocket.last.acks(FakeSocket.last.take("publish"), { epoch: "e", offset: 1 });
  assert.deepEqual(await good, { epoch: "e", offset: 1 });
  assert.equal(told.at(-1)[0], "connected");
});

test("what waits for a connection is sent as it was when it was published", () => {
  const { client } = start();
  const data = { n: 1 };
  client.publish("a", data);
  data.n = 2;
  FakeSocket.last.accepts();
  assert.equal(FakeSocket.last.take("publish").data.n, 1);
});

test("a listener to `state` can subscribe, and publishes after what has waited", () => {
  const { client } = start();
  client.publish("a", 1);
  client.on("state", ({ state }) => {
    if (state !== "connected") return;
    client.subscribe("a");
    client.publish("a", 2);
  });
  FakeSocket.last.accepts();
  const sent = FakeSocket.last.sent.map(({ type, data }) => [type, data]);
  assert.deepEqual(sent, [["publish", 1], ["subscribe", undefined], ["publish", 2]]);
});

test("a listener to `state` that closes and begins anew has one connection", () => {
  const { client } = start();
  FakeSocket.last.ends();
  const off = client.on("state", () => {
    off();
    client.close();
    client.reconnect();
  });
  client.reconnect();
  assert.equal(FakeSocket.open.length, 1);
});

test("after close() no token is waited for, and Node may end", async () => {
  const { client, told } = start({ token: () => new Promise(() => {}) });
  client.close();
  client.reconnect();
  await pass(9999);
  assert.equal(client.state, "connecting");
  await pass(1);
  await settle();
  assert.equal(told.filter(([name]) => name === "error").length, 1);

  const index = JSON.stringify(new URL("../src/index.js", import.meta.url));
  const program = `import { Client } from ${index};
    const token = () => new Promise(() => {});
    new Client("ws://server/ws", { token, connectTimeoutMs: 60_000, WebSocket: class {} }).close();`;
  const { status, signal } = spawnSync(process.execPath, ["--input-type=module", "-e", program], { timeout: 30_000 });
  assert.deepEqual([status, signal], [0, null]);
});
