/** One streamed answer of a chat: text, thoughts, tool calls, token probabilities and speed. */

import { stream } from "../api.js";
import { chatTokens } from "../token_list.js";

/** Return the body of a request. `continues` lets the model go on with the last message. */
export function chatBody({ model, messages, settings, probabilities, continues }) {
  return {
    model, messages, stream: true, stream_options: { include_usage: true },
    ...(probabilities ? { logprobs: true, top_logprobs: 8 } : {}),
    ...(continues ? { add_generation_prompt: false, continue_final_message: true } : {}),
    ...settings,
  };
}

/** Stream an answer. `onupdate` gets the answer so far; the last one is returned. Throws RequestError, AbortError. */
export async function streamChat(request, { signal, onupdate = () => {} } = {}) {
  const begin = performance.now();
  const answer = { content: "", reasoning: "", tools: [], tokens: [], finish: null, stats: {} };
  let first = null;
  const measure = (usage) => {
    const now = performance.now();
    const written = usage?.completion_tokens ?? Math.max(answer.tokens.length, answer.pieces ?? 0);
    answer.stats = {
      written, read: usage?.prompt_tokens ?? null, cached: usage?.prompt_tokens_details?.cached_tokens ?? null,
      first: first === null ? null : (first - begin) / 1000, seconds: (now - begin) / 1000,
      speed: first !== null && written > 1 && now > first ? (written - 1) / ((now - first) / 1000) : null,
    };
  };
  for await (const event of stream("v1/chat/completions", { body: chatBody(request), signal })) {
    const choice = event.choices?.[0];
    if (choice) {
      const { delta = {} } = choice;
      const said = delta.content || delta.reasoning_content || delta.reasoning || delta.tool_calls?.length;
      if (said) {
        first ??= performance.now();
        answer.pieces = (answer.pieces ?? 0) + 1;
      }
      answer.content += delta.content ?? "";
      answer.reasoning += delta.reasoning_content ?? delta.reasoning ?? "";
      for (const call of delta.tool_calls ?? []) addCall(answer.tools, call);
      if (choice.logprobs?.content) answer.tokens.push(...chatTokens(choice.logprobs.content));
      if (choice.finish_reason) answer.finish = choice.finish_reason;
    }
    measure(event.usage);
    onupdate(answer);
  }
  return answer;
}

function addCall(tools, { index = tools.length, id, function: call = {} }) {
  const known = (tools[index] ??= { id: "", type: "function", function: { name: "", arguments: "" } });
  if (id) known.id = id;
  known.function.name += call.name ?? "";
  known.function.arguments += call.arguments ?? "";
}
