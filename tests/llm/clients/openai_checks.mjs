// Checks OpenAI's Node client against the service; `programs.py` says how it reports.
import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const baseURL = process.env.PARLEY_URL;
const client = new OpenAI({ baseURL, apiKey: process.env.PARLEY_KEY });
const model = "chat";
const GREETING = ["Hel", "lo, ", "wörld", "! 你好"];
const tools = [{ type: "function", function: { name: "get_weather", parameters: { type: "object", properties: {} } } }];
const ask = (content, more = {}) => ({ model, messages: [{ role: "user", content }], ...more });
const chat = (content, more, options) => client.chat.completions.create(ask(content, more), options);
const collect = async (stream) => {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
};

const checks = {
  async plain() {
    const answer = await chat("greet", { top_k: 5 });
    assert.equal(answer.choices[0].message.content, GREETING.join(""));
    assert.equal(answer.usage.total_tokens, 12);
    assert.ok(answer.vendor_note.big > 2 ** 59, "a field that nobody knows");
    assert.ok(answer._request_id);
  },
  async stream() {
    const chunks = await collect(await chat("greet", { stream: true, stream_options: { include_usage: true } }));
    const texts = chunks.map((chunk) => chunk.choices[0]?.delta.content).filter(Boolean);
    assert.deepEqual(texts, GREETING);
    assert.equal(chunks.findLast((chunk) => chunk.choices.length).choices[0].finish_reason, "stop");
    assert.equal(chunks.at(-1).usage.total_tokens, 12);
    const without = await collect(await chat("greet", { stream: true }));
    assert.ok(without.every((chunk) => !chunk.usage));
  },
  async tools() {
    const answer = await chat("weather", { tools });
    assert.equal(JSON.parse(answer.choices[0].message.tool_calls[0].function.arguments).city, "Paris");
    const streamed = client.chat.completions.stream(ask("weather", { tools }));
    const { choices } = await streamed.finalChatCompletion();
    assert.equal(choices[0].finish_reason, "tool_calls");
    assert.equal(choices[0].message.tool_calls[0].function.name, "get_weather");
  },
  async wrong_key() {
    const other = new OpenAI({ baseURL, apiKey: "wrong" });
    await assert.rejects(other.chat.completions.create(ask("greet")), (error) => {
      assert.ok(error instanceof OpenAI.AuthenticationError);
      assert.equal(error.code, "unauthenticated");
      return true;
    });
  },
  async own_limit() {
    const limited = new OpenAI({ baseURL, apiKey: process.env.PARLEY_LIMITED_KEY, maxRetries: 0 });
    await limited.chat.completions.create(ask("greet"));
    await assert.rejects(limited.chat.completions.create(ask("greet")), (error) => {
      assert.ok(error instanceof OpenAI.RateLimitError);
      assert.equal(error.code, "rate_limited");
      assert.ok(Number(error.headers.get("retry-after")) >= 1);
      return true;
    });
  },
  async retry_waits() {
    const answer = await chat("busy");
    assert.equal(answer.choices[0].message.content, GREETING.join(""));
  },
  async no_vain_retry() {
    await assert.rejects(chat("revoked"), OpenAI.InternalServerError);
  },
  async broken() {
    const texts = [];
    await assert.rejects(async () => {
      for await (const chunk of await chat("break", { stream: true })) texts.push(chunk.choices[0].delta.content);
    }, OpenAI.APIError);
    assert.equal(texts.join(""), "Hel");
    const kinds = [];
    await assert.rejects(async () => {
      const events = await client.responses.create({ model, input: "break off", stream: true });
      for await (const event of events) kinds.push(event.type);
    }, OpenAI.APIError);
    assert.ok(kinds.includes("response.output_text.delta"));
  },
  async cancel() {
    const stream = await chat("endless", { stream: true });
    for await (const chunk of stream) {
      if (!chunk.choices[0].delta.content) continue;
      console.log("left endless");
      break; // The client aborts the request when the loop is left.
    }
  },
  async models() {
    const models = await collect(client.models.list());
    assert.deepEqual(models.map((one) => one.id), ["chat"]);
  },
  async completions() {
    assert.equal((await client.completions.create({ model, prompt: "Say" })).choices[0].text, "One answer.");
    const chunks = await collect(await client.completions.create({ model, prompt: "Say", stream: true }));
    assert.deepEqual(chunks.map((chunk) => chunk.choices[0].text), ["One ", "answer."]);
  },
  async responses() {
    assert.equal((await client.responses.create({ model, input: "Say" })).output_text, "One answer.");
    const events = await collect(await client.responses.create({ model, input: "Say", stream: true }));
    const deltas = events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta);
    assert.deepEqual(deltas, ["One ", "answer."]);
    assert.equal(events.at(-1).type, "response.completed");
  },
  async embeddings() {
    const { data } = await client.embeddings.create({ model, input: ["one", "three"] });
    assert.deepEqual(data.map((one) => [...one.embedding]), [[3, 0.5, -0.25], [5, 0.5, -0.25]]);
  },
  async images() {
    assert.ok((await client.images.generate({ model, prompt: "A fox" })).data[0].b64_json);
    const image = await toFile(Buffer.from("picture"), "a.png", { type: "image/png" });
    assert.ok((await client.images.edit({ model, image, prompt: "Bluer" })).data[0].b64_json);
    const events = await collect(await client.images.generate({ model, prompt: "A fox", stream: true }));
    assert.equal(events.at(-1).type, "image_generation.completed");
  },
  async audio() {
    const file = await toFile(Buffer.from("RIFF sound"), "hello.wav", { type: "audio/wav" });
    assert.equal((await client.audio.transcriptions.create({ model, file })).text, "Hello from a file.");
    const events = await collect(await client.audio.transcriptions.create({ model, file, stream: true }));
    assert.equal(events.at(-1).text, "Hello from a file.");
    assert.equal((await client.audio.translations.create({ model, file })).text, "Hello from a file.");
    const speech = await client.audio.speech.create({ model, input: "Hi", voice: "alloy" });
    assert.equal(Buffer.from(await speech.arrayBuffer()).length, 256 * 200);
  },
  async moderations() {
    const { results } = await client.moderations.create({ model, input: ["one", "two"] });
    assert.deepEqual(results.map((one) => one.categories["harassment/threatening"]), [false, false]);
  },
};

await Promise.all(
  Object.entries(checks).map(async ([name, check]) => {
    try {
      await check();
      console.log(`ok ${name}`);
    } catch (error) {
      console.log(`failed ${name}: ${String(error?.stack ?? error).replaceAll("\n", " | ")}`);
    }
  }),
);
