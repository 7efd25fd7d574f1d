import asyncio
import unittest
from unittest import mock

from corewire import CorewireError, Gap, Join, Leave, Message, Position, Subscribed
from corewire.subscription import State

from fakes import Ear, World, run, settle


def message(topic, offset, data=None, **fields):
    return {"type": "message", "topic": topic, "offset": offset, "data": data or offset, **fields}


async def begun(world, topic="a", epoch="e1", offset=10, replay=0, **options):
    """The ear of a subscription that has begun."""
    await world.socket.accepts()
    ear = Ear(world.client.subscribe(topic, **options))
    sent = await world.socket.take("subscribe")
    world.socket.acks(sent, **({} if "*" in topic else {"epoch": epoch, "offset": offset, "replay": replay}))
    await settle()
    return ear


async def again(world):
    """Loses the connection and makes another; the `subscribe` that comes on it."""
    world.socket.ends()
    await world.next_socket()
    await world.socket.accepts()
    return await world.socket.take("subscribe")


def scenario(test):
    """A test with a client and a world of its own, in fake time."""

    def method(self):
        async def inside():
            async with World() as world:
                await test(self, world)

        run(inside())

    return method


class Subscriptions(unittest.TestCase):
    @scenario
    async def test_begins_when_there_is_a_connection_and_hears_what_comes_after(self, world):
        subscription = world.client.subscribe("a", presence=True)
        ear = Ear(subscription)
        await world.socket.accepts()
        sent = await world.socket.take("subscribe")
        self.assertEqual(sent, {"type": "subscribe", "topic": "a", "presence": True, "id": sent["id"]})
        world.socket.says(message("a", 41))  # of somebody else's pattern: published before this began
        world.socket.acks(sent, epoch="e1", offset=41, replay=0)
        world.socket.says(message("a", 42, {"text": "hello"}, user="ada", key="k"))
        await settle()
        begun_at = Subscribed(True, None, 0, Position("e1", 41))
        self.assertEqual(ear.events, [begun_at, Message("a", 42, {"text": "hello"}, "k", "ada")])
        await subscription.ready()
        self.assertEqual(subscription.position, Position("e1", 42))

    @scenario
    async def test_asks_for_what_it_missed_and_says_nothing_of_a_gap_when_it_gets_it(self, world):
        ear = await begun(world)
        world.socket.says(message("a", 11))
        await settle()
        sent = await again(world)
        self.assertEqual(sent["recover"], {"epoch": "e1", "offset": 11})
        world.socket.acks(sent, epoch="e1", offset=13, recovered=True, replay=2)
        for offset in (12, 13, 14):
            world.socket.says(message("a", offset))
        await settle()
        self.assertEqual(ear.datas, [11, 12, 13, 14])
        self.assertEqual(ear.names, ["Subscribed", "Message", "Subscribed", "Message", "Message", "Message"])
        self.assertEqual(ear.events[2], Subscribed(False, True, 2, Position("e1", 13)))

    @scenario
    async def test_tells_of_a_gap_before_what_comes_after_it(self, world):
        ear = await begun(world)
        sent = await again(world)
        world.socket.acks(sent, epoch="e2", offset=3, recovered=False, replay=1)
        world.socket.says(message("a", 3))
        await settle()
        self.assertEqual(ear.names, ["Subscribed", "Subscribed", "Gap", "Message"])
        # From now on it is the new epoch that counts.
        self.assertEqual((await again(world))["recover"], {"epoch": "e2", "offset": 3})

    @scenario
    async def test_a_loss_in_the_middle_of_what_is_replayed_loses_nothing(self, world):
        ear = await begun(world, replay=1)
        sent = await again(world)  # before the last value came
        self.assertEqual(sent["recover"], {"epoch": "e1", "offset": 9})
        world.socket.acks(sent, epoch="e1", offset=12, recovered=True, replay=3)
        world.socket.says(message("a", 10))
        world.socket.says(message("a", 11))
        await settle()
        sent = await again(world)
        self.assertEqual(sent["recover"], {"epoch": "e1", "offset": 11})
        world.socket.acks(sent, epoch="e1", offset=12, recovered=True, replay=1)
        world.socket.says(message("a", 12))
        await settle()
        self.assertEqual((ear.datas, ear.of(Gap)), ([10, 11, 12], []))

    @scenario
    async def test_goes_on_from_an_earlier_life(self, world):
        await world.socket.accepts()
        ear = Ear(world.client.subscribe("a", recover=Position("e0", 5)))
        sent = await world.socket.take("subscribe")
        self.assertEqual(sent["recover"], {"epoch": "e0", "offset": 5})
        world.socket.acks(sent, epoch="e1", offset=2, recovered=False, replay=0)
        await settle()
        self.assertEqual(ear.names, ["Subscribed", "Gap"])

    @scenario
    async def test_a_pattern_cannot_be_recovered_so_each_loss_is_a_gap(self, world):
        ear = await begun(world, "prices:*")
        world.socket.says(message("prices:eur", 7))
        await settle()
        self.assertIsNone(ear.subscription.position)
        sent = await again(world)
        self.assertNotIn("recover", sent)
        world.socket.acks(sent)
        await settle()
        self.assertEqual(ear.names, ["Subscribed", "Message", "Subscribed", "Gap"])

    @scenario
    async def test_a_message_is_for_all_that_it_fits_a_replayed_one_only_for_who_asked_for_it(self, world):
        ear = await begun(world, "prices:eur")
        patterns = []
        for topic in ("prices:*", "**", "chat:*"):
            patterns.append(Ear(world.client.subscribe(topic)))
            world.socket.acks(await world.socket.take("subscribe"))
        world.socket.says(message("prices:eur", 10))  # replayed: the ack stood at 10
        world.socket.says(message("prices:eur", 11))
        world.socket.says(message("prices:usd", 3))
        await settle()
        self.assertEqual(ear.datas, [10, 11])
        self.assertEqual([pattern.datas for pattern in patterns], [[11, 3], [11, 3], []])

    @scenario
    async def test_joins_and_leaves_are_told(self, world):
        ear = await begun(world, presence=True)
        event = {"type": "presence", "topic": "a", "user": "eve"}
        world.socket.says({**event, "event": "join", "info": {"name": "Eve"}})
        world.socket.says({**event, "event": "leave"})
        world.socket.says({**event, "event": "dance"})  # of a later version
        await settle()
        self.assertEqual(ear.events[1:], [Join("eve", {"name": "Eve"}), Leave("eve")])

    @scenario
    async def test_what_the_server_ends_for_want_of_a_message_begins_again_with_recovery(self, world):
        ear = await begun(world)
        lost = {"type": "unsubscribe", "topic": "a", "code": "unavailable", "reason": "something was lost"}
        world.socket.says(lost)
        world.socket.says(message("a", 99))  # by a pattern, say
        sent = await world.socket.take("subscribe")
        self.assertEqual(sent["recover"], {"epoch": "e1", "offset": 10})
        world.socket.says(lost)  # twice: the second is about the one before
        world.socket.acks(sent, epoch="e1", offset=11, recovered=True, replay=1)
        world.socket.says(message("a", 11))
        await settle()
        self.assertEqual(ear.names, ["Subscribed", "Subscribed", "Message"])

    @scenario
    async def test_what_is_refused_for_now_is_asked_for_again_and_what_is_refused_is_over(self, world):
        await world.socket.accepts()
        subscription = world.client.subscribe("a")
        ear = Ear(subscription)
        loop = asyncio.get_running_loop()
        refusals = [("unavailable", {}, 0.5), ("internal", {}, 1), ("rate_limited", {"retry_ms": 9000}, 9)]
        with mock.patch("random.random", return_value=0.5):
            for code, fields, wait in refusals:
                world.socket.refuses(await world.socket.take("subscribe"), code, **fields)
                asked_at = loop.time()
                sent = await world.socket.take("subscribe")
                world.socket.sent.append(sent)
                self.assertAlmostEqual(loop.time() - asked_at, wait, delta=0.1)
        world.socket.refuses(await world.socket.take("subscribe"), "forbidden")
        await settle()
        self.assertIs(subscription.state, State.ENDED)
        self.assertEqual(ear.error.code, "forbidden")
        with self.assertRaisesRegex(CorewireError, "^forbidden"):
            await subscription.ready()

    @scenario
    async def test_every_final_code_ends_it(self, world):
        await world.socket.accepts()
        codes = ["bad_topic", "unknown_namespace", "too_many_subscriptions", "not_recoverable", "presence_disabled"]
        for code in [*codes, "token_required", "token_invalid", "token_expired", "of_a_later_version"]:
            subscription = world.client.subscribe("a")
            world.socket.refuses(await world.socket.take("subscribe"), code)
            await settle()
            self.assertIs(subscription.state, State.ENDED, code)

    @scenario
    async def test_topics_have_tokens_of_their_own_renewed_when_the_server_says_so(self, world):
        tokens = iter(["1", "2", "3", "3"])

        async def source(topic):
            return topic + next(tokens)

        await world.socket.accepts()
        ear = Ear(world.client.subscribe("a", token=source))
        sent = await world.socket.take("subscribe")
        self.assertEqual(sent["token"], "a1")
        world.socket.acks(sent, epoch="e1", offset=1, replay=0)
        world.socket.says({"type": "unsubscribe", "topic": "a", "code": "token_expired", "reason": "expired"})
        sent = await world.socket.take("subscribe")
        self.assertEqual((sent["token"], sent["recover"]), ("a2", {"epoch": "e1", "offset": 1}))
        world.socket.refuses(sent, "token_invalid")
        sent = await world.socket.take("subscribe")
        self.assertEqual(sent["token"], "a3")
        world.socket.refuses(sent, "token_invalid")
        await asyncio.sleep(5)
        # The same is not shown twice.
        self.assertEqual((world.socket.sent, ear.error.code), ([], "token_invalid"))

    @scenario
    async def test_a_token_function_that_fails_is_asked_again(self, world):
        await world.socket.accepts()
        source = mock.AsyncMock(side_effect=[RuntimeError("down"), "T"])
        world.client.subscribe("a", token=source)
        self.assertEqual((await world.socket.take("subscribe"))["token"], "T")

    @scenario
    async def test_a_new_one_of_the_same_name_hears_nothing_of_the_old_one(self, world):
        ear = await begun(world)
        ear.subscription.unsubscribe()
        following = Ear(world.client.subscribe("a"))
        world.socket.says(message("a", 11))  # was on its way
        world.socket.says({"type": "unsubscribe", "topic": "a", "code": "unavailable", "reason": "of the old one"})
        world.socket.acks(await world.socket.take("unsubscribe"))
        world.socket.acks(await world.socket.take("subscribe"), epoch="e1", offset=11, replay=0)
        world.socket.says(message("a", 12))
        await settle()
        self.assertEqual((ear.datas, following.datas), ([], [12]))
        self.assertTrue(ear.task.done())
        self.assertEqual(following.names, ["Subscribed", "Message"])

    @scenario
    async def test_close_ends_readers_and_keeps_subscriptions_for_a_reconnection(self, world):
        ear = await begun(world)
        await world.client.close()
        await settle()
        self.assertTrue(ear.task.done())
        self.assertIsNone(ear.error)
        world.client.reconnect()
        await settle()
        following = Ear(ear.subscription)
        await world.socket.accepts()
        sent = await world.socket.take("subscribe")
        self.assertEqual(sent["recover"], {"epoch": "e1", "offset": 10})
        world.socket.acks(sent, epoch="e1", offset=10, recovered=True, replay=0)
        await settle()
        self.assertEqual(following.names, ["Subscribed"])

    @scenario
    async def test_readers_are_told_when_the_server_does_not_want_the_client(self, world):
        ear = await begun(world)
        world.socket.ends(4003, "disconnected by the back end")
        await settle()
        self.assertEqual(ear.error.code, "closed")
        self.assertIn("disconnected by the back end", str(ear.error))


