"""What applications do at the wrong moment: closing, beginning anew, and being cancelled."""

import asyncio
import unittest

from corewire import Client, CorewireError, Disconnected, State

from fakes import World, run, settle


class Edges(unittest.TestCase):
    def test_a_client_that_is_closed_before_it_could_begin_is_closed(self):
        async def test():
            told = []
            client = Client("ws://server/ws", on_event=told.append)
            client.reconnect()
            await client.close()
            self.assertEqual(client.state, State.CLOSED)
            self.assertEqual([type(event) for event in told], [Disconnected])
            subscription = client.subscribe("a")
            async with asyncio.timeout(1):
                with self.assertRaises(CorewireError) as caught:
                    await client.publish("a", 1)
            self.assertEqual(caught.exception.code, "not_sent")
            async with World() as world:
                pass
            self.assertEqual(world.client.state, State.CLOSED)

        run(test())

    def test_reconnect_in_on_event_is_heeded_while_it_would_wait(self):
        async def test():
            async with World(first_pause=1000, longest_pause=1000) as world:
                tell = world.told.append

                def on_event(event):
                    tell(event)
                    if isinstance(event, Disconnected) and event.retry_in is not None:
                        world.client.reconnect()

                world.client._on_event = on_event
                world.socket.ends()
                await settle()
                self.assertEqual(len(world.sockets), 2)

        run(test())

    def test_reconnect_in_on_event_is_heeded_after_the_server_refused(self):
        async def test():
            async with World() as world:

                def on_event(event):
                    if isinstance(event, Disconnected) and event.retry_in is None:
                        world.client._on_event = None
                        world.client.reconnect()

                await world.socket.accepts()
                world.client._on_event = on_event
                world.socket.ends(4003)
                await settle()
                self.assertEqual(len(world.sockets), 2)
                await world.socket.accepts()
                self.assertEqual(world.client.state, State.CONNECTED)

        run(test())

    def test_close_does_not_swallow_the_cancellation_of_its_caller(self):
        async def test():
            async with World() as world:
                await world.socket.accepts()
                closing = asyncio.Event()

                async def close_slowly():
                    world.socket.is_closed = True
                    closing.set()
                    await asyncio.sleep(1)

                world.socket.close = close_slowly
                after = []

                async def application():
                    await world.client.close()
                    after.append("went on")

                task = asyncio.create_task(application())
                await closing.wait()
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.assertEqual(after, [])

        run(test())

    def test_ready_fails_when_there_will_be_no_connection(self):
        async def test():
            async with World() as world:
                await world.socket.accepts()
                subscription = world.client.subscribe("a")
                ready = asyncio.create_task(subscription.ready())
                await settle()
                world.socket.ends(4003, "go away")
                async with asyncio.timeout(1):
                    with self.assertRaises(CorewireError) as caught:
                        await ready
                self.assertEqual(caught.exception.code, "closed")
                world.client.reconnect()
                ready = asyncio.create_task(subscription.ready())
                await settle()
                await world.socket.accepts()
                world.socket.acks(await world.socket.take("subscribe"), epoch="e", offset=0)
                await ready

        run(test())

    def test_a_token_function_that_gives_no_text_is_a_token_function_that_failed(self):
        async def test():
            async with World(token=lambda: b"bytes") as world:
                await settle()
                self.assertEqual(world.client.state, State.WAITING)

        run(test())

    def test_an_answer_that_is_none_ends_the_connection_alone(self):
        for said in ['{"type":"ack","id":1}', '{"type":"error","id":1}', "[" * 100_000]:
            with self.subTest(said[:30]):

                async def test():
                    async with World(first_pause=1000, longest_pause=1000) as world:
                        await world.socket.take("connect")
                        world.socket.says(said)
                        await settle()
                        self.assertEqual(world.client.state, State.WAITING)

                run(test())


if __name__ == "__main__":
    unittest.main()
