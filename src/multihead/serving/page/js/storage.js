/** What the page keeps in this browser: settings, the API key until the tab closes, conversations. */

export function readSetting(name, fallback) {
  try {
    const text = localStorage.getItem(`multihead.${name}`);
    return text === null ? fallback : JSON.parse(text);
  } catch {
    return fallback;
  }
}

export function writeSetting(name, value) {
  try {
    if (value === undefined) localStorage.removeItem(`multihead.${name}`);
    else localStorage.setItem(`multihead.${name}`, JSON.stringify(value));
  } catch { /* a browser that stores nothing still works */ }
}

export function readKey() {
  try { return sessionStorage.getItem("multihead.key") ?? ""; } catch { return ""; }
}

export function writeKey(key) {
  try {
    if (key) sessionStorage.setItem("multihead.key", key);
    else sessionStorage.removeItem("multihead.key");
  } catch { /* as above */ }
}

const memory = new Map(); // of a browser without IndexedDB, such as one in private mode
let opened = null;

function database() {
  opened ??= new Promise((resolve) => {
    try {
      const request = indexedDB.open("multihead", 1);
      request.onupgradeneeded = () => request.result.createObjectStore("conversations", { keyPath: "id" });
      request.onsuccess = () => resolve(request.result);
      request.onerror = request.onblocked = () => resolve(null);
    } catch {
      resolve(null);
    }
  });
  return opened;
}

async function inStore(mode, use) {
  const store = (await database())?.transaction("conversations", mode).objectStore("conversations");
  if (!store) return null;
  return new Promise((resolve, reject) => {
    const request = use(store);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Return all conversations, the newest first. */
export async function allConversations() {
  const found = (await inStore("readonly", (store) => store.getAll())) ?? [...memory.values()];
  return found.sort((one, other) => other.updated - one.updated);
}

export async function saveConversation(conversation) {
  memory.set(conversation.id, conversation);
  await inStore("readwrite", (store) => store.put(structuredClone(conversation)));
}

export async function deleteConversation(id) {
  memory.delete(id);
  await inStore("readwrite", (store) => store.delete(id));
}
