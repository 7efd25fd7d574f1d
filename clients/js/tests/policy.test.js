import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";

import { afterClose, matches, pauseMs, refreshMs } from "../src/policy.js";

afterEach(() => mock.restoreAll());

test("every close code has its consequence", () => {
  const special = {
    1013: "retry-later",
    4001: "new-token",
    4002: "new-token",
    4003: "final",
    4004: "retry-later",
    4005: "retry-later",
  };
  for (let code = 1000; code < 5000; code++) assert.equal(afterClose(code), special[code] ?? "retry", `${code}`);
});

test("the bound of pauses doubles up to the greatest", () => {
  const bounds = { firstMs: 1000, maxMs: 30_000 };
  mock.method(Math, "random", () => 0.5);
  const wanted = [500, 1000, 2000, 4000, 8000, 15_000, 15_000];
  assert.deepEqual(wanted.map((_, attempt) => pauseMs(attempt, bounds)), wanted);
  assert.deepEqual(wanted.map((_, attempt) => pauseMs(attempt, bounds, true)), wanted.map((pause) => pause * 1.5));
  assert.equal(pauseMs(100_000, bounds), 15_000);
});

test("pauses are spread over the whole bound", () => {
  const pauses = Array.from({ length: 10_000 }, () => pauseMs(2, { firstMs: 1000, maxMs: 30_000 }));
  for (let part = 0; part < 8; part++) {
    const count = pauses.filter((pause) => pause >= part * 500 && pause < (part + 1) * 500).length;
    assert.ok(count > 1000, `${count} of 10,000 in part ${part} of 8`);
  }
});

test("a newer token is asked for before the old one ends", () => {
  const cases = [[630, 600_000], [120, 90_000], [60, 45_000], [4, 3000], [0, 0], [10 * 365 * 86_400, 2 ** 31 - 1]];
  for (const [expiresIn, want] of cases) assert.equal(refreshMs(expiresIn), want, `${expiresIn} s`);
});

test("patterns match as the server matches", () => {
  const cases = [
    ["prices:*", "prices:eur", true],
    ["prices:*", "prices", false],
    ["prices:*", "prices:eur:usd", false],
    ["*:eur", "prices:eur", true],
    ["*:eur", "prices:usd", false],
    ["prices:**", "prices:eur", true],
    ["prices:**", "prices:eur:usd", true],
    ["prices:**", "prices", false],
    ["prices:**", "pricesX:eur", false],
    ["**", "prices", true],
    ["a:*:c", "a:b:c", true],
    ["a:*:c", "a:b:d", false],
    ["a:*:**", "a:b", false],
    ["a:*:**", "a:b:c:d", true],
  ];
  for (const [pattern, topic, want] of cases) assert.equal(matches(pattern, topic), want, `${pattern} on ${topic}`);
});
