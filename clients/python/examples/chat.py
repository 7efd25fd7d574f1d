"""A chat room in the terminal: python chat.py NAME [ws://127.0.0.1:8080/ws]"""

import asyncio
import sys

from corewire import Client, Gap, Message, Subscription


async def listen(room: Subscription) -> None:
    async for event in room:
        match event:
            case Message(data={"from": who, "text": text}):
                print(f"{who}: {text}", flush=True)
            case Gap():
                print("(something may be missing here)")


async def main(name: str, url: str = "ws://127.0.0.1:8080/ws") -> None:
    async with Client(url) as client:
        listener = asyncio.create_task(listen(client.subscribe("chat:room1")))
        while line := await asyncio.to_thread(sys.stdin.readline):
            await client.publish("chat:room1", {"from": name, "text": line.strip()})
        listener.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
