import asyncio
import unittest
from unittest import mock

from corewire import Client, Connected, CorewireError, Disconnected, Failed, Member, Position, State

from fakes import FakeSocket, World, run, settle


async def token():
    return "T"


async def never():
    await asyncio.Event().wait()


#: How a client is brought into each state.
STATES = ["asking for a token", "awaiting the answer to connect", "connected", "waiting", "closed"]
BEFORE = dict(zip(STATES, [State.CONNECTING, State.CONNECTING, State.CONNECTED, State.WAITING, State.CLOSED]))


async def bring(world, state):
    if state == "connected":
        await world.socket.accepts()
    elif state == "waiting":
        world.is_down = True
        world.socket.ends()
        await settle()
    elif state == "closed":
        await world.client.close()


def ends(awaiting, connected):
    return {**BEFORE, "awaiting the answer to connect": awaiting, "connected": connected}


def says(message):
    return lambda world: world.sockets and world.socket.says(message)


def closes(code):
    return lambda world: world.sockets and world.socket.ends(code, "because")


async def close(world):
    await world.client.close()


WAITING, CLOSED, CONNECTING = State.WAITING, State.CLOSED, State.CONNECTING

#: What may happen, and the state after it, by the state before it.
EVENTS = {
    "close": (close, dict.fromkeys(STATES, CLOSED)),
    "reconnect": (lambda world: world.client.reconnect(), {**BEFORE, "closed": CONNECTING}),
    "the end without a close frame": (closes(None), ends(WAITING, WAITING)),
    "close 1001": (closes(1001), ends(WAITING, WAITING)),
    "close 1012": (closes(1012), ends(WAITING, WAITING)),
    "close 1013": (closes(1013), ends(WAITING, WAITING)),
    "close 4000": (closes(4000), ends(WAITING, WAITING)),
    "close 4001": (closes(4001), ends(WAITING, WAITING)),
    "close 4002": (closes(4002), ends(WAITING, WAITING)),
    "close 4003": (closes(4003), ends(CLOSED, CLOSED)),
    "close 4004": (closes(4004), ends(WAITING, WAITING)),
    "close 4005": (closes(4005), ends(WAITING, WAITING)),
    "close 4006": (closes(4006), ends(WAITING, WAITING)),
    "no JSON": (says("{"), ends(WAITING, WAITING)),
    "JSON that is no object": (says("17"), ends(WAITING, WAITING)),
    "a message without its data": (says({"type": "message", "topic": "a"}), ends(WAITING, WAITING)),
    "a message of a later version": (says({"type": "news", "topic": "a"}), BEFORE),
    "a message for nobody": (says({"type": "message", "topic": "a", "offset": 1, "data": 1}), BEFORE),
    "an ack for nobody": (says({"type": "ack", "id": 4711}), BEFORE),
    "an error without id": (says({"type": "error", "code": "bad_json", "message": "no"}), BEFORE),
    "ten seconds and a half": (
        lambda world: asyncio.sleep(10.5),
        {**ends(WAITING, State.CONNECTED), "asking for a token": WAITING},
    ),
}


class EveryEventInEveryState(unittest.TestCase):
    def test_all(self):
        for state in STATES:
            for event, (happen, after) in EVENTS.items():
                with self.subTest(state=state, event=event), mock.patch("random.random", return_value=0.9):
                    run(self.one(state, happen, after[state]))

    async def one(self, state, happen, want):
        async with World(token=never if state == "asking for a token" else token, longest_pause=5) as world:
            await bring(world, state)
            self.assertIs(world.client.state, BEFORE[state])
            world.is_down = state != "closed"
            done = happen(world)
            if asyncio.iscoroutine(done):
                await done
            await settle()
            self.assertIs(world.client.state, want)
            still_open = sum(not socket.is_closed for socket in world.sockets)
            may_be_open = world.client.state in (State.CONNECTING, State.CONNECTED)
            self.assertLessEqual(still_open, 1 if may_be_open else 0)
            # And it can still be ended, for good.
            await world.client.close()
            count = len(world.sockets)
            await asyncio.sleep(600)
            self.assertIs(world.client.state, State.CLOSED)
            self.assertEqual(len(world.sockets), count)


