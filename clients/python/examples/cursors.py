"""Cursors of a game: moves its own in a circle, and shows the others': python cursors.py [ws://127.0.0.1:8080/ws]"""

import asyncio
import math
import sys
import time

from corewire import Client

ME = "robot"


async def circle(client: Client) -> None:
    while True:
        angle = time.monotonic()
        position = [0.5 + 0.3 * math.cos(angle), 0.5 + 0.3 * math.sin(angle)]
        client.publish_unacked("game:cursors", position, key=ME)  # an old position is worth nothing: no ack, no retry
        await asyncio.sleep(1 / 30)


async def main(url: str = "ws://127.0.0.1:8080/ws") -> None:
    async with Client(url) as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(circle(client))
        async for message in client.subscribe("game:cursors").messages():
            if message.key != ME:
                print(f"{message.key} is at {message.data}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
