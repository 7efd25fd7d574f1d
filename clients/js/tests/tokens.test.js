// The client and the real server: users, presence, tokens that expire, limits.

import assert from "node:assert/strict";
import { test } from "node:test";

import { listen } from "./fakes.js";
import { connect, file, freePort, of, options, SECRET, Server, sign, until } from "./server.js";

const NAMESPACES = `
[namespace.members]
subscribe = "token"
publish = "token"
presence = "on"

[namespace.vip]
subscribe = "signed"
`;

function start(...given) {
  const config = ["--config", file("corewire.toml", NAMESPACES)];
  return Server.start(...config, "--token-secret", file("secret", SECRET), "--token-leeway", "0", ...given);
}

const claims = (user, fields) => ({ sub: user, subscribe: ["members:*"], publish: ["members:*"], ...fields });
const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

test("users meet: who publishes, who is there, who comes and goes", options, async () => {
  const server = await start();
  const ada = connect(server.url, { token: sign(claims("ada", { info: { name: "Ada" } })) });
  const room = ada.subscribe("members:room", { presence: true });
  const heard = listen(room);
  await room.ready;
  assert.equal(ada.user, "ada");
  const bob = connect(server.url, { token: () => sign(claims("bob")) });
  await bob.subscribe("members:room").ready;
  await bob.publish("members:room", "hello");
  await until("ada hears him", () => of(heard, "message").length);
  assert.equal(of(heard, "message")[0].data, "hello");
  await until("ada sees him", () => of(heard, "join").some(({ user }) => user === "bob"));
  const members = await ada.presence("members:room");
  const known = members.map(({ user, info }) => [user, info]).sort();
  assert.deepEqual(known, [["ada", { name: "Ada" }], ["bob", undefined]]);
  bob.close();
  await until("he goes", () => of(heard, "leave").some(({ user }) => user === "bob"));
  await assert.rejects(ada.publish("vip:room", 1), { code: "forbidden" });
});

test("the anonymous are told what they need", options, async () => {
  const server = await start();
  const client = connect(server.url);
  await assert.rejects(client.subscribe("members:room").ready, { code: "token_required" });
  await assert.rejects(client.publish("members:room", 1), { code: "token_required" });
});

test("a refused token is the end of a client that has no other", options, async () => {
  const server = await start("--anonymous=off");
  for (const token of [sign(claims("ada"), 600, SECRET.toUpperCase()), sign(claims("ada"), -5), undefined]) {
    const client = connect(server.url, { token });
    const { code, retryInMs } = await client.next("disconnected");
    assert.deepEqual([[4001, 4002].includes(code), retryInMs], [true, undefined], `${code}`);
  }
  const tokens = ["nonsense", sign(claims("ada"))];
  const client = connect(server.url, { token: async () => tokens.shift() });
  assert.equal((await client.next("connected")).user, "ada");
});

test("a token is renewed on the same connection", options, async () => {
  const server = await start();
  const began = performance.now();
  let count = 0;
  const client = connect(server.url, { token: async () => (count++, sign(claims("ada"), 6)) });
  const told = [];
  for (const name of ["connected", "disconnected", "error"]) client.on(name, (event) => told.push([name, event]));
  await wait(6500); // the first has expired
  assert.deepEqual(told.map(([name]) => name), ["connected"]);
  // Each is asked for when three quarters of the one before have passed, five seconds and some.
  assert.ok(count >= 2 && count <= 1 + (performance.now() - began) / 3750, `asked for ${count} times`);
  await client.publish("members:room", "still here");
});

test("without a newer token the server closes, and a client with a fixed one stays away", options, async () => {
  const server = await start();
  const client = connect(server.url, { token: sign(claims("ada"), 3) });
  const { code, retryInMs } = await client.next("disconnected");
  assert.deepEqual([code, retryInMs, client.state], [4002, undefined, "closed"]);
});

test("a topic's token is renewed when it has expired, and nothing is missed", options, async () => {
  const server = await start();
  const client = connect(server.url, { token: sign(claims("ada")) });
  const asked = [];
  const token = async (topic) => (asked.push(topic), sign({ sub: "ada", topic }, 3));
  const subscription = client.subscribe("vip:a", { token });
  const heard = listen(subscription);
  await subscription.ready;
  await until("it is renewed twice", () => of(heard, "subscribed").length === 3);
  assert.deepEqual(asked, ["vip:a", "vip:a", "vip:a"]);
  assert.deepEqual(of(heard, "error").map(({ code }) => code), ["token_expired", "token_expired"]);
  assert.deepEqual(of(heard, "gap"), []);
  await assert.rejects(client.subscribe("vip:b").ready, { code: "token_required" });
  await assert.rejects(client.subscribe("vip:c", { token: sign({ sub: "ada", topic: "vip:a" }) }).ready, {
    code: "token_invalid",
  });
});

test("who says too much is told when to go on", options, async () => {
  const server = await start("--message-rate", "20/s");
  const client = connect(server.url);
  // So many that the seconds that a busy machine may take over them do not let all of them pass.
  const published = await Promise.allSettled(Array.from({ length: 100 }, () => client.publish("a", 1)));
  const { reason } = published.find(({ status }) => status === "rejected");
  assert.equal(reason.code, "rate_limited");
  assert.ok(reason.retryMs > 0 && reason.retryMs <= 1000, `${reason.retryMs} ms`);
  await wait(reason.retryMs);
  await client.publish("a", 1);
});

test("what the back end does to a user", options, async () => {
  const port = await freePort();
  const server = await start("--admin", `127.0.0.1:${port}`);
  const headers = { "Content-Type": "application/json" };
  const ask = async (path, body) => {
    const given = { method: "POST", headers, body: JSON.stringify(body) };
    const response = await fetch(`http://127.0.0.1:${port}/api/v1/${path}`, given);
    assert.equal(response.status, 200, await response.text());
  };
  let count = 0;
  const client = connect(server.url, { token: () => (count++, sign(claims("ada"))) });
  const subscription = client.subscribe("members:room");
  const heard = listen(subscription);
  await subscription.ready;

  await ask("publish", { topic: "members:room", data: { from: "the back end" }, key: "k" });
  await until("it is heard", () => of(heard, "message").length === 1);
  assert.deepEqual(of(heard, "message")[0].data, { from: "the back end" });

  const disconnected = client.next("disconnected");
  await ask("refresh", { user: "ada", expires_in: 0 });
  assert.equal((await disconnected).code, 4002);
  await until("it is back, with another token", () => client.state === "connected" && count === 2);
  await until("so is the subscription", () => subscription.state === "subscribed");
  assert.deepEqual(of(heard, "gap"), []);

  const over = subscription.next("unsubscribed");
  await ask("unsubscribe", { user: "ada", topic: "members:room" });
  assert.equal((await over).code, "forbidden");

  const gone = client.next("disconnected");
  await ask("disconnect", { user: "ada", reason: "enough" });
  assert.deepEqual(await gone, { code: 4003, reason: "enough" });
  assert.equal(client.state, "closed");
});
