// An application in TypeScript. It is never run: it must compile, and what is wrong in it must not.

import { Client, CorewireError, type ClientOptions, type Message, type Position } from "corewire-client";

const options: ClientOptions = { token: async () => "T", requestTimeoutMs: 5000 };
const client = new Client(new URL("wss://example.com/ws"), options);
const off: () => void = client.on("disconnected", ({ code, reason, retryInMs }) => {
  const shown: string = `${code.toFixed()} ${reason} ${retryInMs?.toFixed()}`;
  void shown;
});
off();

const room = client.subscribe("chat:room1", { presence: true, token: (topic: string) => topic.toUpperCase() });
room.on("message", (message: Message) => void message.offset.toFixed());
room.on("join", ({ user, info }) => void [user.length, info]);
room.on("gap", ({ topic }) => void topic.length);

export async function main() {
  const { recovered, position } = await room.ready;
  const place: Position = await client.publish("a", { any: ["json"] }, { key: "k" });
  const sent: boolean = client.publishUnacked("a", 1);
  const users: string[] = (await client.presence("a")).map((member) => member.user);
  try {
    await client.publish("a", 1);
  } catch (error) {
    if (error instanceof CorewireError && error.isTemporary) void error.retryMs;
  }
  return { recovered, position, place, sent, users };
}

// @ts-expect-error there is no such event
client.on("nonsense", () => {});
// @ts-expect-error a message has no `text`
room.on("message", ({ text }) => void text);
// @ts-expect-error a state is not a number
const state: number = client.state;
// @ts-expect-error there is no such option
new Client("ws://example.com/ws", { tokens: "T" });
// @ts-expect-error it belongs to the inside
room._start();
void state;
