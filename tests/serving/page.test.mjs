// Plain functions of the page, run by `node --test`; tests/serving/test_page_modules.py calls it.
import assert from "node:assert/strict";
import { test } from "node:test";

const from = (name) => import(new URL(`../../src/multihead/serving/page/js/${name}`, import.meta.url));
const { inline, parse, safeAddress } = await from("markdown.js");
const { highlight } = await from("highlight.js");
const conversations = await from("chat/conversation.js");
const { completionTokens, commonPrefix, entropy, perplexity, textOf } = await from("token_list.js");
const { metricRows, readMetrics } = await from("metrics.js");
const { readQuestions } = await from("tasks/classify.js");
const { readTable } = await from("tasks/spans.js");
const { python, openai } = await from("snippets.js");
const { readEvent } = await from("api.js");
const { percent } = await from("format.js");

const strip = (blocks) => JSON.parse(JSON.stringify(blocks, (key, value) => (key === "source" ? undefined : value)));

test("Markdown becomes a tree of plain texts", () => {
  assert.deepEqual(inline("a **b** *c* `d` ~~e~~"), ["a ", { type: "strong", inline: ["b"] }, " ", { type: "em", inline: ["c"] }, " ", { type: "code", text: "d" }, " ", { type: "del", inline: ["e"] }]);
  assert.deepEqual(inline("snake_case_name 2*3*4 \\*plain\\*"), ["snake_case_name 2*3*4 *plain*"]);
  assert.deepEqual(strip(parse("# T\ntext\n***\n> q")), [{ type: "heading", level: 1, inline: ["T"] }, { type: "paragraph", inline: ["text"] }, { type: "rule" }, { type: "quote", blocks: [{ type: "paragraph", inline: ["q"] }] }]);
  assert.deepEqual(strip(parse("```py\na = '<b>'\n```")), [{ type: "code", language: "py", text: "a = '<b>'", open: false }]);
  const [table] = parse("| a | b |\n|:-:|--:|\n| 1 | `x|y` |");
  assert.deepEqual([table.align, table.rows[0]], [["center", "right"], [["1"], [{ type: "code", text: "x|y" }]]]);
  const [list] = parse("3. one\n   - inner\n4. two");
  assert.deepEqual([list.ordered, list.start, list.items.length, list.items[0].blocks[1].type], [true, 3, 2, "list"]);
  assert.deepEqual(parse("- [x] done\n- [ ] open")[0].items.map((item) => item.checked), [true, false]);
});

test("HTML of a model stays text, and only safe addresses become links", () => {
  assert.deepEqual(inline("<script>alert(1)</script>"), ["<script>alert(1)</script>"]);
  for (const address of ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "file:///etc/passwd", "vbscript:x", "//evil", "blob:x"]) {
    assert.equal(safeAddress(address), null, address);
    assert.ok(!JSON.stringify(inline(`[x](${address})`)).includes("link"), address);
  }
  assert.equal(inline("[x](https://a.b/c_(d))")[0].href, "https://a.b/c_(d)");
  assert.equal(inline("see https://a.b/c.")[1].href, "https://a.b/c");
  assert.equal(inline("![x](https://a.b/c.png)")[0].type, "link"); // no picture is fetched
});

test("Markdown that was made to be slow is read in time", () => {
  const begin = performance.now();
  for (const hard of ["*a ".repeat(3000), "[".repeat(5000), "`a``".repeat(2000), "**a".repeat(3000), "> ".repeat(5000), "- ".repeat(5000), "|a".repeat(5000) + "\n" + "|-".repeat(5000), "<h".repeat(9000)]) parse(hard);
  assert.ok(performance.now() - begin < 20000);
});

test("every part of a text is kept by Markdown and by colors", () => {
  const code = "def f(x): # note\n    return 'a\\'b' + 1.5e3 ü 😀\n";
  assert.equal(highlight(code, "python").map(([, text]) => text).join(""), code);
  assert.deepEqual(highlight("return 1", "js").map(([kind]) => kind), ["word", "", "number"]);
  assert.deepEqual(highlight("def", "text"), [["", "def"]]);
});