class Connecting(unittest.TestCase):
    def test_connects_anonymously(self):
        async def test():
            async with World() as world:
                await settle()
                self.assertEqual(world.socket.sent, [{"type": "connect", "id": 1}])
                await world.socket.accepts()
                self.assertEqual(world.told, [Connected("0-1-1", None)])

        run(test())

    def test_urls_that_cannot_work_are_refused_at_once(self):
        with self.assertRaisesRegex(ValueError, "ws:// or wss://"):
            Client("http://server/ws")

    def test_what_cannot_work_at_all_ends_readers_and_is_raised(self):
        async def test():
            client = Client("ws://server:port/ws")
            client.reconnect()
            with self.assertRaisesRegex(CorewireError, "^closed: .*port"):
                await anext(client.subscribe("a"))
            with self.assertRaisesRegex(Exception, "port"):
                await client.close()

        asyncio.run(test())

    def test_a_server_that_is_not_there_is_asked_with_growing_pauses(self):
        async def test():
            world = World()
            world.is_down = True
            async with world:
                await asyncio.sleep(61)
                waits = [event.retry_in for event in world.of(Disconnected)]
                self.assertEqual(waits, [0.5, 1, 2, 4, 8, 15, 15, 15, 15])
                self.assertEqual(world.of(Disconnected)[0].reason, "no connection: down")

        with mock.patch("random.random", return_value=0.5):
            run(test())

    def test_only_a_connection_that_held_makes_the_pauses_short_again(self):
        async def test():
            async with World() as world:
                waits = []
                for held in [0, 9, 0, 10.5, 0]:
                    await world.socket.accepts()
                    await asyncio.sleep(held)
                    world.socket.ends()
                    await world.next_socket()
                    waits.append(world.of(Disconnected)[-1].retry_in)
                self.assertEqual(waits, [0.5, 1, 2, 0.5, 1])

        with mock.patch("random.random", return_value=0.5):
            run(test())

    def test_who_is_told_to_come_later_does(self):
        async def test(code):
            async with World() as world:
                world.socket.ends(code)
                await settle()
                self.assertEqual(world.of(Disconnected)[-1].retry_in, 4)

        with mock.patch("random.random", return_value=0):
            for code in (1013, 4004, 4005):
                run(test(code))

    def test_the_servers_own_pause_is_kept(self):
        async def test():
            async with World() as world:
                world.socket.refuses(await world.socket.take("connect"), "rate_limited", retry_ms=7000)
                await settle()
                self.assertEqual(world.of(Disconnected)[-1].retry_in, 7)

        with mock.patch("random.random", return_value=0):
            run(test())

    def test_reconnect_does_not_wait(self):
        async def test():
            async with World(first_pause=1000, longest_pause=1000) as world:
                world.socket.ends()
                await settle()
                world.client.reconnect()
                await settle()
                self.assertEqual(len(world.sockets), 2)

        run(test())

    def test_a_listener_that_fails_harms_nobody(self):
        async def test():
            async with World() as world:
                world.client._on_event = mock.Mock(side_effect=RuntimeError("of the application"))
                with self.assertLogs("corewire", "ERROR"):
                    await world.socket.accepts()
                self.assertIs(world.client.state, State.CONNECTED)
                world.client._on_event = None

        run(test())


