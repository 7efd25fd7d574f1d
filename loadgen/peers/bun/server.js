// An echo and broadcast server on Bun, whose WebSocket server is uWebSockets.
//
//   npm ci --prefix loadgen/peers/bun
//   loadgen/peers/bun/node_modules/.bin/bun loadgen/peers/bun/server.js --port 9001 [--mode echo|broadcast]
//       [--tls-cert FILE --tls-key FILE]

import { parseArgs } from 'node:util';

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '9001' },
    mode: { type: 'string', default: 'echo' },
    'tls-cert': { type: 'string' },
    'tls-key': { type: 'string' },
  },
});
if (!['echo', 'broadcast'].includes(options.mode)) throw new Error(`unknown mode: ${options.mode}`);

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(options.port),
  tls: options['tls-cert'] && { cert: Bun.file(options['tls-cert']), key: Bun.file(options['tls-key']) },
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response('This is a WebSocket server.\n', { status: 426 });
  },
  websocket: {
    maxPayloadLength: 64 << 20,
    backpressureLimit: 64 << 20,
    idleTimeout: 120,
    perMessageDeflate: false,
    open(socket) {
      if (options.mode === 'broadcast') socket.subscribe('all');
    },
    message(socket, data) {
      if (options.mode === 'echo') socket.send(data);
      else server.publish('all', data);
    },
  },
});
