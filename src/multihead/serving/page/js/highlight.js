/** Colors of code: comments, strings, numbers and words of most languages. Returns pairs of a kind and a text. */

const WORDS = new Set(
  ("abstract and any as assert async await begin bool boolean break case catch char class const continue def default defer del do double "
    + "echo elif else end enum except export extends extern false False final finally float fn for foreach from func function global go if impl "
    + "implements import in include instanceof int interface is lambda let local loop long match mod module mut namespace new nil none None nonlocal not "
    + "null of or package pass private protected pub public raise range readonly ref return self short signed static str string struct super "
    + "switch template then this throw throws trait true True try type typedef typeof undefined union unless unsafe unsigned until use using var "
    + "virtual void where while with yield select from insert into update delete create table join on group by order limit values set")
    .split(" "),
);
const HASH = new Set(["python", "py", "bash", "sh", "shell", "zsh", "ruby", "rb", "yaml", "yml", "toml", "r", "perl", "dockerfile", "makefile", "ini", ""]);
const PLAIN = new Set(["text", "txt", "plain", "markdown", "md", "output", "log"]);
const LONGEST = 60000; // letters; longer code stays plain

const STRING = /^(?:"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`?)/;

export function highlight(code, language = "") {
  const name = language.toLowerCase();
  if (PLAIN.has(name) || code.length > LONGEST) return [["", code]];
  const hash = HASH.has(name);
  const comment = hash ? /^#.*/ : name === "sql" || name === "lua" || name === "haskell" ? /^--.*/ : /^(?:\/\/.*|\/\*[\s\S]*?(?:\*\/|$)|<!--[\s\S]*?(?:-->|$))/;
  const found = [];
  const push = (kind, text) => {
    if (found.length && found.at(-1)[0] === kind) found.at(-1)[1] += text;
    else found.push([kind, text]);
  };
  for (let at = 0; at < code.length; ) {
    const rest = code.slice(at, at + 4000);
    let part;
    if ((part = comment.exec(rest))) push("comment", part[0]);
    else if ((part = STRING.exec(rest))) push("string", part[0]);
    else if ((part = /^\d(?:[\w.]|[eE][+-])*/.exec(rest))) push("number", part[0]);
    else if ((part = /^[\p{L}_$][\p{L}\p{N}_$]*/u.exec(rest))) {
      const called = /^\s*\(/.test(rest.slice(part[0].length, part[0].length + 4));
      push(WORDS.has(part[0]) || (name === "sql" && WORDS.has(part[0].toLowerCase())) ? "word" : called ? "call" : "", part[0]);
    } else part = [rest.match(/^\s+/)?.[0] ?? String.fromCodePoint(rest.codePointAt(0))], push("", part[0]);
    at += part[0].length;
  }
  return found;
}
