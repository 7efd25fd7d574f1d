// An echo and broadcast server on ws.
//
//   npm ci --prefix loadgen/peers/node
//   node loadgen/peers/node/server.cjs --port 9001 [--mode echo|broadcast] [--tls-cert FILE --tls-key FILE]

'use strict';

const fs = require('node:fs');
const { parseArgs } = require('node:util');
const { WebSocketServer, WebSocket } = require('ws');

const options = parseOptions();

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
server.listen({ port: Number(options.port), host: '127.0.0.1', backlog: 1024 });

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