class Tokens(unittest.TestCase):
    def test_a_token_is_asked_for_before_each_connection(self):
        async def test():
            tokens = iter(["T1", "T2"])
            async with World(token=lambda: next(tokens)) as world:
                await world.socket.accepts(user="ada")
                self.assertEqual(world.client.user, "ada")
                world.socket.ends()
                await world.next_socket()
                self.assertIsNone(world.client.user)
                self.assertEqual((await world.socket.take("connect"))["token"], "T2")

        run(test())

    def test_a_token_function_that_fails_or_never_answers_is_asked_again(self):
        async def test(failing):
            is_up = False

            async def source():
                return "T" if is_up else await failing()

            async with World(token=source) as world:
                await asyncio.sleep(10.5)
                self.assertEqual(world.of(Failed)[0].error.code, "token_function")
                self.assertEqual(world.sockets, [])
                is_up = True
                while not world.sockets:
                    await asyncio.sleep(0.1)
                await world.socket.accepts()
                self.assertIs(world.client.state, State.CONNECTED)

        run(test(mock.AsyncMock(side_effect=RuntimeError("down"))))
        run(test(never))

    def test_a_refused_token_is_not_shown_again(self):
        async def test():
            current = "old"
            async with World(token=lambda: current) as world:
                world.socket.refuses(await world.socket.take("connect"), "token_invalid")
                world.socket.ends(4001, "token refused")
                current = "new"
                await world.next_socket()
                self.assertEqual(world.of(Disconnected)[-1].reason, "no: token_invalid")
                self.assertEqual((await world.socket.take("connect"))["token"], "new")
                world.socket.ends(4001, "token refused")
                await asyncio.sleep(30)
                self.assertIs(world.client.state, State.CLOSED)
                self.assertEqual((world.of(Disconnected)[-1].code, len(world.sockets)), (4001, 2))
                world.client.reconnect()
                await settle()
                self.assertEqual(len(world.sockets), 3)

        run(test())

    def test_a_token_that_was_good_is_shown_once_more_when_the_server_wants_a_newer_one(self):
        async def test():
            async with World(token=token) as world:
                await world.socket.accepts()
                world.socket.ends(4002, "token expired")
                await world.next_socket()
                self.assertEqual((await world.socket.take("connect"))["token"], "T")
                world.socket.ends(4002, "token expired")
                await asyncio.sleep(5)
                self.assertIs(world.client.state, State.CLOSED)

        run(test())

    def test_a_fixed_token_that_is_refused_is_the_end(self):
        async def test(code):
            async with World(token="T") as world:
                world.socket.ends(code)
                await settle()
                self.assertIs(world.client.state, State.CLOSED)

        for code in (4001, 4002):
            run(test(code))

    def test_a_token_is_renewed_before_it_expires_on_the_same_connection(self):
        async def test():
            tokens = iter(["T1", "T2", "T3"])
            async with World(token=lambda: next(tokens)) as world:
                await world.socket.accepts(expires_in=630)
                await asyncio.sleep(599)
                self.assertEqual(world.socket.sent, [])
                renewal = await world.socket.take("connect")
                self.assertEqual(renewal["token"], "T2")
                world.socket.acks(renewal, expires_in=100)
                await asyncio.sleep(75.5)
                self.assertEqual((await world.socket.take("connect"))["token"], "T3")
                self.assertEqual((len(world.sockets), len(world.of(Connected))), (1, 1))

        run(test())

    def test_a_renewal_that_fails_is_tried_again_until_the_server_closes(self):
        async def test():
            current = "T1"

            def source():
                if current is None:
                    raise RuntimeError("down")
                return current

            async with World(token=source) as world:
                await world.socket.accepts(expires_in=100)
                current = None
                await asyncio.sleep(75.1)
                self.assertEqual(world.of(Failed)[-1].error.code, "token_function")
                current = "T2"
                world.socket.refuses(await world.socket.take("connect"), "token_invalid")
                self.assertEqual((await world.socket.take("connect"))["token"], "T2")
                self.assertIs(world.client.state, State.CONNECTED)
                current = "T3"
                world.socket.ends(4002, "token expired")
                await world.next_socket()
                await world.socket.accepts()
                self.assertIs(world.client.state, State.CONNECTED)

        run(test())


