/** Conversations as trees: an edited question or another answer is a branch. Plain functions without nodes. */

export const freshKey = () => crypto.randomUUID?.() ?? `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;

/** Return an empty conversation. `messages` are by id; `chosen` names the child that is shown of each message ("" is the root). */
export function newConversation() {
  return { id: freshKey(), title: "", system: "", created: Date.now(), updated: Date.now(), messages: {}, chosen: {} };
}

export const isEmpty = (conversation) => !Object.keys(conversation.messages).length;

/** Add a message below another one (null for the first) and show it. Returns the message. */
export function addMessage(conversation, parent, entries) {
  const message = { id: freshKey(), parent: parent ?? "", created: Date.now(), content: "", ...entries };
  conversation.messages[message.id] = message;
  conversation.chosen[message.parent] = message.id;
  conversation.updated = Date.now();
  if (!conversation.title && message.role === "user") conversation.title = titleOf(message.content);
  return message;
}

/** Return the first line of a text, cut at a word. */
export function titleOf(text) {
  const line = text.trim().split("\n")[0].replace(/\s+/g, " ");
  return line.length <= 48 ? line : `${line.slice(0, 48).replace(/\s+\S*$/, "")}…`;
}

/** Return the messages below one, the oldest first. */
export const children = (conversation, id) =>
  Object.values(conversation.messages).filter((each) => each.parent === (id ?? "")).sort((one, other) => one.created - other.created);

/** Return the messages that are shown, in their order. */
export function shownPath(conversation) {
  const path = [];
  for (let id = conversation.chosen[""]; id && conversation.messages[id]; id = conversation.chosen[id]) path.push(conversation.messages[id]);
  return path;
}

/** Return the messages from the first to this one. */
export function pathTo(conversation, id) {
  const path = [];
  for (let message = conversation.messages[id]; message; message = conversation.messages[message.parent]) path.unshift(message);
  return path;
}

/** Return {number, count} of a message among its branches, counted from 1. */
export function branchOf(conversation, message) {
  const all = children(conversation, message.parent);
  return { number: all.findIndex((each) => each.id === message.id) + 1, count: all.length };
}

/** Show the branch that is `step` further. */
export function turnBranch(conversation, message, step) {
  const all = children(conversation, message.parent);
  const at = all.findIndex((each) => each.id === message.id);
  const next = all[(at + step + all.length) % all.length];
  conversation.chosen[message.parent] = next.id;
  return next;
}

/** Remove a message and all below it; a branch beside it is shown instead. */
export function removeMessage(conversation, message) {
  for (const child of children(conversation, message.id)) removeMessage(conversation, child);
  delete conversation.messages[message.id];
  delete conversation.chosen[message.id];
  const rest = children(conversation, message.parent);
  if (conversation.chosen[message.parent] === message.id) {
    if (rest.length) conversation.chosen[message.parent] = rest.at(-1).id;
    else delete conversation.chosen[message.parent];
  }
  conversation.updated = Date.now();
}

/** Return messages as a request has them. */
export function toRequest(conversation, path) {
  const messages = path.map((message) => {
    if (message.role === "tool") return { role: "tool", tool_call_id: message.callId, content: message.content };
    const own = { role: message.role, content: message.content };
    if (message.tools?.length) own.tool_calls = message.tools;
    return own;
  });
  return conversation.system.trim() ? [{ role: "system", content: conversation.system }, ...messages] : messages;
}

/** Return the conversations whose title or messages have all words of a query, with a piece of text around the first. */
export function findIn(conversations, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [];
  for (const conversation of conversations) {
    const texts = [conversation.title, ...Object.values(conversation.messages).map((each) => each.content)];
    if (!words.every((word) => texts.some((text) => text.toLowerCase().includes(word)))) continue;
    const text = texts.slice(1).find((each) => words.length && each.toLowerCase().includes(words[0])) ?? "";
    const at = words.length ? text.toLowerCase().indexOf(words[0]) : 0;
    found.push({ conversation, excerpt: words.length && text ? `${at > 24 ? "…" : ""}${text.slice(Math.max(0, at - 24), at + 60)}` : "" });
  }
  return found;
}

const FORMAT = "multihead conversations";

export const exportText = (conversations) => JSON.stringify({ format: FORMAT, version: 1, conversations }, null, 2);

/** Return the conversations of a file: of this page, or lists of {role, content}. Throws an Error that says what is wrong. */
export function importText(text) {
  let data;
  try {
    data = JSON.parse(text);
  } catch {
    throw new Error("The file is no JSON.");
  }
  if (data?.format === FORMAT && Array.isArray(data.conversations)) return data.conversations.map(checked);
  const messages = Array.isArray(data) ? data : data?.messages;
  if (!Array.isArray(messages)) throw new Error("The file has no conversations: neither an export of this page nor a list of messages.");
  const conversation = newConversation();
  let parent = null;
  for (const each of messages) {
    const content = typeof each?.content === "string" ? each.content : JSON.stringify(each?.content ?? "");
    if (each?.role === "system" && parent === null) conversation.system = content;
    else if (["user", "assistant", "tool"].includes(each?.role)) parent = addMessage(conversation, parent, { role: each.role, content }).id;
    else throw new Error(`A message has the role ${JSON.stringify(each?.role)}.`);
  }
  return [conversation];
}

/** Return a conversation of a file with only what this page knows, under a new id. */
function checked(data) {
  const conversation = { ...newConversation(), title: String(data.title ?? ""), system: String(data.system ?? "") };
  const ids = new Set(Object.keys(data.messages ?? {}));
  for (const [id, message] of Object.entries(data.messages ?? {})) {
    if (!["user", "assistant", "tool"].includes(message.role) || (message.parent && !ids.has(message.parent))) throw new Error("A message of the file has no place in its conversation.");
    conversation.messages[id] = { ...message, id, content: String(message.content ?? ""), created: Number(message.created) || Date.now() };
  }
  for (const [parent, child] of Object.entries(data.chosen ?? {})) if (ids.has(child)) conversation.chosen[parent] = child;
  return conversation;
}
