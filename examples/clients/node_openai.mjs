// Asks the LLM service with OpenAI's Node client: a whole answer, then one piece by piece.
// npm install openai; node node_openai.mjs
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.PARLEY_URL ?? "http://localhost:8081/v1",
  apiKey: process.env.PARLEY_KEY ?? "none", // The caller's key; anything while no callers are configured.
});

const answer = await client.chat.completions.create({
  model: "default",
  messages: [{ role: "user", content: "Hello!" }],
});
console.log(answer.choices[0].message.content);

const chunks = await client.chat.completions.create({
  model: "default",
  messages: [{ role: "user", content: "Show me markdown" }],
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of chunks) {
  process.stdout.write(chunk.choices[0]?.delta.content ?? "");
  if (chunk.usage) console.log(`\n(${chunk.usage.total_tokens} tokens)`);
}
