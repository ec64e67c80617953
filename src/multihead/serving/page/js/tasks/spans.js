/** Tasks that point at parts of a text: answers to questions, entities, masks. */

import { bars, copyButton } from "../controls.js";
import { h } from "../dom.js";
import { percent } from "../format.js";
import { inference, TaskTab } from "./task_tab.js";

const listOf = (answer) => (Array.isArray(answer) ? answer.flat() : [answer]);

/** Return a text with one span marked. Places are counted in characters, not in the units of JavaScript. */
export function marked(text, start, end) {
  const letters = [...text];
  return h("div.output-text.context", { tabIndex: 0 }, letters.slice(0, start).join(""), h("mark", {}, letters.slice(start, end).join("")), letters.slice(end).join(""));
}

const MOON = "Apollo 11 was the first mission to land people on the Moon. Neil Armstrong and Buzz Aldrin landed the module Eagle on July 20, 1969. Michael Collins stayed in orbit and flew the command module Columbia alone while they were on the surface.";

function showAnswers(answer, { context }) {
  const found = listOf(answer);
  const none = found.find((each) => each.no_answer !== undefined)?.no_answer ?? found.find((each) => !each.answer)?.score;
  const spans = found.filter((each) => each.answer);
  const box = h("div.context-box");
  const choose = (each) => box.replaceChildren(marked(context, each.start, each.end));
  if (spans[0]?.end > spans[0]?.start) choose(spans[0]);
  else box.replaceChildren(h("div.output-text.context", {}, context));
  const best = found[0];
  return h("div", {}, h("p.big-answer", { class: best.answer ? null : "none" }, best.answer || "The text does not say."),
    h("h3", {}, "Where it stands"), box, h("h3", {}, "All answers"),
    bars([...spans.map((each) => ({ label: each.answer, share: each.score, onclick: () => choose(each) })), ...(none === undefined ? [] : [{ label: "no answer", share: none }])],
      { format: percent, best: best.answer ? 0 : spans.length }));
}

export const answerFromText = {
  key: "text", name: "From a text", tasks: ["question-answering"],
  lead: "The answer is a part of the text, or none.",
  fields: [{ name: "question", label: "Question", kind: "line", placeholder: "Who stayed in orbit?" }, { name: "context", label: "Text", rows: 8, placeholder: "A text that may hold the answer" }],
  examples: [{ question: "Who stayed in orbit?", context: MOON }, { question: "When did they land?", context: MOON }, { name: "One without an answer", values: { question: "How much did the rocket cost?", context: MOON } }],
  request: ({ question, context }, model) => inference(model, "question-answering", { question, context }, model.task === "question-answering" ? { top_k: 5, handle_impossible_answer: true, no_answer: true } : {}),
  show: showAnswers,
  call: ({ question, context }, model) => ({ task: "question-answering", model: model.source, inputs: { question, context } }),
};

/** Read a table: cells separated by tabs, bars, semicolons or commas; the first row names the columns. */
export function readTable(text) {
  const lines = text.trim().split("\n").filter((line) => line.trim() && !/^[\s|:-]+$/.test(line));
  const mark = ["\t", "|", ";", ","].find((each) => lines[0]?.includes(each)) ?? ",";
  const rows = lines.map((line) => line.replace(/^\s*\||\|\s*$/g, "").split(mark).map((cell) => cell.trim()));
  return Object.fromEntries((rows[0] ?? []).map((name, column) => [name, rows.slice(1).map((row) => row[column] ?? "")]));
}

function showTable(answer, { table }) {
  const found = listOf(answer)[0];
  const columns = readTable(table);
  const chosen = new Set((found.coordinates ?? []).map((each) => each.join()));
  const names = Object.keys(columns);
  const count = Math.max(0, ...names.map((name) => columns[name].length));
  return h("div", {}, h("p.big-answer", { class: found.answer ? null : "none" }, found.answer || "The table does not say."),
    h("div.scroll", { tabIndex: 0, role: "region", "aria-label": "table" }, h("table.facts", {}, h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, Array.from({ length: count }, (_, row) => h("tr", {}, names.map((name, column) => h("td", {}, chosen.has(`${row},${column}`) ? h("mark", {}, columns[name][row]) : columns[name][row]))))))));
}

