/** Requests to this server: JSON and event streams, with errors in plain words. */

import { readKey } from "./storage.js";

/** An error that the page shows: what happened, and what to do. */
export class RequestError extends Error {
  constructor(message, { status = 0, advice = "", param = null } = {}) {
    super(message);
    Object.assign(this, { status, advice, param });
  }
}

const ADVICE = {
  401: "Enter an API key (key symbol, at the bottom of the menu).",
  403: "This key may not do that. Use another one.",
  413: "Send a shorter text.",
  429: "The server is busy. Wait a moment and try again.",
  500: "The server's log has the cause.",
  503: "The server is loading or stopping. Try again in a moment.",
};

export const baseUrl = () => new URL(".", location.href).href;

function headers(extra = {}) {
  const key = readKey();
  return key ? { ...extra, Authorization: `Bearer ${key}` } : extra;
}

async function failure(response) {
  let message = "";
  let param = null;
  try {
    const body = await response.json();
    const error = body.error ?? body.message ?? body.detail;
    message = typeof error === "string" ? error : error?.message ?? "";
    param = error?.param ?? null;
  } catch { /* no JSON */ }
  const wait = response.headers.get("Retry-After");
  const advice = wait && response.status === 429 ? `Try again in ${wait} s.` : param === "model" ? "Choose another model." : ADVICE[response.status] ?? "";
  return new RequestError(message || `The server answered ${response.status} ${response.statusText}.`, { status: response.status, advice, param });
}

async function send(path, { body, signal, method } = {}) {
  let response;
  try {
    response = await fetch(new URL(path, baseUrl()), {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers: headers(body === undefined ? {} : { "Content-Type": "application/json" }),
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestError("The server cannot be reached.", { advice: "Check that it still runs, then try again." });
  }
  if (!response.ok) throw await failure(response);
  return response;
}

const noted = new WeakMap(); // answer -> facts about it that a person must know

/** Return the JSON answer to a request. */
export async function ask(path, options) {
  const response = await send(path, options);
  const answer = await response.json();
  const header = response.headers.get("X-Multihead-Notices");
  if (header && typeof answer === "object") noted.set(answer, JSON.parse(header));
  return answer;
}

/** Return what the server says about an answer, such as words that were not translated. */
export const noticesOf = (answer) => (noted.get(answer) ?? []).map(({ text, more }) => text ?? `${more} more`);

export async function askText(path, options) {
  return (await send(path, options)).text();
}

/** Yield the JSON events of a stream. Leaving the loop ends the request. */
export async function* stream(path, options) {
  const response = await send(path, options);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      rest += value ?? "";
      const events = rest.split(/\r?\n\r?\n/);
      rest = done ? "" : events.pop();
      for (const event of events) {
        const found = readEvent(event);
        if (found === null || found === "[DONE]") continue;
        const data = JSON.parse(found);
        if (data.error) throw new RequestError(data.error.message ?? String(data.error), { param: data.error.param });
        yield data;
      }
      if (done) return;
    }
  } catch (error) {
    if (error instanceof RequestError || error.name === "AbortError") throw error;
    throw new RequestError("The connection to the server broke.", { advice: "What was written so far is kept; continue it or try again." });
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Return the data of one event of a stream; null for a comment. */
export function readEvent(text) {
  const lines = text.split(/\r?\n/).filter((line) => line.startsWith("data:"));
  return lines.length ? lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n") : null;
}
