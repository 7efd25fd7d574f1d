// The real server, named by COREWIRE, and a proxy that cuts connections.

import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { createInterface } from "node:readline";

import { Client } from "../src/index.js";

/** For tests that need the server. */
export const options = { skip: process.env.COREWIRE ? false : "COREWIRE names no server", timeout: 30_000 };

const clients = [];
const servers = [];
const folders = [];

after(async () => {
  for (const client of clients) client.close();
  for (const server of servers) await server.kill();
  for (const folder of folders) rmSync(folder, { recursive: true });
});

export class Server {
  static async start(...given) {
    const server = new Server();
    server.given = given;
    servers.push(server);
    await server.run("127.0.0.1:0");
    return server;
  }

  async run(address) {
    const admin = this.given.includes("--admin") ? [] : ["--admin", "off"];
    const words = ["serve", "--demo", "--cores", "0", "--listen", address, ...admin, ...this.given];
    this.process = spawn(process.env.COREWIRE, words, { stdio: ["ignore", "pipe", "ignore"] });
    const over = once(this.process, "exit").then(([status]) => {
      throw new Error(`corewire ${words.join(" ")} ended with status ${status}`);
    });
    over.catch(() => {});
    const [line] = await Promise.race([once(createInterface(this.process.stdout), "line"), over]);
    this.address = line.match(/^listening on ws:\/\/([^/]+)/)[1];
    this.url = `ws://${this.address}/ws`;
  }

  async kill() {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const gone = once(this.process, "exit");
    this.process.kill("SIGKILL");
    await gone;
  }

  restart() {
    return this.run(this.address);
  }
}

/** Passes bytes on until it cuts. */
export async function proxy(server) {
  const pairs = new Set();
  const listener = net.createServer((near) => {
    const [host, port] = server.address.split(":");
    const far = net.connect(Number(port), host);
    const pair = [near, far];
    pairs.add(pair);
    for (const [from, to] of [pair, [far, near]]) {
      from.on("data", (bytes) => to.write(bytes));
      from.on("error", () => {});
      from.on("close", () => to.destroy());
    }
    near.on("close", () => pairs.delete(pair));
  });
  await once(listener.listen(0, "127.0.0.1"), "listening");
  listener.unref();
  const cut = () => [...pairs].flat().forEach((socket) => socket.destroy());
  return { url: `ws://127.0.0.1:${listener.address().port}/ws`, cut };
}

/** A client in a hurry. */
export function connect(url, given = {}) {
  const client = new Client(url, { firstPauseMs: 20, maxPauseMs: 200, ...given });
  clients.push(client);
  return client;
}

export async function until(what, isSo) {
  for (const giveUpAt = Date.now() + 20_000; !isSo(); ) {
    if (Date.now() > giveUpAt) throw new Error(`in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A port that was free a moment ago. */
export async function freePort() {
  const listener = net.createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  await new Promise((resolve) => listener.close(resolve));
  return port;
}

/** The path of a file with this content, until the tests are over. */
export function file(name, content) {
  const folder = mkdtempSync(join(tmpdir(), "corewire-client-"));
  folders.push(folder);
  writeFileSync(join(folder, name), content);
  return join(folder, name);
}

export const SECRET = "a secret of more than 32 bytes, which only tests may have";

/** A JSON Web Token, good for `seconds`. */
export function sign(claims, seconds = 600, secret = SECRET) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ exp, ...claims })}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

export const of = (heard, name) => heard.filter(([told]) => told === name).map(([, event]) => event);
export const numbers = (count, from = 1) => Array.from({ length: count }, (_, index) => index + from);
