"""An echo and broadcast server on websockets and uvloop, the loop that its documentation recommends for speed.

    python3 -m venv loadgen/peers/python/.venv
    loadgen/peers/python/.venv/bin/pip install -r loadgen/peers/python/requirements.txt
    loadgen/peers/python/.venv/bin/python loadgen/peers/python/server.py --port 9001 [--mode echo|broadcast] [--tls-cert FILE --tls-key FILE]
"""

import argparse
import ssl

import uvloop
from websockets.asyncio.server import broadcast, serve


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=9001)
    parser.add_argument("--mode", choices=["echo", "broadcast"], default="echo")
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    options = parser.parse_args()
    if bool(options.tls_cert) != bool(options.tls_key):
        parser.error("--tls-cert and --tls-key need each other")

    tls = None
    if options.tls_cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.tls_cert, options.tls_key)
    everybody = set()

    async def talk(websocket):
        everybody.add(websocket)
        try:
            async for message in websocket:
                if options.mode == "echo":
                    await websocket.send(message)
                else:
                    broadcast(everybody, message)
        finally:
            everybody.discard(websocket)

    async with serve(
        talk,
        "127.0.0.1",
        options.port,
        ssl=tls,
        compression=None,
        max_size=64 << 20,
        # No keepalive: a timer and a task per connection that most other peers do not have.
        ping_interval=None,
        backlog=1024,
    ) as server:
        await server.serve_forever()


uvloop.run(main())
