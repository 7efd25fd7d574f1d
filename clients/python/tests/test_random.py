"""A client against a naive server, with connections that are lost at any moment and readers of any speed.

Everything is heard exactly once and in order, or the client says that there is a gap, and never when there is none.
CLIENT_SEED=n repeats one seed, CLIENT_SEEDS=n tries more.
"""

import asyncio
import math
import os
import random
import time
import unittest
from unittest import mock

from corewire import Gap, Message, Position, State, Subscribed

from fakes import World, run, settle

SEED_COUNT = int(os.environ.get("CLIENT_SEEDS", 40))
FIRST_SEED = int(os.environ.get("CLIENT_SEED", int(time.time() * 1000) % 10**9))
STEP_COUNT = 300
TOPICS = ["a", "b:c"]


class Random(unittest.TestCase):
    def test_everything_once_and_in_order_or_a_gap(self):
        count = 1 if "CLIENT_SEED" in os.environ else SEED_COUNT
        for seed in range(FIRST_SEED, FIRST_SEED + count):
            chance = random.Random(seed)
            with self.subTest(CLIENT_SEED=seed), mock.patch("random.random", chance.random):
                run(play(chance))


async def play(chance):
    has_token = chance.random() < 0.5
    async with World(token=(lambda: str(chance.random())) if has_token else None) as world:
        server = Server(chance, world)
        ears = [Ear(world.client, server, topic, chance) for topic in TOPICS]
        steps = {
            "publish": lambda: server.publish(chance.choice(TOPICS)),
            "deliver": server.deliver,
            "forget": lambda: chance.random() < 0.1 and server.forget(chance.choice(TOPICS)),
            "restart": lambda: chance.random() < 0.1 and server.restart(),
            "lose": lambda: chance.random() < 0.3 and server.lose(chance.choice([None, 1012, 4006])),
            "end": lambda: chance.random() < 0.3 and server.end_subscription(chance.choice(TOPICS)),
            "refuse": lambda: setattr(server, "is_refusing", chance.random() < 0.2),
            "resubscribe": lambda: chance.random() < 0.2 and chance.choice(ears).resubscribe(),
            "pass": lambda: asyncio.sleep(chance.choice([0.001, 0.1, 3])),
        }
        choices = [steps["publish"], steps["deliver"], *steps.values()]
        for _ in range(STEP_COUNT):
            done = chance.choice(choices)()
            if asyncio.iscoroutine(done):
                await done
            await settle()
        # Peace: all arrives in the end.
        server.is_refusing = False
        for _ in range(200):
            server.deliver()
            await asyncio.sleep(1)
        for ear in ears:
            ear.check(world)
        await world.client.close()
        for ear in ears:
            await ear.task


class Ear:
    """What one subscription hears, held against what was published."""

    def __init__(self, client, server, topic, chance):
        self.client, self.server, self.topic, self.chance = client, server, topic, chance
        self.listen()

    def listen(self):
        self.at = self.next = None
        self.gaps = self.failures = 0
        max_queued = self.chance.choice([2, 10, 10_000])
        self.subscription = self.client.subscribe(self.topic, max_queued=max_queued)
        self.task = asyncio.create_task(self.read(self.subscription, self.chance.choice([0, 0, 0.5])))

    async def read(self, subscription, seconds_each):
        async for event in subscription:
            if subscription is self.subscription:
                self.hear(event)
            if seconds_each:
                await asyncio.sleep(seconds_each)

    def hear(self, event):
        match event:
            case Subscribed(position=position, replay=replay):
                self.next = Position(position.epoch, position.offset - replay)
                # Without a gap nothing may be missing: the place stays where it was.
                self.at = self.at or self.next
                self.failures += event.recovered is False
            case Gap():
                self.at = self.next
                self.gaps += 1
            case Message(offset=offset, data=data):
                assert data == [self.at.epoch, offset], f"{event} after {self.at}"
                assert offset == self.at.offset + 1, f"{event} after {self.at}"
                self.at = Position(self.at.epoch, offset)

    def resubscribe(self):
        self.subscription.unsubscribe()
        self.listen()

    def check(self, world):
        assert world.client.state is State.CONNECTED, world.client.state
        if self.task.done():
            self.task.result()
        topic = self.server.topics[self.topic]
        assert self.at == Position(topic.epoch, topic.published), f"{self.at}, {vars(topic)}"
        assert self.gaps == self.failures
        assert self.gaps <= self.server.unrecovered[self.topic], f"{self.gaps} gaps, without need"


