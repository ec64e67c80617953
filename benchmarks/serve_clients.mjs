// Clients of Node against a running server: one row a check, its cells between tabs. `serve_clients.py --node` runs it.
//
//     node serve_clients.mjs URL CHAT EMBED
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import Anthropic from "@anthropic-ai/sdk";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { cosineSimilarity, embedMany, generateText, Output, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const [url, chat, embed] = process.argv.slice(2);
const question = "What is the capital of France? Answer in one word.";
const texts = ["A dog runs in the park.", "A puppy plays outside.", "Stock prices fell on Monday."];
const City = z.object({ name: z.enum(["Paris", "Rome"]), capital: z.boolean() });
const messages = [{ role: "user", content: question }];

const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0 });
const provider = createOpenAICompatible({
  name: "multihead", baseURL: `${url}/v1`, apiKey: "none", includeUsage: true, supportsStructuredOutputs: true,
});

function similar([dog, puppy, stocks]) {
  assert(cosineSimilarity(dog, puppy) > cosineSimilarity(dog, stocks) + 0.2);
}

const checks = [
  ["openai", "chat, equal to its stream", async () => {
    const asked = { model: chat, messages, temperature: 0, max_tokens: 16 };
    const whole = await openai.chat.completions.create(asked);
    let text = "";
    for await (const chunk of await openai.chat.completions.create({ ...asked, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? "";
    }
    assert(text);
    assert.equal(text, whole.choices[0].message.content);
  }],
  ["openai", "parse: a zod schema", async () => {
    const found = await openai.chat.completions.parse({
      model: chat, messages, max_tokens: 60, response_format: zodResponseFormat(City, "city"),
    });
    City.parse(found.choices[0].message.parsed);
  }],
  ["openai", "runTools", async () => {
    const calls = [];
    const lookUp = {
      type: "function",
      function: {
        name: "population", description: "Get the population of a city.", parse: JSON.parse,
        parameters: { type: "object", properties: { city: { enum: ["Paris"] } }, required: ["city"] },
        function: (args) => { calls.push(args.city); return "2 million"; },
      },
    };
    const runner = openai.chat.completions.runTools({
      model: chat, messages, max_tokens: 40, tools: [lookUp],
      tool_choice: { type: "function", function: { name: "population" } },
    });
    await runner.finalFunctionToolCallResult();
    assert.deepEqual(calls, ["Paris"]);
  }],
  ["openai", "responses, embeddings", async () => {
    const answer = await openai.responses.create({ model: chat, input: question, max_output_tokens: 16 });
    assert(answer.output_text);
    similar((await openai.embeddings.create({ model: embed, input: texts })).data.map((row) => row.embedding));
  }],
  ["@anthropic-ai/sdk", "messages, stream", async () => {
    const whole = await anthropic.messages.create({ model: chat, max_tokens: 16, messages });
    assert(whole.content[0].text);
    const last = await anthropic.messages.stream({ model: chat, max_tokens: 16, messages }).finalMessage();
    assert(last.content[0].text && last.usage.output_tokens > 0);
  }],
  ["ai", "generateText, equal to streamText", async () => {
    const asked = { model: provider(chat), prompt: question, temperature: 0, maxOutputTokens: 16, maxRetries: 0 };
    const whole = await generateText(asked);
    const stream = streamText(asked);
    let text = "";
    for await (const part of stream.textStream) text += part;
    assert(text);
    assert.equal(text, whole.text);
    assert((await stream.usage).outputTokens > 0);
  }],
  ["ai", "an object of a schema", async () => {
    const found = await generateText({
      model: provider(chat), prompt: "Describe Paris.", output: Output.object({ schema: City }), maxOutputTokens: 60,
      maxRetries: 0,
    });
    City.parse(found.output);
  }],
  ["ai", "a demanded tool and its result, whole and streamed", async () => {
    const calls = [];
    const weather = tool({
      description: "Get the weather of a city.", inputSchema: z.object({ city: z.enum(["Paris", "Rome"]) }),
      execute: async ({ city }) => { calls.push(city); return "sunny"; },
    });
    const asked = {
      model: provider(chat), prompt: "How is the weather in Paris?", tools: { weather }, maxOutputTokens: 60,
      maxRetries: 0, stopWhen: stepCountIs(2),
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
    };
    const whole = await generateText(asked);
    assert.equal(whole.steps.length, 2);
    await streamText(asked).consumeStream({ onError: (error) => { throw error; } });
    assert(calls.length >= 2 && calls.every((city) => ["Paris", "Rome"].includes(city)));
  }],
  ["@ai-sdk/openai-compatible", "completionModel, embeddingModel", async () => {
    const found = await generateText({
      model: provider.completionModel(chat), prompt: "Once upon a time", maxOutputTokens: 8, maxRetries: 0,
    });
    assert(found.text);
    similar((await embedMany({ model: provider.embeddingModel(embed), values: texts, maxRetries: 0 })).embeddings);
  }],
];

for (const [name, what, run] of checks) {
  const { version } = JSON.parse(readFileSync(`node_modules/${name}/package.json`));
  const begin = performance.now();
  let result = "passes";
  try {
    await run();
  } catch (error) {
    result = `${error.name}: ${error.message}`.replace(/\s+/g, " ").slice(0, 400);
  }
  console.log([name, version, what, result, (performance.now() - begin) / 1000].join("\t"));
}
