"""The client against the real server, through a proxy that cuts connections."""

import asyncio
import contextlib
import signal
import unittest

from corewire import Connected, CorewireError, Disconnected, Gap, Message, State, Subscribed

from fakes import Ear
from stage import Proxy, connect, needs_server, scenario, server, until, url_of


@needs_server
class Live(unittest.TestCase):
    @scenario
    async def test_what_is_published_is_heard_with_its_place_and_key(self):
        with server() as running:
            async with connect(url_of(running)) as client:
                topic, pattern = client.subscribe("chat:room1"), client.subscribe("chat:*")
                ears = [Ear(topic), Ear(pattern)]
                await asyncio.gather(topic.ready(), pattern.ready())
                data = {"text": "Grüße 🌍", "list": [1, None, True]}
                place = await client.publish("chat:room1", data, key="k")
                self.assertEqual((place.offset, len(place.epoch)), (1, 16))
                await until("it is heard", lambda: all(ear.of(Message) for ear in ears))
                for ear in ears:
                    self.assertEqual(ear.of(Message), [Message("chat:room1", 1, data, "k")])
                self.assertTrue(client.publish_unacked("chat:room1", 2))
                await until("the second is heard", lambda: len(ears[0].of(Message)) == 2)
                topic.unsubscribe()
                await client.publish("chat:room1", 3)
                await until("the pattern hears it", lambda: len(ears[1].of(Message)) == 3)
                self.assertEqual(len(ears[0].of(Message)), 2)

    @scenario
    async def test_refusals_have_the_servers_codes(self):
        with server() as running:
            async with connect(url_of(running)) as client:
                cases = [
                    (client.publish("a::b", 1), "bad_topic"),
                    (client.publish("a", "x" * 70_000), "data_too_big"),
                    (client.presence("a"), "presence_disabled"),
                    (client.subscribe("a:**:b").ready(), "bad_topic"),
                    (client.subscribe("a", presence=True).ready(), "presence_disabled"),
                ]
                for asking, code in cases:
                    with self.assertRaises(CorewireError) as caught:
                        await asking
                    self.assertEqual(caught.exception.code, code)

    @scenario
    async def test_a_token_is_refused_for_good_where_nobody_can_check_it(self):
        with server() as running:
            async with connect(url_of(running), token="x.y.z") as client:
                with self.assertRaisesRegex(CorewireError, "^closed"):
                    await anext(client.subscribe("a"))
                self.assertEqual((client.told[-1].code, client.told[-1].retry_in), (4001, None))

    @scenario
    async def test_another_path_is_named_in_the_reason(self):
        with server() as running:
            async with connect(f"ws://{running.address}/elsewhere") as client:
                await until("it is refused", lambda: client.told)
                self.assertRegex(client.told[0].reason, "the server answered 404: WebSocket clients connect to /ws")

    @scenario
    async def test_connections_that_are_cut_again_and_again_lose_nothing_and_repeat_nothing(self):
        count = 400
        with server() as running:
            async with contextlib.AsyncExitStack() as stack:
                way = await stack.enter_async_context(Proxy(running))
                clients = [await stack.enter_async_context(connect(way.url)) for _ in range(5)]
                # One of them reads so slowly that it must come back for the rest.
                limits = [10_000, 10_000, 10_000, 10_000, 30]
                topics = [client.subscribe("a", max_queued=most) for client, most in zip(clients, limits)]
                await asyncio.gather(*(topic.ready() for topic in topics))
                ears = [Ear(topic) for topic in topics]
                publisher = await stack.enter_async_context(connect(url_of(running)))
                for number in range(1, count + 1):
                    await publisher.publish("a", number)
                    if number % 40 == 0:
                        # At most once in forty publications, so that the history of a hundred is enough.
                        are_back = lambda: all(topic.state.value in ("subscribed", "paused") for topic in topics)
                        await until("all are back", are_back)
                        way.cut()
                for ear in ears:
                    await until("all have come", lambda: len(ear.of(Message)) >= count)
                    self.assertEqual(ear.datas, list(range(1, count + 1)))
                    self.assertEqual([event.offset for event in ear.of(Message)], ear.datas)
                    self.assertEqual(ear.of(Gap), [])
                    self.assertGreater(sum(event.recovered is True for event in ear.of(Subscribed)), 7)

    @scenario
    async def test_who_was_away_for_longer_than_the_history_is_told_of_a_gap(self):
        with server() as running:
            async with connect(url_of(running)) as client, connect(url_of(running)) as publisher:
                topic = client.subscribe("a")
                ear = Ear(topic)
                await topic.ready()
                await publisher.publish("a", 1)
                await until("the first", lambda: ear.datas)
                await client.close()
                for number in range(2, 152):
                    await publisher.publish("a", number)
                client.reconnect()
                ear = Ear(topic)
                await until("the gap", lambda: ear.of(Gap))
                await publisher.publish("a", "last")
                await until("the last", lambda: ear.datas)
                # What there is of history would be no whole: the server sends none of it.
                self.assertEqual((ear.datas, topic.position.offset), (["last"], 152))

    @scenario
    async def test_a_server_that_is_killed_and_started_again_is_found_and_its_loss_is_told(self):
        with server() as running:
            async with connect(url_of(running)) as client:
                topic = client.subscribe("a")
                ear = Ear(topic)
                await topic.ready()
                epoch = topic.position.epoch
                for number in range(1, 11):
                    await client.publish("a", number)
                await until("ten", lambda: len(ear.datas) == 10)
                running.kill()
                await until("the end is seen", lambda: client.state is not State.CONNECTED)
                running.restart()
                for number in range(11, 21):
                    await client.publish("a", number)
                await until("twenty", lambda: len(ear.datas) == 20)
                self.assertEqual(ear.datas, list(range(1, 21)))
                self.assertEqual([event.offset for event in ear.of(Message)], [*range(1, 11), *range(1, 11)])
                # History lives in the server's memory: nobody can say that nothing is missing.
                self.assertEqual([name for name in ear.names if name != "Message"], ["Subscribed", "Subscribed", "Gap"])
                self.assertNotEqual(topic.position.epoch, epoch)

    @scenario
    async def test_a_server_that_stops_is_left_with_1001_and_found_again(self):
        with server() as running:
            async with connect(url_of(running)) as client:
                of = lambda kind: [event for event in client.told if isinstance(event, kind)]
                await until("the first connection", lambda: of(Connected))
                await asyncio.to_thread(running.stop)
                await until("the end is told", lambda: of(Disconnected))
                self.assertEqual(of(Disconnected)[0].code, 1001)
                running.restart()
                await until("the second connection", lambda: len(of(Connected)) == 2)

    @scenario
    async def test_a_server_that_falls_silent_is_left_and_what_it_said_meanwhile_is_caught_up(self):
        with server() as running:
            # As long as a busy machine may take for an answer, or the server would be left before it is silent.
            async with connect(url_of(running), ping_interval=1, ping_timeout=1) as client:
                topic = client.subscribe("a")
                ear = Ear(topic)
                await topic.ready()
                await client.publish("a", 1)
                running.process.send_signal(signal.SIGSTOP)
                is_told = lambda: any(isinstance(event, Disconnected) for event in client.told)
                await until("it is left", is_told)
                self.assertEqual(client.told[-1].reason, "the server has fallen silent")
                async with connect(url_of(running)) as publisher:
                    publishing = asyncio.create_task(publisher.publish("a", 2))
                    running.process.send_signal(signal.SIGCONT)
                    await publishing
                await until("the second", lambda: len(ear.datas) == 2)
                self.assertEqual((ear.datas, ear.of(Gap)), ([1, 2], []))
