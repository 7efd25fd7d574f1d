// Runs in the browser; chromium_client.py calls `check` and `reconnecting` and prints what they return.
'use strict';

function bytes(size) {
  return Uint8Array.from({ length: size }, (_, index) => index * 31);
}

/** Opens a connection, lets `use` work with it, and closes it. Messages and the close event wait in a queue. */
async function connected(url, use) {
  const socket = new WebSocket(url);
  socket.binaryType = 'arraybuffer';
  const arrived = [];
  const waiting = [];
  const arrive = (event) => (waiting.length ? waiting.shift()(event) : arrived.push(event));
  socket.onmessage = arrive;
  socket.onclose = arrive;
  socket.next = () => (arrived.length ? arrived.shift() : new Promise((resolve) => waiting.push(resolve)));
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error('refused'));
  });
  try {
    return await use(socket);
  } finally {
    socket.close();
  }
}

async function isBack(socket, sent) {
  const event = await socket.next();
  if (event.type !== 'message') throw new Error(`closed with ${event.code} ${event.reason}`);
  const got = typeof sent === 'string' ? event.data : new Uint8Array(event.data);
  if (typeof got !== typeof sent || got.length !== sent.length) {
    throw new Error(`${got.length} came back for ${sent.length}`);
  }
  for (let index = 0; index < sent.length; index++) {
    if (got[index] !== sent[index]) throw new Error(`differs at ${index}`);
  }
}

async function echoes(socket, data) {
  socket.send(data);
  await isBack(socket, data);
}

function expectEqual(got, want) {
  const [gotShown, wantShown] = [JSON.stringify(got), JSON.stringify(want)];
  if (gotShown !== wantShown) throw new Error(`got ${gotShown}, wanted ${wantShown}`);
}

/** Closes a connection that must end cleanly; the event says what the server's close frame said. */
async function closed(socket, ...codeAndReason) {
  socket.close(...codeAndReason);
  const event = await socket.next();
  expectEqual([event.type, event.wasClean], ['close', true]);
  return event;
}

const CHECKS = {
  text: (given) => connected(given.plain, async (socket) => {
    for (const text of given.texts) await echoes(socket, text);
  }),

  binary: (given) => connected(given.plain, async (socket) => {
    for (const size of given.sizes) await echoes(socket, bytes(size));
  }),

  pipelined: (given) => connected(given.plain, async (socket) => {
    for (let index = 0; index < 500; index++) socket.send(`message ${index}`);
    for (let index = 0; index < 500; index++) await isBack(socket, `message ${index}`);
  }),

  deflate: (given) => connected(given.plain, async (socket) => {
    if (!socket.extensions.includes('permessage-deflate')) throw new Error(`extensions: ${socket.extensions}`);
    await echoes(socket, 'compressible '.repeat(10_000));
  }),

  'deflate-refused': (given) => connected(given.nodeflate, async (socket) => {
    expectEqual(socket.extensions, '');
    for (const text of given.texts) await echoes(socket, text);
    for (const size of given.sizes) await echoes(socket, bytes(size));
    await echoes(socket, 'compressible '.repeat(10_000));
  }),

  'server-ping': (given) => connected(given.pinging, async (socket) => {
    // The browser answers pings by itself; without that the server would close within this time.
    const alive = new Promise((resolve) => setTimeout(resolve, 4_000, { type: 'alive' }));
    expectEqual((await Promise.race([socket.next(), alive])).type, 'alive');
    socket.send('still here');
  }),

  close: async (given) => {
    for (const [code, reason] of given.closes) {
      await connected(given.plain, async (socket) => expectEqual((await closed(socket, code, reason)).code, code));
    }
  },

  'close-reason': async (given) => {
    for (const [code, reason] of given.closes) {
      await connected(given.plain, async (socket) => expectEqual((await closed(socket, code, reason)).reason, reason));
    }
  },

  'close-without-code': (given) => connected(given.plain, async (socket) => {
    expectEqual((await closed(socket)).code, 1005);
  }),

  'too-big': (given) => connected(given.limited, async (socket) => {
    socket.send(bytes(Number(given.limit) + 1));
    expectEqual((await socket.next()).code, 1009);
  }),

  'origin-allowed': (given) => connected(given.guarded, (socket) => echoes(socket, 'hello')),

  // A page may not see the status, only that it was refused.
  'origin-refused': async (given) => {
    const outcome = await connected(given.guarded, () => 'opened').catch((error) => error.message);
    expectEqual(outcome, 'refused');
  },

  // The server ends every connection within 1.5 s: the browser comes back by itself, and must miss nothing. The first
  // time it has had no event yet, only an id.
  'event-source': async (given) => {
    const address = given.topics.replace(/^ws/, 'http').replace(/\/$/, '');
    const publish = (topic, text) =>
      connected(`${address.replace(/^http/, 'ws')}/ws?topic=${topic}`, (socket) => echoes(socket, text));
    const source = new EventSource(`${address}/sse?topic=chat:a&topic=chat:b`);
    const [got, gaps] = [[], []];
    source.onmessage = (event) => got.push(event.data);
    source.addEventListener('gap', (event) => gaps.push(event.data));
    try {
      await until(() => source.readyState === EventSource.OPEN);
      await until(() => source.readyState === EventSource.CONNECTING);
      await publish('chat:a', 'missed');
      await publish('chat:b', 'two\nlines');
      await until(() => got.length === 2);
      await publish('chat:a', 'live or missed');
      await until(() => got.length === 3);
      expectEqual([got.sort(), gaps], [['live or missed', 'missed', 'two\nlines'], []]);
    } finally {
      source.close();
    }
    // Here a browser asks first.
    const answer = await fetch(`${address}/sse?topic=chat:a`, { headers: { 'Last-Event-ID': 'nonsense' } });
    const stream = await answer.text();
    if (!stream.includes('\nevent: gap\ndata: chat:a\n\n')) throw new Error(`no gap in ${stream}`);
  },

  'event-source-refused': async (given) => {
    const source = new EventSource(`${given.topics.replace(/^ws/, 'http').replace(/\/$/, '')}/sse?topic=chat:a`);
    const state = await new Promise((resolve) => {
      source.onopen = () => resolve('opened');
      source.onerror = () => resolve(source.readyState === EventSource.CLOSED ? 'refused' : 'tries again');
    });
    source.close();
    expectEqual(state, 'refused');
  },

  tls: (given) => connected(given.tls, async (socket) => {
    for (const text of given.texts) await echoes(socket, text);
    for (const size of given.sizes) await echoes(socket, bytes(size));
    expectEqual((await closed(socket, 1000)).code, 1000);
  }),
};

async function until(condition) {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 10));
}

/** `null` when the check passed, else why not. */
async function check(name, given) {
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error('no end in time')), 40_000));
  try {
    await Promise.race([CHECKS[name](given), late]);
    return null;
  } catch (error) {
    return error.message;
  }
}

/** A client as applications write it: it opens a new connection whenever the old one is gone. */
const reconnecting = {
  opened: 0,
  codes: [],
  start(url) {
    const socket = new WebSocket(url);
    socket.onopen = () => socket.send(`connection ${this.opened + 1}`);
    socket.onmessage = (event) => {
      if (event.data === `connection ${this.opened + 1}`) this.opened += 1;
    };
    socket.onclose = (event) => {
      this.codes.push(event.code);
      setTimeout(() => this.start(url), 100);
    };
  },
};
