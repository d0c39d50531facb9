// A listener: asks for recommendations, hears all but the last, dislikes that one, and prints what is recommended then.
// `node dist/listener.js alice http://127.0.0.1:8000`
import { BotifyClient } from "./client.js";

declare const process: { argv: string[]; env: Record<string, string | undefined> };

const [, , user = "alice", url = "http://127.0.0.1:8000"] = process.argv;
const botify = new BotifyClient(url, { token: process.env["BOTIFY_TOKEN"] });
const { items } = await botify.recommendations(user, { n: 5 });
const last = items.at(-1)?.item;
if (last === undefined) throw new Error("nothing is recommended: there are no items yet");
await botify.send(
  ...items.slice(0, -1).map(({ item }) => ({ kind: "listen" as const, user, item, fraction: 0.9 })),
  { kind: "dislike", user, item: last },
);
const next = await botify.recommendations(user, { n: 5, exclude: items.map(({ item }) => String(item)), explain: true });
for (const { item, title, artist, reason } of next.items) console.log(`${item}\t${title} by ${artist}: ${reason?.text}`);
console.log(`${user} dislikes ${(await botify.user(user)).dislikes.join(", ")}`);
