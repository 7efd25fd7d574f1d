// The npm package `ws`. Arguments are NAME=VALUE, see run.py; prints `ok CHECK` or `FAIL CHECK: reason`.
'use strict';
const assert = require('node:assert/strict');
const fs = require('node:fs');
const { once } = require('node:events');
const WebSocket = require('ws');

const given = Object.fromEntries(process.argv.slice(2).map((argument) => argument.split(/=(.*)/s).slice(0, 2)));
const TEXTS = JSON.parse(given.texts);
const SIZES = JSON.parse(given.sizes);
const CLOSES = JSON.parse(given.closes);
const PATIENCE_MS = 40_000;

/** Opens a connection, lets `use` work with it, and drops it. */
async function connected(url, options, use) {
  const socket = new WebSocket(url, { perMessageDeflate: false, ...options });
  socket.messages = [];
  socket.waiting = [];
  socket.on('message', (data, isBinary) => {
    const waiting = socket.waiting.shift();
    if (waiting) waiting([data, isBinary]);
    else socket.messages.push([data, isBinary]);
  });
  try {
    await once(socket, 'open');
    return await use(socket);
  } finally {
    socket.on('error', () => {});
    socket.terminate();
  }
}

function message(socket) {
  return socket.messages.length ? socket.messages.shift() : new Promise((resolve) => socket.waiting.push(resolve));
}

async function echoes(socket, data) {
  socket.send(data);
  await isBack(socket, data);
}

async function isBack(socket, sent) {
  const [data, isBinary] = await message(socket);
  assert.equal(isBinary, typeof sent !== 'string');
  const want = Buffer.from(sent);
  assert.ok(data.equals(want), `${data.length} bytes came back for ${want.length}, or others`);
}

/** Closes a new connection; what the server's close frame said. */
function closed(code, reason) {
  return connected(given.plain, {}, async (socket) => {
    socket.close(code, reason);
    const [gotCode, gotReason] = await once(socket, 'close');
    return { code: gotCode, reason: gotReason.toString() };
  });
}

/** The status of a refused handshake, or that it opened. */
async function answer(url, origin) {
  const socket = new WebSocket(url, { origin });
  socket.on('error', () => {});
  const refused = once(socket, 'unexpected-response').then(([, response]) => response.statusCode);
  const opened = once(socket, 'open').then(() => 'opened');
  const outcome = await Promise.race([refused, opened]);
  socket.terminate();
  return outcome;
}

const bytes = (size) => Buffer.from(Uint8Array.from({ length: size }, (_, index) => (index * 31) % 256));

