/** Tokens with log-probabilities, as the interfaces give them. Plain functions without nodes. */

/** Tokens of a chat's `logprobs.content`. */
export const chatTokens = (content) => (content ?? []).map(({ token, logprob, bytes, top_logprobs: top }) => ({
  text: token, logprob, bytes, top: (top ?? []).map((each) => ({ text: each.token, logprob: each.logprob, bytes: each.bytes })),
}));

/** Tokens of the `logprobs` of /v1/completions. The first token of a prompt has no probability. */
export function completionTokens(found) {
  if (!found) return [];
  return found.tokens.map((text, at) => ({
    text, logprob: found.token_logprobs[at], bytes: null,
    top: Object.entries(found.top_logprobs?.[at] ?? {}).map(([each, logprob]) => ({ text: each, logprob })).sort((one, other) => other.logprob - one.logprob),
  }));
}

export const isScored = (token) => typeof token.logprob === "number";

/** Return the text of tokens. A letter may be spread over several tokens, so that bytes are joined first. */
export function textOf(tokens) {
  if (!tokens.every((token) => token.bytes)) return tokens.map((token) => token.text).join("");
  return new TextDecoder().decode(new Uint8Array(tokens.flatMap((token) => token.bytes)));
}

/** Return the entropy of what may stand at a token, in bits. The tokens that are not told count as one: a lower bound. */
export function entropy(token) {
  const told = token.top?.length ? token.top : isScored(token) ? [token] : [];
  const shares = told.map((each) => Math.exp(each.logprob));
  const rest = 1 - shares.reduce((sum, share) => sum + share, 0);
  return [...shares, rest].reduce((sum, share) => (share > 1e-9 ? sum - share * Math.log2(share) : sum), 0);
}

/** Return how surprising a token was, from 0 (certain) to 1 (less likely than 1 in 400). */
export const surprise = (token) => (isScored(token) ? Math.min(1, -token.logprob / 6) : 0);

/** Return the perplexity of the tokens that have a probability, and how many they are. */
export function perplexity(tokens) {
  const scored = tokens.filter(isScored);
  const sum = scored.reduce((total, token) => total + token.logprob, 0);
  return { tokens: scored.length, perplexity: scored.length ? Math.exp(-sum / scored.length) : NaN, bits: scored.length ? -sum / Math.LN2 : NaN };
}

/** Split tokens at a text: those that it begins with, and the rest of the text. */
export function commonPrefix(tokens, text) {
  let at = 0;
  let count = 0;
  while (count < tokens.length && tokens[count].text && text.startsWith(tokens[count].text, at)) at += tokens[count++].text.length;
  return { kept: tokens.slice(0, count), rest: text.slice(at) };
}