class Topic:
    def __init__(self, epoch):
        self.epoch, self.published, self.forgotten = epoch, 0, 0


class Server:
    """As naive as can be: what it says waits in a list until it is delivered, or the connection is lost."""

    def __init__(self, chance, world):
        self.chance, self.world = chance, world
        self.is_refusing = False
        self.epochs = 0
        #: How often it was asked for more than it has.
        self.unrecovered = dict.fromkeys(TOPICS, 0)
        self.topics = {}
        self.socket = None
        self.subscribed = set()
        self.outbox = []
        self.restart()

    def restart(self):
        for name in TOPICS:
            self.epochs += 1
            self.topics[name] = Topic(f"e{self.epochs}")
        self.lose(None)

    def forget(self, name):
        """Its history is gone."""
        self.topics[name].forgotten = self.topics[name].published

    def publish(self, name):
        topic = self.topics[name]
        topic.published += 1
        if name in self.subscribed:
            self.outbox.append(said(name, topic, topic.published))

    def lose(self, code):
        if self.socket:
            self.socket.ends(code)
        self.forget_socket()

    def forget_socket(self):
        self.socket, self.outbox = None, []
        self.subscribed.clear()

    def end_subscription(self, name):
        if name in self.subscribed:
            self.subscribed.remove(name)
            self.outbox.append({"type": "unsubscribe", "topic": name, "code": "unavailable", "reason": "lost"})

    def deliver(self):
        """Reads everything, and lets some of what waits arrive."""
        newest = self.world.sockets[-1] if self.world.sockets else None
        if newest is not self.socket or (newest and newest.is_closed):
            self.forget_socket()
            if newest is None or newest.is_closed:
                return
            self.socket = newest
        if self.socket is None:
            return
        sent, self.socket.sent = self.socket.sent, []
        for message in sent:
            self.answer(message)
        count = math.ceil(self.chance.random() * len(self.outbox))
        for message in self.outbox[:count]:
            self.socket.says(message)
        del self.outbox[:count]

    def answer(self, message):
        name = message.get("topic")
        match message["type"]:
            case "connect":
                self.ack(message, connection="0-1-1", expires_in=40 if "token" in message else None)
            case "unsubscribe" if name in self.subscribed:
                self.subscribed.remove(name)
                self.ack(message)
            case "unsubscribe":
                self.refuse(message, "not_subscribed")
            case "subscribe":
                assert name not in self.subscribed, f"{name} is subscribed to twice"
                if self.is_refusing:
                    self.refuse(message, "unavailable")
                else:
                    self.subscribe(message, self.topics[name])

    def subscribe(self, message, topic):
        recover = message.get("recover")
        is_whole = bool(recover) and recover["epoch"] == topic.epoch and recover["offset"] >= topic.forgotten
        if recover and not is_whole:
            self.unrecovered[message["topic"]] += 1
        first = topic.published if recover is None else recover["offset"] if is_whole else topic.forgotten
        recovered = {} if recover is None else {"recovered": is_whole}
        self.ack(message, epoch=topic.epoch, offset=topic.published, replay=topic.published - first, **recovered)
        self.outbox += [said(message["topic"], topic, offset) for offset in range(first + 1, topic.published + 1)]
        self.subscribed.add(message["topic"])

    def ack(self, message, **fields):
        self.outbox.append({"type": "ack", "id": message["id"], **fields})

    def refuse(self, message, code):
        self.outbox.append({"type": "error", "id": message["id"], "code": code, "message": code})


def said(name, topic, offset):
    return {"type": "message", "topic": name, "offset": offset, "data": [topic.epoch, offset]}
