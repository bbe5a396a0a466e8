// Hostile text made harmless for the eye: what a person or a provider typed is shown as text,
// without characters that reorder, hide or overprint their neighbours.

// C0 and C1 controls, bidirectional controls, zero-width and line separators, tags.
/* eslint-disable no-control-regex */
const INVISIBLE =
  /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|[\u{e0000}-\u{e007f}]/gu;

/** Text with invisible and reordering characters replaced, and at most `max` characters. */
export function harmless(text: string, max = 200): string {
  // Cut before walking: a name may be megabytes long.
  const head = text.length > max * 2 ? text.slice(0, max * 2) : text;
  const visible = head.replace(INVISIBLE, "\ufffd");
  const chars = Array.from(visible);
  return chars.length > max || head.length < text.length ? chars.slice(0, max).join("") + "…" : visible;
}

/** Where a server is, for people: its address without the scheme. Hostile text. */
export function hostOf(issuer: string): string {
  return harmless(issuer.replace(/^https?:\/\//, ""), 60);
}

/** `n thing` or `n things`, with grouped digits. */
export function count(n: number, one: string, many = `${one}s`): string {
  return `${n.toLocaleString("en-US")} ${n === 1 ? one : many}`;
}
