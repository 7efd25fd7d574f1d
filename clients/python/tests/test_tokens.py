"""The client and the real server: users, presence, tokens that expire, limits."""

import asyncio
import contextlib
import tempfile
import time
import unittest
from pathlib import Path

from corewire import Connected, CorewireError, Disconnected, Failed, Gap, Join, Leave, State, Subscribed

from fakes import Ear
from stage import SECRET, ask_api, connect, free_port, needs_server, scenario, server, sign, until, url_of

NAMESPACES = """
[namespace.members]
subscribe = "token"
publish = "token"
presence = "on"

[namespace.vip]
subscribe = "signed"
"""


@contextlib.contextmanager
def start(*options):
    with tempfile.TemporaryDirectory() as folder:
        config, secret = Path(folder, "corewire.toml"), Path(folder, "secret")
        config.write_text(NAMESPACES)
        secret.write_text(SECRET)
        given = ["--config", str(config), "--token-secret", str(secret), "--token-leeway", "0", *options]
        with server(*given) as running:
            yield running


def claims(user, **more):
    return {"sub": user, "subscribe": ["members:*"], "publish": ["members:*"], **more}


def told(client, kind):
    return [event for event in client.told if isinstance(event, kind)]


@needs_server
class Tokens(unittest.TestCase):
    async def refused(self, asking, code):
        with self.assertRaises(CorewireError) as caught:
            await asking
        self.assertEqual(caught.exception.code, code)

    @scenario
    async def test_users_meet(self):
        with start() as running:
            token = sign(claims("ada", info={"name": "Ada"}))
            async with connect(url_of(running), token=token) as ada:
                room = ada.subscribe("members:room", presence=True)
                ear = Ear(room)
                await room.ready()
                self.assertEqual(ada.user, "ada")
                async with connect(url_of(running), token=lambda: sign(claims("bob"))) as bob:
                    await bob.subscribe("members:room").ready()
                    await bob.publish("members:room", "hello")
                    await until("she hears him", lambda: ear.datas == ["hello"])
                    await until("she sees him", lambda: Join("bob") in ear.events)
                    members = sorted(await ada.presence("members:room"), key=lambda member: member.user)
                    known = [(member.user, member.info) for member in members]
                    self.assertEqual(known, [("ada", {"name": "Ada"}), ("bob", None)])
                await until("he goes", lambda: Leave("bob") in ear.events)
                await self.refused(ada.publish("vip:room", 1), "forbidden")

    @scenario
    async def test_the_anonymous_are_told_what_they_need(self):
        with start() as running:
            async with connect(url_of(running)) as client:
                await self.refused(client.subscribe("members:room").ready(), "token_required")
                await self.refused(client.publish("members:room", 1), "token_required")

    @scenario
    async def test_a_refused_token_is_the_end_of_a_client_that_has_no_other(self):
        with start("--anonymous=off") as running:
            wrong = [sign(claims("ada"), secret=SECRET.upper()), sign(claims("ada"), -5), None]
            for token in wrong:
                async with connect(url_of(running), token=token) as client:
                    await until("it is closed", lambda: client.state is State.CLOSED)
                    self.assertIn(told(client, Disconnected)[0].code, (4001, 4002))
            tokens = iter(["nonsense", sign(claims("ada"))])
            async with connect(url_of(running), token=lambda: next(tokens)) as client:
                await until("it is connected", lambda: told(client, Connected))
                self.assertEqual(client.user, "ada")

    @scenario
    async def test_tokens_are_renewed_before_they_expire_or_the_server_closes(self):
        with start() as running:
            began = time.monotonic()
            count = 0

            async def token():
                nonlocal count
                count += 1
                return sign(claims("ada"), 6)

            async with contextlib.AsyncExitStack() as stack:
                renewing = await stack.enter_async_context(connect(url_of(running), token=token))
                fixed = await stack.enter_async_context(connect(url_of(running), token=sign(claims("bob"), 4)))
                signed = await stack.enter_async_context(connect(url_of(running), token=sign(claims("eve"))))
                asked = []

                async def topic_token(topic):
                    asked.append(topic)
                    return sign({"sub": "eve", "topic": topic}, 3)

                topic = signed.subscribe("vip:a", token=topic_token)
                ear = Ear(topic)
                await asyncio.sleep(6.5)  # the first has expired
                self.assertEqual([type(event) for event in renewing.told], [Connected])
                # Each is asked for when three quarters of the one before have passed, five seconds and some.
                self.assertIn(count, range(2, 2 + int((time.monotonic() - began) / 3.75)))
                await renewing.publish("members:room", "still here")
                self.assertIs(fixed.state, State.CLOSED)
                self.assertEqual(fixed.told[-1], Disconnected(4002, fixed.told[-1].reason, None))
                await until("it is renewed twice", lambda: len(ear.of(Subscribed)) >= 3)
                self.assertEqual(asked[:3], ["vip:a"] * 3)
                self.assertEqual((ear.of(Gap), told(signed, Failed)), ([], []))
                await self.refused(signed.subscribe("vip:b").ready(), "token_required")
                wrong = sign({"sub": "eve", "topic": "vip:a"})
                await self.refused(signed.subscribe("vip:c", token=wrong).ready(), "token_invalid")

    @scenario
    async def test_who_says_too_much_is_told_when_to_go_on(self):
        with start("--message-rate", "20/s") as running:
            async with connect(url_of(running)) as client:
                # So many that the seconds that a busy machine may take over them do not let all of them pass.
                publishing = [client.publish("a", 1) for _ in range(100)]
                answers = await asyncio.gather(*publishing, return_exceptions=True)
                error = next(answer for answer in answers if isinstance(answer, CorewireError))
                self.assertEqual(error.code, "rate_limited")
                self.assertTrue(0 < error.retry_after <= 1, error.retry_after)
                await asyncio.sleep(error.retry_after)
                await client.publish("a", 1)

    @scenario
    async def test_what_the_back_end_does_to_a_user(self):
        port = free_port()
        with start("--admin", f"127.0.0.1:{port}") as running:

            async def ask(path, **body):
                return await asyncio.to_thread(ask_api, port, path, body)

            count = 0

            def token():
                nonlocal count
                count += 1
                return sign(claims("ada"))

            async with connect(url_of(running), token=token) as client:
                room = client.subscribe("members:room")
                ear = Ear(room)
                await room.ready()
                await ask("publish", topic="members:room", data={"from": "the back end"}, key="k")
                await until("it is heard", lambda: ear.datas == [{"from": "the back end"}])
                await ask("refresh", user="ada", expires_in=0)
                await until("it is back, with another token", lambda: len(ear.of(Subscribed)) == 2)
                self.assertEqual((told(client, Disconnected)[0].code, count, ear.of(Gap)), (4002, 2, []))
                await ask("unsubscribe", user="ada", topic="members:room")
                await until("it is over", lambda: ear.error)
                self.assertEqual(ear.error.code, "forbidden")
                await ask("disconnect", user="ada", reason="enough")
                await until("it is closed", lambda: client.state is State.CLOSED)
                self.assertEqual(client.told[-1], Disconnected(4003, "enough", None))
