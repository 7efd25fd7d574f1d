"""Live prices: publishes some that wander, and shows what arrives: python prices.py [ws://127.0.0.1:8080/ws]"""

import asyncio
import random
import sys

from corewire import Client


async def wander(client: Client, pair: str, price: float) -> None:
    while True:
        price *= random.uniform(0.999, 1.001)
        await client.publish(f"prices:{pair}", round(price, 4))
        await asyncio.sleep(random.uniform(0.1, 0.5))


async def main(url: str = "ws://127.0.0.1:8080/ws") -> None:
    async with Client(url) as client, asyncio.TaskGroup() as tasks:
        for pair, price in {"EURUSD": 1.0871, "EURGBP": 0.8562, "EURCHF": 0.9424}.items():
            tasks.create_task(wander(client, pair, price))
        async for message in client.subscribe("prices:*").messages():
            print(f"{message.topic} {message.data:.4f}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
