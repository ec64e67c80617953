/** A request of the page as a program: curl, Python clients, and multihead without a server. */

import { baseUrl } from "./api.js";
import { copyButton, openDialog, segments } from "./controls.js";
import { fill, h } from "./dom.js";
import { colored } from "./markdown_view.js";

/** Return a value as Python writes it. */
export function python(value, indent = 0) {
  const pad = "    ".repeat(indent + 1);
  const end = "    ".repeat(indent);
  if (value === null || value === undefined) return "None";
  if (value === true || value === false) return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value).replace(/\\u([0-9a-f]{4})/gi, "\\u$1");
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const parts = Array.isArray(value) ? value.map((each) => python(each, indent + 1))
    : Object.entries(value).map(([key, each]) => `${JSON.stringify(key)}: ${python(each, indent + 1)}`);
  if (!parts.length) return open + close;
  const line = open + parts.join(", ") + close;
  return line.length < 88 - indent * 4 && !line.includes("\n") ? line : `${open}\n${parts.map((part) => `${pad}${part},\n`).join("")}${end}${close}`;
}

const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Return a request as a curl command. */
export function curl(path, body) {
  const key = ' \\\n  -H "Authorization: Bearer $MULTIHEAD_API_KEY"';
  const url = new URL(path, baseUrl()).href;
  if (body === undefined) return `curl ${shell(url)}${key}`;
  return `curl ${shell(url)}${key} \\\n  -H 'Content-Type: application/json' \\\n  -d ${shell(JSON.stringify(body, null, 2))}`;
}

const STANDARD = {
  "v1/chat/completions": ["client.chat.completions.create", ("messages model stream stream_options temperature top_p max_tokens max_completion_tokens seed stop n "
    + "logprobs top_logprobs presence_penalty frequency_penalty logit_bias tools tool_choice response_format user").split(" ")],
  "v1/completions": ["client.completions.create", ("prompt model stream stream_options temperature top_p max_tokens seed stop n logprobs echo presence_penalty frequency_penalty "
    + "logit_bias user").split(" ")],
  "v1/embeddings": ["client.embeddings.create", ["input", "model", "encoding_format", "dimensions", "user"]],
};

/** Return a request as a program with the openai client, or null for an interface that it does not know. */
export function openai(path, body) {
  const known = STANDARD[path];
  if (!known) return null;
  const { stream_options: _, ...rest } = body;
  const own = Object.entries(rest).filter(([key]) => known[1].includes(key)).map(([key, value]) => `    ${key}=${python(value, 1)},\n`);
  const extra = Object.fromEntries(Object.entries(rest).filter(([key]) => !known[1].includes(key)));
  if (Object.keys(extra).length) own.push(`    extra_body=${python(extra, 1)},\n`);
  const read = path.endsWith("chat/completions")
    ? body.stream ? "for chunk in answer:\n    if chunk.choices:\n        print(chunk.choices[0].delta.content or \"\", end=\"\", flush=True)" : "print(answer.choices[0].message.content)"
    : path.endsWith("embeddings") ? "print(len(answer.data), len(answer.data[0].embedding))"
      : body.stream ? "for chunk in answer:\n    if chunk.choices:\n        print(chunk.choices[0].text, end=\"\", flush=True)" : "print(answer.choices[0].text)";
  return `import os\n\nfrom openai import OpenAI\n\nclient = OpenAI(base_url=${JSON.stringify(new URL("v1", baseUrl()).href)}, api_key=os.environ.get("MULTIHEAD_API_KEY", "none"))\n`
    + `answer = ${known[0]}(\n${own.join("")})\n${read}`;
}

/** Return a request as a program with Python's standard library. */
export function plainPython(path, body) {
  return "import json\nimport os\nimport urllib.request\n\n"
    + `body = ${python(body)}\n`
    + `request = urllib.request.Request(\n    ${JSON.stringify(new URL(path, baseUrl()).href)},\n    json.dumps(body).encode(),\n`
    + '    {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ.get(\'MULTIHEAD_API_KEY\', \'\')}"},\n)\n'
    + "print(json.load(urllib.request.urlopen(request)))";
}

/** Return the same computation without a server. `call` is {task, model, inputs, options}. */
export function library({ task, model, inputs, options = {} }) {
  const more = Object.entries(options).map(([key, value]) => `, ${key}=${python(value)}`).join("");
  return `from multihead import pipeline\n\npipe = pipeline(${JSON.stringify(task)}, ${JSON.stringify(model)})\nprint(pipe(${python(inputs)}${more}))`;
}

/** Show a request as programs. `request` is {path, body, call}. */
export function showSnippets({ path, body, call }) {
  const programs = [["curl", "curl", "bash", curl(path, body)]];
  const client = body && openai(path, body);
  if (client) programs.push(["openai", "Python, openai", "python", client]);
  else if (body) programs.push(["python", "Python", "python", plainPython(path, body)]);
  if (call) programs.push(["multihead", "Python, multihead", "python", library(call)]);
  const shown = h("pre", { tabIndex: 0 });
  const copy = h("span");
  const choose = (key) => {
    const [, , language, text] = programs.find(([each]) => each === key);
    fill(shown, h("code", {}, colored(text, language)));
    fill(copy, copyButton(() => text, "Copy the program"));
  };
  choose(programs[0][0]);
  openDialog("This request as a program", h("div", {},
    h("div.row.spread", {}, segments("Program", programs.map(([key, name]) => [key, name]), programs[0][0], choose), copy),
    h("figure.code", {}, shown),
    h("p.hint", {}, "MULTIHEAD_API_KEY is the key of this server; without keys it is ignored.")), { kind: "wide" });
}
