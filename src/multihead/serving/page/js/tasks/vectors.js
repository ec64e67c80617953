/** Similarity: a matrix of texts, and documents ranked for a query. Tokens: the pieces that a model reads. */

import { bars } from "../controls.js";
import { h } from "../dom.js";
import { counted, figures, shown } from "../format.js";
import { TaskTab } from "./task_tab.js";

const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

function cosine(one, other) {
  let [dot, a, b] = [0, 0, 0];
  for (let i = 0; i < one.length; i++) { dot += one[i] * other[i]; a += one[i] ** 2; b += other[i] ** 2; }
  return dot / Math.max(Math.sqrt(a * b), 1e-12);
}

function matrixView(vectors, texts) {
  const cell = (value, row, column) => {
    const node = h("td", { title: `${texts[row]}\n${texts[column]}` }, value.toFixed(2));
    node.style.setProperty("--share", Math.max(0, value).toFixed(3));
    if (value > 0.55) node.classList.add("deep");
    return node;
  };
  return h("div.scroll", { tabIndex: 0, role: "region", "aria-label": "Similarity of each pair of texts" }, h("table.matrix", {},
    h("thead", {}, h("tr", {}, h("td"), texts.map((_, column) => h("th", { scope: "col" }, String(column + 1))))),
    h("tbody", {}, texts.map((text, row) => h("tr", {}, h("th", { scope: "row", title: text }, h("span", {}, `${row + 1}  ${text}`)), texts.map((_, column) => cell(cosine(vectors[row], vectors[column]), row, column)))))));
}

const pairs = {
  key: "matrix", name: "Matrix", tasks: ["sentence-similarity", "feature-extraction"], lead: "How near texts are in meaning, from 0 to 1 (cosine of their vectors).",
  fields: [{ name: "texts", label: "Texts", rows: 6, placeholder: "One a line" }],
  examples: [{ texts: "How do I reset my password?\nI forgot my login, what now?\nWhere is my parcel?\nMy order has not arrived yet.\nThe weather is lovely today." }],
  request: ({ texts }, model) => ({ path: "v1/embeddings", body: { model: model.id, input: lines(texts) } }),
  show: (answer, { texts }) => matrixView([...answer.data].sort((one, other) => one.index - other.index).map((each) => each.embedding), lines(texts)),
  call: ({ texts }, model) => ({ task: "feature-extraction", model: model.source, inputs: lines(texts) }),
};

const ranked = {
  key: "search", name: "Search", tasks: ["text-ranking", "sentence-similarity"], lead: "Documents in the order in which they fit a query.",
  fields: [{ name: "query", label: "Query", kind: "line", placeholder: "How do I get my money back?" }, { name: "documents", label: "Documents", rows: 6, placeholder: "One a line" }],
  examples: [{ query: "How do I get my money back?", documents: "Refunds are paid within 14 days of a return.\nOur shop opens at nine.\nParcels are sent every evening.\nYou can return any item within 30 days." }],
  request: ({ query, documents }, model) => ({ path: "v1/rerank", body: { model: model.id, query, documents: lines(documents) } }),
  show: (answer, { documents }) => {
    const texts = lines(documents);
    const scores = answer.results.map((each) => each.relevance_score);
    const [low, high] = [Math.min(0, ...scores), Math.max(1e-9, ...scores)];
    return bars(answer.results.map((each) => ({ label: texts[each.index], share: (each.relevance_score - low) / Math.max(1, high - low), detail: figures(each.relevance_score) })));
  },
  call: ({ query, documents }, model) => ({ task: "text-ranking", model: model.source, inputs: { query, documents: lines(documents) } }),
};

export const similarityTab = () => new TaskTab({ id: "similarity", title: "Similarity", run: "Compare", modes: [pairs, ranked] });

function showTokens(answer) {
  const rows = Array.isArray(answer[0]) ? answer[0] : answer;
  const plain = rows.filter((each) => !each.special);
  return h("div", {}, h("p.big-answer", {}, counted(rows.length, "token"), rows.length > plain.length && h("small", {}, ` of which ${rows.length - plain.length} special`)),
    h("ol.pieces", { "aria-label": "Tokens" }, rows.map((each, number) => h("li", { class: each.special ? "special" : null, "data-kind": String(number % 4),
      title: each.special ? "special token" : `characters ${each.start} to ${each.stop}` }, h("span", {}, shown(each.text)), h("small", {}, String(each.id))))),
    h("details", {}, h("summary", {}, "As a table"), h("div.scroll", { tabIndex: 0 }, h("table.facts", {}, h("thead", {}, h("tr", {}, ["", "token", "id", "from", "to"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map((each, number) => h("tr", {}, h("td", {}, String(number)), h("td", {}, h("code", {}, shown(each.text))), h("td", {}, String(each.id)), h("td", {}, String(each.start ?? "")), h("td", {}, String(each.stop ?? "")))))))));
}

export const tokensTab = () => new TaskTab({ id: "tokens", title: "Tokens", run: "Split", modes: [{
  key: "tokens", name: "Tokens", tasks: ["any"], lead: "The pieces that a model reads, with their ids and places in the text.",
  fields: [{ name: "text", label: "Text", rows: 5, placeholder: "A text to split" }],
  examples: [{ text: "Multi-head attention reads naïve text, 1,234.56 and 日本語 😀." }],
  request: ({ text }, model) => ({ path: "tokenize", body: { model: model.id, inputs: text } }),
  show: showTokens,
}] });
