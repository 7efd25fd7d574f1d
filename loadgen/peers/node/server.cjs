// An echo and broadcast server on ws.
//
//   npm ci --prefix loadgen/peers/node
//   node loadgen/peers/node/server.cjs --port 9001 [--mode echo|broadcast] [--tls-cert FILE --tls-key FILE]

'use strict';

const fs = require('node:fs');
const { parseArgs } = require('node:util');
const { WebSocketServer, WebSocket } = require('ws');

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '9001' },
    mode: { type: 'string', default: 'echo' },
    'tls-cert': { type: 'string' },
    'tls-key': { type: 'string' },
  },
});
if (!['echo', 'broadcast'].includes(options.mode)) throw new Error(`unknown mode: ${options.mode}`);

const server = options['tls-cert']
  ? require('node:https').createServer({
      cert: fs.readFileSync(options['tls-cert']),
      key: fs.readFileSync(options['tls-key']),
    })
  : require('node:http').createServer();
const websockets = new WebSocketServer({ server, perMessageDeflate: false });

websockets.on('connection', (socket) => {
  // A peer that breaks off is no reason to end.
  socket.on('error', () => {});
  socket.on('message', (data, binary) => {
    if (options.mode === 'echo') return socket.send(data, { binary });
    for (const client of websockets.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(data, { binary });
    }
  });
});
server.listen(Number(options.port), '127.0.0.1');