class TheEndAtEveryMoment(unittest.TestCase):
    @scenario
    async def test_without_a_connection(self, world):
        await self.over(world, world.client.subscribe("a"), False)

    @scenario
    async def test_while_a_token_is_asked_for(self, world):
        await world.socket.accepts()
        subscription = world.client.subscribe("a", token=lambda topic: asyncio.Event().wait())
        await self.over(world, subscription, False)

    @scenario
    async def test_before_the_answer(self, world):
        await world.socket.accepts()
        subscription = world.client.subscribe("a")
        await settle()
        asked = await world.socket.take("subscribe")
        await self.over(world, subscription, True, asked)

    @scenario
    async def test_when_it_has_begun(self, world):
        ear = await begun(world)
        ear.task.cancel()
        await self.over(world, ear.subscription, True)

    @scenario
    async def test_while_it_waits_to_begin_again(self, world):
        ear = await begun(world)
        world.socket.says({"type": "unsubscribe", "topic": "a", "code": "unavailable", "reason": ""})
        await settle()
        ear.task.cancel()
        await self.over(world, ear.subscription, False)

    async def over(self, world, subscription, is_known, asked=None):
        ear = Ear(subscription)
        await settle()
        count = len(ear.events)
        subscription.unsubscribe()
        subscription.unsubscribe()
        await settle()
        self.assertTrue(ear.task.done())
        self.assertIs(subscription.state, State.ENDED)
        sent = [sent["type"] for sent in world.socket.sent if sent["type"] != "connect"]
        self.assertEqual(sent, ["unsubscribe"] * is_known)
        if asked:
            world.socket.acks(asked, epoch="e", offset=1, replay=0)
        world.socket.says(message("a", 11))
        world.socket.ends()
        await world.next_socket()
        await world.socket.accepts()
        await asyncio.sleep(60)
        self.assertEqual((world.socket.sent, len(ear.events)), ([], count))


