// OpenAI's package for JavaScript asks two servers, whose addresses are given, and prints what it was told as JSON.
import OpenAI, { NotFoundError } from "openai";
import { VERSION } from "openai/version";

const [tinyAddress, echoAddress] = process.argv.slice(2);
const connect = (baseURL) => new OpenAI({ baseURL, apiKey: "none", maxRetries: 0, timeout: 20_000 });
const tiny = connect(tinyAddress);
const echo = connect(echoAddress);

const CALL = '{"name": "weather", "arguments": {"city": "Oslo"}}';
const SCHEMA = {
  type: "object",
  properties: { sky: { enum: ["clear", "grey"] }, warm: { type: "boolean" } },
  required: ["sky", "warm"],
  additionalProperties: false,
};
const question = (model, content) => ({ model, messages: [{ role: "user", content }] });
const brief = { ...question("tiny", "What is llmos?"), max_tokens: 8, temperature: 0 };

async function conversation() {
  const said = await tiny.chat.completions.create(brief);
  return { text: said.choices[0].message.content, finish: said.choices[0].finish_reason, usage: said.usage };
}

async function stream() {
  const texts = [];
  let usage = null;
  for await (const chunk of await tiny.chat.completions.create({
    ...brief,
    stream: true,
    stream_options: { include_usage: true },
  })) {
    texts.push(chunk.choices[0]?.delta.content ?? "");
    usage = chunk.usage ?? usage;
  }
  return { texts: texts.filter(Boolean), usage };
}

async function structured() {
  const said = await tiny.chat.completions.parse({
    ...question("tiny", "What is the weather?"),
    max_tokens: 100,
    response_format: { type: "json_schema", json_schema: { name: "weather", strict: true, schema: SCHEMA } },
  });
  return JSON.parse(said.choices[0].message.content);
}

// The package's own loop: it runs the function that the model calls, and tells the model what came of it.
async function tools() {
  const asked = [];
  const runner = echo.chat.completions.runTools({
    ...question("echo", CALL),
    tools: [
      {
        type: "function",
        function: {
          name: "weather",
          parse: JSON.parse,
          parameters: { type: "object", properties: { city: { type: "string" } } },
          function: ({ city }) => {
            asked.push(city);
            return `rain in ${city}`;
          },
        },
      },
    ],
  });
  return { last: await runner.finalContent(), asked };
}

async function streamedTools() {
  const said = await echo.chat.completions
    .stream({
      ...question("echo", CALL),
      tools: [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }],
    })
    .finalChatCompletion();
  const { name, arguments: given } = said.choices[0].message.tool_calls[0].function;
  return { name, given: JSON.parse(given), finish: said.choices[0].finish_reason };
}

async function embeddings() {
  const found = await echo.embeddings.create({ model: "echo", input: ["one two", "three"] });
  return found.data.map((row) => row.embedding);
}

async function responses() {
  const said = await echo.responses.create({ model: "echo", input: "one two" });
  return said.output_text;
}

async function refusal() {
  try {
    await tiny.chat.completions.create(question("absent", "x"));
  } catch (error) {
    return { known: error instanceof NotFoundError, message: error.message };
  }
}

const found = { version: VERSION };
for (const one of [conversation, stream, structured, tools, streamedTools, embeddings, responses, refusal]) {
  found[one.name] = await one();
}
console.log(JSON.stringify(found));
