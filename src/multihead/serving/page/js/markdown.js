/** Markdown to a tree. Every leaf is plain text; `markdown_view.js` makes nodes of it, so that no text becomes HTML. */

const FENCE = /^( {0,3})(`{3,}|~{3,})\s*([^`\s]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])( {1,4}|\t|$)(.*)$/;
const QUOTE = /^ {0,3}> ?/;
const DIVIDER = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const DEEPEST = 12; // lists and quotes inside each other

/** Return the blocks of a text, each with the lines it was made of as `source`. */
export function parse(text) {
  return blocks(text.replace(/\r\n?/g, "\n").split("\n"), 0);
}

function blocks(lines, depth) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) { at++; continue; }
    const [block, end] = readBlock(lines, at, depth);
    found.push({ ...block, source: lines.slice(at, end).join("\n") });
    at = end;
  }
  return found;
}

function readBlock(lines, at, depth) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return readCode(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) return [{ type: "heading", level: heading[1].length, inline: inline(heading[2] ?? "") }, at + 1];
  if (RULE.test(line)) return [{ type: "rule" }, at + 1];
  if (depth < DEEPEST && QUOTE.test(line)) return readQuote(lines, at, depth);
  if (depth < DEEPEST && ITEM.test(line)) return readList(lines, at, depth);
  if (line.includes("|") && at + 1 < lines.length && isTable(line, lines[at + 1])) return readTable(lines, at);
  return readParagraph(lines, at);
}

function readCode(lines, at, [, indent, fence, language]) {
  const closing = new RegExp(`^ {0,3}${fence[0] === "`" ? "`" : "~"}{${fence.length},}[ \\t]*$`);
  let end = at + 1;
  while (end < lines.length && !closing.test(lines[end])) end++;
  const body = lines.slice(at + 1, end).map((line) => line.slice(Math.min(indent.length, line.search(/[^ ]|$/))));
  return [{ type: "code", language, text: body.join("\n"), open: end >= lines.length }, Math.min(end + 1, lines.length)];
}

function readQuote(lines, at, depth) {
  let end = at;
  while (end < lines.length && lines[end].trim() && (QUOTE.test(lines[end]) || !startsBlock(lines[end]))) end++;
  return [{ type: "quote", blocks: blocks(lines.slice(at, end).map((line) => line.replace(QUOTE, "")), depth + 1) }, end];
}

function readList(lines, at, depth) {
  const kind = (marker) => (/\d/.test(marker) ? marker.at(-1) : marker);
  const first = ITEM.exec(lines[at]);
  const items = [];
  let end = at;
  let loose = false;
  while (end < lines.length) {
    const item = ITEM.exec(lines[end]);
    if (!item || kind(item[2]) !== kind(first[2]) || RULE.test(lines[end])) break;
    const width = item[1].length + item[2].length + (item[3].length || 1);
    const body = [item[4]];
    end++;
    while (end < lines.length) {
      const line = lines[end];
      const indent = line.search(/\S|$/);
      if (!line.trim()) {
        const next = lines.slice(end).find((each) => each.trim());
        if (next === undefined || next.search(/\S/) < Math.min(width, 2)) break;
        body.push("");
      } else if (indent >= Math.min(width, 2)) body.push(line.slice(Math.min(indent, width)));
      else if (!startsBlock(line) && body.at(-1) !== "") body.push(line);
      else break;
      end++;
    }
    const task = /^\[([ xX])\] +/.exec(body[0]);
    if (task) body[0] = body[0].slice(task[0].length);
    items.push({ checked: task ? task[1] !== " " : null, blocks: blocks(body, depth + 1) });
    const blank = end;
    while (end < lines.length && !lines[end].trim()) end++;
    if (end > blank && end < lines.length && ITEM.test(lines[end])) loose = true;
    else if (end > blank) { end = blank; break; }
  }
  const ordered = /\d/.test(first[2]);
  return [{ type: "list", ordered, start: ordered ? parseInt(first[2], 10) : 1, loose, items }, end];
}

const startsBlock = (line) => FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);

const isTable = (head, divider) => divider.includes("-") && DIVIDER.test(divider) && cells(head).length === cells(divider).length;

/** Split a row of a table at the bars that are neither escaped nor in code. */
function cells(line) {
  const row = line.trim().replace(/^\|/, "");
  const found = [""];
  let code = false;
  for (let i = 0; i < row.length; i++) {
    if (row[i] === "\\" && row[i + 1] === "|") { found[found.length - 1] += "|"; i++; continue; }
    if (row[i] === "`") code = !code;
    if (row[i] === "|" && !code) found.push("");
    else found[found.length - 1] += row[i];
  }
  if (found.length > 1 && !found.at(-1).trim()) found.pop();
  return found.map((cell) => cell.trim());
}

function readTable(lines, at) {
  const head = cells(lines[at]);
  const align = cells(lines[at + 1]).map((cell) => {
    if (cell.endsWith(":")) return cell.startsWith(":") ? "center" : "right";
    return "left";
  });
  const rows = [];
  let end = at + 2;
  while (end < lines.length && lines[end].trim() && lines[end].includes("|")) {
    const row = cells(lines[end++]);
    rows.push(head.map((_, column) => inline(row[column] ?? "")));
  }
  return [{ type: "table", align, head: head.map((cell) => inline(cell)), rows }, end];
}

function readParagraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !startsBlock(lines[end])) end++;
  return [{ type: "paragraph", inline: inline(lines.slice(at, end).map((line) => line.replace(/^\s+/, "")).join("\n")) }, end];
}

const MARKS = { "**": "strong", __: "strong", "*": "em", _: "em", "~~": "del" };
const isWord = (letter) => letter !== undefined && /[\p{L}\p{N}]/u.test(letter);
const isSpace = (letter) => letter === undefined || /\s/.test(letter);

/** Return the parts of a line: strings, and objects for code, emphasis, links and line ends. */
export function inline(text, depth = 0) {
  const found = [];
  let plain = "";
  const flush = () => { if (plain) found.push(plain); plain = ""; };
  for (let at = 0; at < text.length; ) {
    const part = depth < DEEPEST ? readInline(text, at, depth) : null;
    if (part) {
      flush();
      found.push(part.node);
      at = part.end;
    } else if (text[at] === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "")) {
      plain += text[at + 1];
      at += 2;
    } else plain += text[at++];
  }
  flush();
  return found;
}

function readInline(text, at, depth) {
  const letter = text[at];
  if (letter === "\n") return { node: { type: "break" }, end: at + 1 };
  if (letter === "`") return readInlineCode(text, at);
  if (letter === "[" || (letter === "!" && text[at + 1] === "[")) return readLink(text, at, depth);
  if (letter === "h" && !isWord(text[at - 1])) return readAddress(text, at);
  if (letter === "<") return readAngleAddress(text, at);
  if (letter === "*" || letter === "_" || letter === "~") return readMark(text, at, depth);
  return null;
}

function readInlineCode(text, at) {
  let width = 1;
  while (text[at + width] === "`") width++;
  const fence = "`".repeat(width);
  for (let end = text.indexOf(fence, at + width); end >= 0; end = text.indexOf(fence, end)) {
    let after = end + width;
    if (text[after] !== "`" && text[end - 1] !== "`") {
      const code = text.slice(at + width, end).replace(/\n/g, " ");
      return { node: { type: "code", text: /^ .*\S.* $/.test(code) ? code.slice(1, -1) : code }, end: after };
    }
    while (text[after] === "`") after++;
    end = after;
  }
  return { node: fence, end: at + width };
}

function readLink(text, at, depth) {
  const image = text[at] === "!";
  const begin = at + (image ? 2 : 1);
  let level = 1;
  let close = begin;
  for (; close < text.length && close - begin < 2000; close++) {
    if (text[close] === "\\") close++;
    else if (text[close] === "[") level++;
    else if (text[close] === "]" && --level === 0) break;
  }
  if (text[close] !== "]" || text[close + 1] !== "(") return null;
  const target = /^\(\s*<?([^\s<>()]*(?:\([^\s<>()]*\)[^\s<>()]*)*)>?(?:\s+"[^"]*"|\s+'[^']*')?\s*\)/.exec(text.slice(close + 1, close + 2100));
  if (!target) return null;
  const label = inline(text.slice(begin, close), depth + 1);
  const href = safeAddress(target[1]);
  const end = close + 1 + target[0].length;
  // a picture would be fetched from elsewhere, so that its address is shown instead
  return { node: href ? { type: "link", href, inline: label.length ? label : [target[1]] } : { type: "span", inline: label }, end };
}

/** Return an address that a link may have: http, https and mailto; else null. */
export function safeAddress(address) {
  try {
    const url = new URL(address);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

function readAddress(text, at) {
  const found = /^https?:\/\/[^\s<>"'`\\]+/.exec(text.slice(at, at + 2000));
  if (!found) return null;
  let address = found[0].replace(/[.,;:!?*_~]+$/, "");
  while (address.endsWith(")") && address.split(")").length > address.split("(").length) address = address.slice(0, -1);
  const href = safeAddress(address);
  return href && { node: { type: "link", href, inline: [address] }, end: at + address.length };
}

function readAngleAddress(text, at) {
  const found = /^<(https?:\/\/[^\s<>]+)>/.exec(text.slice(at, at + 2000));
  const href = found && safeAddress(found[1]);
  return href ? { node: { type: "link", href, inline: [found[1]] }, end: at + found[0].length } : null;
}

function readMark(text, at, depth) {
  const letter = text[at];
  const mark = text[at + 1] === letter ? letter + letter : letter;
  if (!MARKS[mark]) return null;
  const begin = at + mark.length;
  if (isSpace(text[begin]) || (letter === "_" && isWord(text[at - 1]))) return null;
  if (mark === "*" && isWord(text[at - 1]) && isWord(text[begin])) return null; // 2*3*4
  for (let end = text.indexOf(mark, begin + 1); end >= 0; end = text.indexOf(mark, end + 1)) {
    if (mark.length === 1 && (text[end + 1] === letter || text[end - 1] === letter)) {
      while (text[end + 1] === letter) end++;
      continue;
    }
    if (isSpace(text[end - 1]) || text[end - 1] === "\\" || (letter === "_" && isWord(text[end + mark.length]))) continue;
    while (mark.length === 2 && text[end + 2] === letter) end++; // ***both***: the outer mark closes last
    return { node: { type: MARKS[mark], inline: inline(text.slice(begin, end), depth + 1) }, end: end + mark.length };
  }
  return null;
}
