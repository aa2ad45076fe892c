// The little of Markdown that answers are full of: code and emphasis.  Everything else stays as it was written.

/** Return `[{kind: "code", lang, text} | {kind: "text", text}]`; a fence that is still open is code to the end. */
export function blocks(text) {
  const found = [];
  let plain = [];
  let code = null;
  const flush = () => {
    const joined = plain.join("\n").replace(/^\n+|\n+$/g, "");
    if (joined) found.push({ kind: "text", text: joined });
    plain = [];
  };
  for (const line of text.split("\n")) {
    const fence = line.match(/^\s{0,3}(```+|~~~+)\s*(\S*)/);
    if (code) {
      if (fence && fence[1].startsWith(code.fence) && !fence[2]) {
        found.push({ kind: "code", lang: code.lang, text: code.lines.join("\n") });
        code = null;
      } else code.lines.push(line);
    } else if (fence) {
      flush();
      code = { fence: fence[1], lang: fence[2], lines: [] };
    } else plain.push(line);
  }
  if (code) found.push({ kind: "code", lang: code.lang, text: code.lines.join("\n") });
  flush();
  return found;
}

/** Return `[{kind: "text" | "code" | "strong", text}]` for a part without fences. */
export function inline(text) {
  return text
    .split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/)
    .filter((part) => part !== "")
    .map((part) => {
      if (part.length > 2 && part.startsWith("`") && part.endsWith("`")) return { kind: "code", text: part.slice(1, -1) };
      if (part.length > 4 && part.startsWith("**") && part.endsWith("**")) return { kind: "strong", text: part.slice(2, -2) };
      return { kind: "text", text: part };
    });
}