const checks = {
  text: () => connected(given.plain, {}, async (socket) => {
    for (const text of TEXTS) await echoes(socket, text);
  }),

  binary: () => connected(given.plain, {}, async (socket) => {
    for (const size of SIZES) await echoes(socket, bytes(size));
  }),

  pipelined: () => connected(given.plain, {}, async (socket) => {
    for (let index = 0; index < 500; index++) socket.send(`message ${index}`);
    for (let index = 0; index < 500; index++) await isBack(socket, `message ${index}`);
  }),

  deflate: async () => {
    let received;
    const finishRequest = (request, socket) => {
      socket.on('upgrade', (response) => { received = () => response.socket.bytesRead; });
      request.end();
    };
    await connected(given.plain, { perMessageDeflate: { threshold: 0 }, finishRequest }, async (socket) => {
      assert.match(socket.extensions, /permessage-deflate/);
      for (const text of TEXTS) await echoes(socket, text);
      for (const size of SIZES) await echoes(socket, bytes(size));
      const before = received();
      await echoes(socket, 'compressible '.repeat(10_000));
      assert.ok(received() - before < 13_000, `${received() - before} bytes came back for 130,000 compressible ones`);
    });
  },

  'deflate-refused': () => connected(given.nodeflate, { perMessageDeflate: true }, async (socket) => {
    assert.equal(socket.extensions, '');
    await echoes(socket, 'compressible '.repeat(10_000));
  }),

  'deflate-not-offered': () => connected(given.plain, {}, async (socket) => {
    assert.equal(socket.extensions, '');
    await echoes(socket, 'compressible '.repeat(10_000));
  }),

  fragments: () => connected(given.plain, {}, async (socket) => {
    const text = 'κόσμε 🌍';
    for (const octet of Buffer.from(text)) socket.send(Buffer.from([octet]), { binary: false, fin: false });
    socket.send('', { fin: true });
    await isBack(socket, text);
    const parts = [bytes(65_535), bytes(0), bytes(126)];
    parts.forEach((part, index) => {
      socket.send(part, { binary: true, fin: index === parts.length - 1 });
      socket.ping();
    });
    await isBack(socket, Buffer.concat(parts));
  }),

  ping: () => connected(given.plain, {}, async (socket) => {
    for (const payload of ['', 'hello', 'x'.repeat(125)]) {
      socket.ping(payload);
      const [data] = await once(socket, 'pong');
      assert.equal(data.toString(), payload);
    }
  }),

  'server-ping': () => connected(given.pinging, {}, async (socket) => {
    // For longer than it may be silent.
    for (let count = 0; count < 14; count++) await once(socket, 'ping');
    await echoes(socket, 'still here');
  }),

  close: async () => {
    for (const [code, reason] of CLOSES) assert.equal((await closed(code, reason)).code, code);
  },

  'close-reason': async () => {
    for (const [code, reason] of CLOSES) assert.equal((await closed(code, reason)).reason, reason);
  },

  'close-without-code': () => connected(given.plain, {}, async (socket) => {
    socket.close();
    const [code] = await once(socket, 'close');
    assert.equal(code, 1005);
  }),

  'too-big': () => connected(given.limited, {}, async (socket) => {
    socket.send(bytes(given.limit * 1 + 1));
    const [code] = await once(socket, 'close');
    assert.equal(code, 1009);
  }),

  'origin-allowed': () => connected(given.guarded, { origin: given.allowed }, (socket) => echoes(socket, 'hello')),

  'origin-refused': async () => assert.equal(await answer(given.guarded, given.foreign), 403),

  // Without --origin a page may connect to the host it came from.
  'origin-same-host': async () => {
    assert.equal(await answer(given.samehost, given.samehost.replace('ws:', 'http:')), 'opened');
    assert.equal(await answer(given.samehost, 'https://elsewhere.example'), 403);
  },

  // So many connections that every core has some.
  broadcast: async () => {
    const everyone = await Promise.all(Array.from({ length: 32 }, async () => {
      const socket = new WebSocket(given.broadcast);
      await once(socket, 'open');
      return socket;
    }));
    for (const sender of everyone) {
      const heard = everyone.map((socket) => once(socket, 'message'));
      sender.send('to all');
      for (const [data] of await Promise.all(heard)) assert.equal(data.toString(), 'to all');
    }
    everyone.forEach((socket) => socket.terminate());
  },

  tls: () => connected(given.tls, { ca: fs.readFileSync(given.ca), perMessageDeflate: true }, async (socket) => {
    for (const text of TEXTS) await echoes(socket, text);
    for (const size of SIZES) await echoes(socket, bytes(size));
    socket.close(1000);
    const [code] = await once(socket, 'close');
    assert.equal(code, 1000);
  }),
};

async function patiently(work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('no end in time')), PATIENCE_MS);
  });
  await Promise.race([work(), late]).finally(() => clearTimeout(timer));
}

(async () => {
  for (const [name, check] of Object.entries(checks)) {
    try {
      await patiently(check);
      console.log(`ok ${name}`);
    } catch (error) {
      console.log(`FAIL ${name}: ${String(error.message).replaceAll('\n', ' ')}`);
    }
  }
  process.exit(0);
})();