test("edits and regenerated answers are branches", () => {
  const talk = conversations.newConversation();
  const question = conversations.addMessage(talk, null, { role: "user", content: "Why is the sky blue?" });
  const first = conversations.addMessage(talk, question.id, { role: "assistant", content: "one", created: 1 });
  const second = conversations.addMessage(talk, question.id, { role: "assistant", content: "two", created: 2 });
  assert.equal(talk.title, "Why is the sky blue?");
  assert.deepEqual(conversations.shownPath(talk).map((each) => each.content), ["Why is the sky blue?", "two"]);
  assert.deepEqual(conversations.branchOf(talk, second), { number: 2, count: 2 });
  conversations.turnBranch(talk, second, -1);
  assert.equal(conversations.shownPath(talk)[1], first);
  conversations.removeMessage(talk, first);
  assert.equal(conversations.shownPath(talk)[1], second);
  talk.system = "Be short.";
  assert.deepEqual(conversations.toRequest(talk, conversations.shownPath(talk)).map((each) => each.role), ["system", "user", "assistant"]);
  assert.equal(conversations.findIn([talk], "sky two")[0].conversation, talk);
  assert.equal(conversations.findIn([talk], "sea").length, 0);
  const [back] = conversations.importText(conversations.exportText([talk]));
  assert.notEqual(back.id, talk.id);
  assert.deepEqual(conversations.shownPath(back).map((each) => each.content), ["Why is the sky blue?", "two"]);
  assert.deepEqual(conversations.shownPath(conversations.importText('[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]')[0]).map((each) => each.content), ["a", "b"]);
  for (const bad of ["{", "{}", '[{"role":"root","content":"a"}]', '{"format":"multihead conversations","conversations":[{"messages":{"a":{"role":"user","parent":"zzz","content":""}}}]}']) assert.throws(() => conversations.importText(bad));
});

test("tokens give perplexity, entropy and a common beginning", () => {
  const tokens = completionTokens({ tokens: ["a", " b"], token_logprobs: [null, Math.log(0.5)], top_logprobs: [null, { " b": Math.log(0.5), " c": Math.log(0.25) }] });
  assert.ok(Math.abs(perplexity(tokens).perplexity - 2) < 1e-9);
  assert.ok(Math.abs(entropy(tokens[1]) - 1.5) < 1e-9); // 1/2, 1/4, and 1/4 that is not told
  assert.deepEqual(tokens[1].top.map((each) => each.text), [" b", " c"]);
  assert.equal(commonPrefix(tokens, "a bX").rest, "X");
  assert.equal(commonPrefix(tokens, "aX").kept.length, 1);
  assert.equal(textOf([{ text: "�", bytes: [0xc3] }, { text: "�", bytes: [0xa9] }]), "é");
});

test("metrics are summed over labels, and rates come from two looks", () => {
  const now = readMetrics('# HELP x\nvllm:num_requests_running{model="a"} 1.0\nvllm:num_requests_running{model="b"} 2.0\nvllm:generation_tokens_total{model="a"} 300\nt_bucket{le="1"} 9\n');
  assert.equal(now.get("vllm:num_requests_running"), 3);
  const rows = metricRows(now, new Map([["vllm:generation_tokens_total", 100]]), 2);
  assert.equal(rows.find((row) => row.kind === "rate").value, 100);
});

test("questions, tables, events and numbers are read", () => {
  assert.deepEqual(readQuestions("Is it urgent?\nTeam: a | b\nMood < low | high").map((each) => each.type), ["predicate", "choice", "score"]);
  assert.deepEqual(readTable("| City | People |\n|---|---|\n| Rome | 2,750,000 |"), { City: ["Rome"], People: ["2,750,000"] });
  assert.equal(readEvent(": keep\ndata: {\ndata: }"), "{\n}");
  assert.equal(readEvent(": keep"), null);
  assert.equal(percent(0.9999), ">99.9 %");
  assert.equal(percent(1), "100.0 %");
});

test("requests are shown as programs", () => {
  globalThis.location = { href: "http://127.0.0.1:8000/#chat" };
  assert.equal(python({ a: [true, null, "x\n"] }), '{"a": [True, None, "x\\n"]}');
  const program = openai("v1/chat/completions", { model: "m", messages: [{ role: "user", content: 'say "hi"' }], top_k: 5, stream: true });
  assert.ok(program.includes('extra_body={"top_k": 5}') && program.includes("base_url=\"http://127.0.0.1:8000/v1\""));
  assert.equal(openai("rerank", {}), null);
});