class SlowReaders(unittest.TestCase):
    @scenario
    async def test_what_does_not_fit_is_asked_for_again(self, world):
        await world.socket.accepts()
        subscription = world.client.subscribe("a", max_queued=5)
        world.socket.acks(await world.socket.take("subscribe"), epoch="e1", offset=0, replay=0)
        for offset in range(1, 11):
            world.socket.says(message("a", offset))
        await settle()
        self.assertIs(subscription.state, State.PAUSED)
        world.socket.acks(await world.socket.take("unsubscribe"))
        await asyncio.sleep(60)
        self.assertEqual(world.socket.sent, [])
        ear = Ear(subscription)
        sent = await world.socket.take("subscribe")
        self.assertEqual((ear.datas, sent["recover"]), ([1, 2, 3, 4], {"epoch": "e1", "offset": 4}))
        world.socket.acks(sent, epoch="e1", offset=10, recovered=True, replay=6)
        for offset in range(5, 11):
            world.socket.says(message("a", offset))
            await settle()
        self.assertEqual((ear.datas, ear.of(Gap)), (list(range(1, 11)), []))

    @scenario
    async def test_a_loss_meanwhile_changes_nothing(self, world):
        await world.socket.accepts()
        subscription = world.client.subscribe("a", max_queued=3)
        world.socket.acks(await world.socket.take("subscribe"), epoch="e1", offset=0, replay=0)
        for offset in range(1, 5):
            world.socket.says(message("a", offset))
        await settle()
        world.socket.ends()
        await world.next_socket()
        await world.socket.accepts()
        self.assertEqual(world.socket.sent, [])
        ear = Ear(subscription)
        self.assertEqual((await world.socket.take("subscribe"))["recover"], {"epoch": "e1", "offset": 2})
        # And if the connection is lost when everything has been read, it is begun on the next one.
        self.assertEqual((await again(world))["recover"], {"epoch": "e1", "offset": 2})
        self.assertEqual(ear.datas, [1, 2])

    @scenario
    async def test_a_reader_that_gives_up_waiting_loses_nothing(self, world):
        ear = await begun(world)
        ear.task.cancel()
        await settle()
        with self.assertRaises(TimeoutError):
            await asyncio.wait_for(anext(ear.subscription), 1)
        world.socket.says(message("a", 11))
        self.assertEqual((await anext(ear.subscription)).data, 11)

    @scenario
    async def test_the_position_is_that_of_the_reader(self, world):
        await world.socket.accepts()
        subscription = world.client.subscribe("a")
        world.socket.acks(await world.socket.take("subscribe"), epoch="e1", offset=10, replay=1)
        for offset in (10, 11):
            world.socket.says(message("a", offset))
        await settle()
        positions = [subscription.position]
        for _ in range(3):
            await anext(subscription)
            positions.append(subscription.position)
        self.assertEqual(positions, [None, Position("e1", 9), Position("e1", 10), Position("e1", 11)])

    @scenario
    async def test_messages_alone(self, world):
        ear = await begun(world)
        ear.task.cancel()
        await settle()
        world.socket.says(message("a", 11))
        sent = await again(world)
        world.socket.acks(sent, epoch="e2", offset=0, recovered=False, replay=0)
        world.socket.says(message("a", 1))
        await settle()
        ear.subscription.unsubscribe()
        self.assertEqual([found.data async for found in ear.subscription.messages()], [11, 1])
