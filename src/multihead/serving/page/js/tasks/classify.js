/** Classify: a model's own labels, labels that one names, and typed questions. */

import { bars } from "../controls.js";
import { h } from "../dom.js";
import { percent } from "../format.js";
import { inference, TaskTab } from "./task_tab.js";

const rowsOf = (answer) => {
  let found = answer;
  while (Array.isArray(found) && (Array.isArray(found[0]) || found[0]?.labels)) found = found[0];
  if (found.labels) return found.labels.map((label, at) => ({ label, score: found.scores[at] }));
  return Array.isArray(found) ? found : [found];
};

const scoreBars = (rows) => bars(rows.map(({ label, score }) => ({ label, share: score })).sort((one, other) => other.share - one.share), { format: percent });

const list = (text) => text.split(/[,\n]/).map((each) => each.trim()).filter(Boolean);

export const ownLabels = {
  key: "labels", name: "The model's labels", tasks: ["text-classification"],
  lead: "The labels that a classifier was trained for, such as positive and negative.",
  fields: [{ name: "text", label: "Text", placeholder: "A text to classify" }],
  examples: [{ text: "Warm, funny and beautifully acted." }, { text: "Two hours of my life that I will never get back." }, { text: "The plot is thin, but the pictures are stunning." }],
  request: ({ text }, model) => inference(model, "text-classification", text, { top_k: model.labels?.length ? Math.min(model.labels.length, 20) : 20 }),
  show: (answer) => scoreBars(rowsOf(answer)),
  call: ({ text }, model) => ({ task: "text-classification", model: model.source, inputs: text, options: { top_k: null } }),
};

export const givenLabels = {
  key: "zero-shot", name: "Your labels", tasks: ["zero-shot-classification"],
  lead: "Any labels, without training: by inference, by a language model, or by the meaning of the words.",
  fields: [
    { name: "text", label: "Text", placeholder: "A text to classify" },
    { name: "labels", label: "Labels", kind: "line", placeholder: "sport, politics, science", hint: "Separated by commas." },
    { name: "several", label: "True may be", kind: "select", options: [["one", "one label"], ["several", "several labels"]], value: "one" },
  ],
  examples: [{ text: "The rocket reached orbit after a nine minute flight.", labels: "sport, politics, science, cooking" }, { text: "Stir the onions until they are golden.", labels: "sport, politics, science, cooking" }],
  request: ({ text, labels, several }, model) => inference(model, "zero-shot-classification", text, { candidate_labels: list(labels), ...(several === "several" ? { multi_label: true } : {}) }),
  show: (answer) => scoreBars(rowsOf(answer)),
  call: ({ text, labels, several }, model) => ({ task: "zero-shot-classification", model: model.source, inputs: text, options: { candidate_labels: list(labels), ...(several === "several" ? { multi_label: true } : {}) } }),
};

/** Read questions, one a line: "Is it urgent?", "Topic?: a | b | c", "Mood? < bad | fine | good". */
export function readQuestions(text) {
  return text.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => {
    const found = /^(.*?)\s*([:<])\s*([^:<]*\|.*)$/.exec(line);
    if (!found) return { type: "predicate", instructions: line };
    const options = found[3].split("|").map((each) => each.trim()).filter(Boolean);
    if (found[2] === "<") return { type: "score", instructions: found[1], levels: options.map((label) => ({ label })) };
    return { type: "choice", instructions: found[1], choices: options.map((value) => ({ value })) };
  });
}

function answerCard(answer, question) {
  const rows = answer.type === "predicate" ? [{ label: "yes", share: answer.probability }, { label: "no", share: 1 - answer.probability }]
    : answer.probabilities.map((each) => ({ label: String(each.label ?? each.value), share: each.probability }));
  const best = rows.reduce((most, row, at) => (row.share > rows[most].share ? at : most), 0);
  const line = answer.type === "score" ? `score ${answer.score.toFixed(2)} of ${rows.length - 1} · confidence ${percent(answer.confidence)}` : answer.type === "choice" ? `confidence ${percent(answer.confidence)}` : "";
  return h("div.card", {}, h("h3", {}, question.instructions), line && h("p.hint", {}, line), bars(rows, { best, format: percent }));
}

export const decisions = {
  key: "decide", name: "Questions", tasks: ["text-generation", "zero-shot-classification", "text-ranking"],
  lead: "Typed questions about a text, each answered with a probability in one pass: yes or no, a choice, a scale.",
  fields: [
    { name: "text", label: "Text", placeholder: "A text to ask about" },
    { name: "questions", label: "Questions", rows: 4, placeholder: "Is it urgent?\nWhich team: billing | support | sales\nMood < angry | calm | happy",
      hint: "One a line. “: a | b” is a choice, “< low | high” a scale; without either, yes or no." },
  ],
  examples: [{ text: "Hi, I was charged twice for my order last week and nobody answers my mails. Please refund me today!", questions: "Is the customer angry?\nWhich team should answer: billing | technical support | sales\nHow urgent is it < not at all | somewhat | very" }],
  request: ({ text, questions }, model) => ({ path: "v1/decisions", body: { model: model.id, input: text, questions: readQuestions(questions) } }),
  show: (answer, { questions }) => { const asked = readQuestions(questions); return h("div.cards", {}, answer.answers.map((each, at) => answerCard(each, asked[at]))); },
};

export const classifyTab = () => new TaskTab({ id: "classify", title: "Classify", run: "Classify", modes: [ownLabels, givenLabels, decisions] });
