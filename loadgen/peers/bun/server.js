// An echo and broadcast server on Bun, whose WebSocket server is uWebSockets.
//
//   npm ci --prefix loadgen/peers/bun
//   loadgen/peers/bun/node_modules/.bin/bun loadgen/peers/bun/server.js --port 9001 [--mode echo|broadcast]
//       [--tls-cert FILE --tls-key FILE]

import { parseArgs } from 'node:util';

const options = parseOptions();
const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(options.port),
  development: false,
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
    message: options.mode === 'echo' ? (socket, data) => void socket.send(data) : (_, data) => void server.publish('all', data),
  },
});

function parseOptions() {
  try {
    const { values } = parseArgs({
      options: {
        port: { type: 'string', default: '9001' },
        mode: { type: 'string', default: 'echo' },
        'tls-cert': { type: 'string' },
        'tls-key': { type: 'string' },
      },
    });
    if (!['echo', 'broadcast'].includes(values.mode)) throw new Error(`unknown mode: ${values.mode}`);
    if (!values['tls-cert'] !== !values['tls-key']) throw new Error('--tls-cert and --tls-key need each other');
    return values;
  } catch (error) {
    console.error(error.message);
    process.exit(2);
  }
}