class Requests(unittest.TestCase):
    def test_a_publication_is_answered_with_its_place(self):
        async def test():
            async with World() as world:
                await world.socket.accepts()
                publishing = asyncio.create_task(world.client.publish("a", None, key="k"))
                message = await world.socket.take("publish")
                want = {"type": "publish", "topic": "a", "key": "k", "data": None, "id": message["id"]}
                self.assertEqual(message, want)
                world.socket.acks(message, epoch="e", offset=7)
                self.assertEqual(await publishing, Position("e", 7))

        run(test())

    def test_a_refusal_is_an_error_with_the_servers_code(self):
        async def test():
            async with World() as world:
                await world.socket.accepts()
                publishing = asyncio.create_task(world.client.publish("a", 1))
                world.socket.refuses(await world.socket.take("publish"), "rate_limited", retry_ms=64)
                with self.assertRaises(CorewireError) as caught:
                    await publishing
                error = caught.exception
                self.assertEqual((error.code, error.retry_after, error.is_temporary), ("rate_limited", 0.064, True))
                self.assertEqual(str(error), "rate_limited: no: rate_limited")

        run(test())

    def test_close_ends_what_reconnect_has_just_begun(self):
        async def test():
            async with World(first_pause=1000, longest_pause=1000) as world:
                world.socket.ends()
                await settle()
                world.client.reconnect()
                async with asyncio.timeout(1):
                    await world.client.close()
                self.assertEqual(world.client.state, CLOSED)
                self.assertEqual(len(world.sockets), 1)

        run(test())

    def test_requests_wait_for_a_connection_in_order_and_not_for_ever(self):
        async def test():
            async with World() as world:
                publishing = asyncio.create_task(world.client.publish("a", 1))
                asking = asyncio.create_task(world.client.presence("a"))
                await asyncio.sleep(9)
                await world.socket.accepts()
                self.assertEqual([message["type"] for message in world.socket.sent], ["publish", "presence"])
                request = (await world.socket.take("presence"))["id"]
                world.socket.says({"type": "presence", "id": request, "topic": "a", "members": [{"user": "u"}]})
                self.assertEqual(await asking, [Member("u")])
                with self.assertRaisesRegex(CorewireError, "^timeout"):
                    await publishing
                world.is_down = True
                world.socket.ends()
                await settle()
                with self.assertRaisesRegex(CorewireError, "^not_sent"):
                    await world.client.publish("a", 3)

        run(test())

    def test_so_many_may_wait_and_no_more(self):
        async def test():
            async with World() as world:
                waiting = [asyncio.create_task(world.client.publish("a", 1)) for _ in range(1000)]
                await settle()
                with self.assertRaisesRegex(CorewireError, "1000 requests wait"):
                    await world.client.publish("a", 1)
                await world.client.close()
                for error in await asyncio.gather(*waiting, return_exceptions=True):
                    self.assertEqual(error.code, "not_sent")
                with self.assertRaisesRegex(CorewireError, "closed"):
                    await world.client.publish("a", 1)

        run(test())

    def test_what_was_on_its_way_when_the_connection_was_lost_is_not_sent_again(self):
        async def test():
            async with World() as world:
                await world.socket.accepts()
                publishing = asyncio.create_task(world.client.publish("a", 1))
                await world.socket.take("publish")
                world.socket.ends()
                with self.assertRaisesRegex(CorewireError, "^connection_lost"):
                    await publishing
                await world.next_socket()
                await world.socket.accepts()
                self.assertEqual(world.socket.sent, [])

        run(test())

    def test_without_an_ack_nothing_is_kept_and_refusals_are_told(self):
        async def test():
            async with World() as world:
                self.assertFalse(world.client.publish_unacked("a", 1))
                await world.socket.accepts()
                self.assertTrue(world.client.publish_unacked("a", [1, 2], key="k"))
                await settle()
                self.assertEqual(world.socket.sent, [{"type": "publish", "topic": "a", "key": "k", "data": [1, 2]}])
                world.socket.says({"type": "error", "code": "forbidden", "message": "no"})
                await settle()
                self.assertEqual(world.of(Failed)[-1].error.code, "forbidden")

        run(test())

    def test_a_clogged_connection_takes_nothing_without_an_ack(self):
        async def test():
            async with World() as world:
                await world.socket.accepts()
                with mock.patch.object(FakeSocket, "send", never_send):
                    sent = [world.client.publish_unacked("a", 1) for _ in range(2000)]
                    self.assertEqual((sent.count(True), sent[0], sent[-1]), (1000, True, False))

        run(test())

    def test_what_cannot_be_said_is_not_published(self):
        async def test():
            async with World() as world:
                await world.socket.accepts()
                for data in (object(), float("nan"), "half a pair: \ud800"):
                    with self.assertRaises((TypeError, ValueError)):
                        await world.client.publish("a", data)
                    with self.assertRaises((TypeError, ValueError)):
                        world.client.publish_unacked("a", data)
                await settle()
                self.assertEqual(world.socket.sent, [])

        run(test())

    def test_a_topic_is_subscribed_to_once(self):
        async def test():
            async with World() as world:
                subscription = world.client.subscribe("a")
                with self.assertRaisesRegex(ValueError, "already"):
                    world.client.subscribe("a")
                subscription.unsubscribe()
                self.assertIsNot(world.client.subscribe("a"), subscription)

        run(test())


async def never_send(*_):
    await never()
