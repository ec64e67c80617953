/** Tasks that write a text: translation, summaries. */

import { copyButton } from "../controls.js";
import { h } from "../dom.js";
import { counted } from "../format.js";
import { inference, TaskTab } from "./task_tab.js";

const first = (answer) => (Array.isArray(answer) ? answer.flat()[0] : answer);
const given = (entries) => Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== "" && value !== undefined && value !== null));
const words = (text) => text.trim().split(/\s+/).filter(Boolean).length;

const paper = (text, below) => h("div.output", {}, h("div.output-text", { tabIndex: 0 }, text), h("div.row.spread", {}, h("span.hint", {}, below), copyButton(() => text)));

const ARTICLE = `Apollo 11 was the first mission to land people on the Moon. Commander Neil Armstrong and pilot Buzz Aldrin landed the lunar module Eagle on July 20, 1969. Armstrong became the first person to step onto the surface six hours later. Aldrin joined him 19 minutes afterwards, and they spent about two and a quarter hours together exploring the site, which they named Tranquility Base. Michael Collins flew the command module Columbia alone in lunar orbit while they were on the surface. The two astronauts collected 21.5 kilograms of lunar material to bring back to Earth. The mission ended when they splashed down in the Pacific Ocean on July 24 after more than eight days in space.`;

function translateParameters({ source, target }) {
  return given({ src_lang: source, tgt_lang: target });
}

export const translation = {
  key: "translate", name: "Translate", layout: "side", tasks: ["translation"],
  lead: "Texts of any length. Lists, tables, code and addresses keep their form.",
  fields: [
    { name: "text", label: "Text", rows: 9, placeholder: "A text to translate" },
    { name: "source", label: "From", kind: "line", short: true, optional: true, placeholder: "the model's language", hint: "For models of several languages, such as “en”." },
    { name: "target", label: "To", kind: "line", short: true, optional: true, placeholder: "the model's language" },
  ],
  examples: [{ name: "Run an example", values: { text: "The children were playing happily in the garden.\n\n- Could you tell me where the train station is?\n- The next train leaves at 9:45." } }],
  request: (values, model) => inference(model, "translation", values.text, translateParameters(values)),
  show: (answer) => { const text = first(answer).translation_text ?? first(answer).generated_text; return paper(text, counted(words(text), "word")); },
  call: ({ text, source, target }, model) => ({ task: source && target ? `translation_${source}_to_${target}` : "translation", model: model.source, inputs: text }),
};

export const summary = {
  key: "summarize", name: "Summarize", layout: "side", tasks: ["summarization"],
  lead: "Documents of any length are read in sections.",
  fields: [
    { name: "text", label: "Text", rows: 12, placeholder: "A text to summarize" },
    { name: "sentences", label: "Sentences at most", kind: "number", min: 1, max: 100 },
    { name: "words", label: "Words at most", kind: "number", min: 1, max: 5000 },
  ],
  examples: [{ name: "Run an example", values: { text: ARTICLE, sentences: "2" } }],
  request: ({ text, sentences, words: most }, model) => inference(model, "summarization", text, given({ sentences: sentences && Number(sentences), max_words: most && Number(most) })),
  show: (answer, values) => {
    const text = first(answer).summary_text ?? first(answer).generated_text;
    return paper(text, `${counted(words(text), "word")}, ${Math.round((100 * words(text)) / Math.max(1, words(values.text)))} % of the text`);
  },
  call: ({ text, sentences, words: most }, model) => ({ task: "summarization", model: model.source, inputs: text, options: given({ sentences: sentences && Number(sentences), max_words: most && Number(most) }) }),
};

export const translateTab = () => new TaskTab({ id: "translate", title: "Translate", run: "Translate", modes: [translation] });
export const summarizeTab = () => new TaskTab({ id: "summarize", title: "Summarize", run: "Summarize", modes: [summary] });