export const answerFromTable = {
  key: "table", name: "From a table", tasks: ["table-question-answering"],
  lead: "Look-ups, counts, sums, averages, extremes and comparisons are computed from the cells.",
  fields: [{ name: "query", label: "Question", kind: "line", placeholder: "Which city is the largest?" }, { name: "table", label: "Table", rows: 6, placeholder: "City | People\nRome | 2,800,000", hint: "Paste from a sheet, or write cells with | or commas between them." }],
  examples: [{ query: "Which city has the most people?", table: "City | Country | People\nLisbon | Portugal | 545,000\nRome | Italy | 2,750,000\nVienna | Austria | 2,000,000" }],
  request: ({ query, table }, model) => inference(model, "table-question-answering", { query, table: readTable(table) }),
  show: showTable,
  call: ({ query, table }, model) => ({ task: "table-question-answering", model: model.source, inputs: { query, table: readTable(table) } }),
};

export const answerTab = () => new TaskTab({ id: "answer", title: "Answer", run: "Answer", modes: [answerFromText, answerFromTable] });

function showEntities(answer, { text }) {
  const found = listOf(answer).filter((each) => each.start !== null && each.start !== undefined).sort((one, other) => one.start - other.start);
  const kinds = [...new Set(found.map((each) => each.entity_group ?? each.entity))];
  const letters = [...text];
  const parts = [];
  let at = 0;
  for (const each of found) {
    if (each.start < at) continue;
    const kind = each.entity_group ?? each.entity;
    parts.push(letters.slice(at, each.start).join(""), h("mark.entity", { "data-kind": String(kinds.indexOf(kind) % 6), title: percent(each.score) }, letters.slice(each.start, each.end).join(""), h("small", {}, kind)));
    at = each.end;
  }
  parts.push(letters.slice(at).join(""));
  return h("div", {}, h("div.output-text.context", { tabIndex: 0 }, parts), found.length ? null : h("p.hint", {}, "No entity was found."));
}

export const entitiesTab = () => new TaskTab({ id: "entities", title: "Entities", run: "Find", modes: [{
  key: "entities", name: "Entities", tasks: ["token-classification"], lead: "Names of people, places and organizations, or what the model was trained to mark.",
  fields: [{ name: "text", label: "Text", rows: 6, placeholder: "A text with names" }],
  examples: [{ text: "Ada Lovelace worked with Charles Babbage in London." }],
  request: ({ text }, model) => inference(model, "token-classification", text, { aggregation_strategy: "simple" }),
  show: showEntities,
  call: ({ text }, model) => ({ task: "token-classification", model: model.source, inputs: text, options: { aggregation_strategy: "simple" } }),
}] });

function showMasks(answer) {
  const masks = Array.isArray(answer[0]) ? answer : [answer];
  return h("div.cards", {}, masks.map((rows, number) => h("div.card", {}, masks.length > 1 && h("h3", {}, `Mask ${number + 1}`),
    bars(rows.map((each) => ({ label: each.token_str.trim() || "␣", share: each.score })), { format: percent }),
    masks.length === 1 && h("div.row.spread", {}, h("span", {}, rows[0].sequence), copyButton(() => rows[0].sequence)))));
}

export const maskTab = () => new TaskTab({ id: "fill-mask", title: "Fill mask", run: "Fill", modes: [{
  key: "mask", name: "Fill mask", tasks: ["fill-mask"], lead: "Words for each gap of a text. Write ___ for a gap, or the model's own mask.",
  fields: [{ name: "text", label: "Text", placeholder: "The capital of France is ___." }, { name: "top", label: "Words", kind: "number", value: "8", min: 1, max: 50 }],
  examples: [{ text: "The capital of France is ___." }],
  request: ({ text, top }, model) => inference(model, "fill-mask", text.replaceAll("___", model.mask ?? "[MASK]"), { top_k: Number(top) || 8 }),
  show: showMasks,
  call: ({ text, top }, model) => ({ task: "fill-mask", model: model.source, inputs: text.replaceAll("___", model.mask ?? "[MASK]"), options: { top_k: Number(top) || 8 } }),
}] });
