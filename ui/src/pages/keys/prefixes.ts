// The prefixes a person can choose without thinking, and what they mean.
export interface PrefixPreset {
  id: string;
  text: string;
}

export const PREFIXES: PrefixPreset[] = [
  {
    id: "sk_live",
    text: "Secret key for production. Belongs on servers only, never in code that users receive.",
  },
  { id: "sk_test", text: "Secret key for tests. Works like a live one, on test data." },
  {
    id: "pk_live",
    text: "Publishable key for production. May be seen by anyone, so it holds low-risk scopes only.",
  },
  { id: "pk_test", text: "Publishable key for tests. Low-risk scopes only." },
];

const SHAPE = /^[A-Za-z][A-Za-z0-9_]{0,14}[A-Za-z0-9]$/;

/** What is wrong with an own prefix, in words; null if nothing is. */
export function prefixProblem(prefix: string): string | null {
  if (prefix === "") return "Enter a prefix, for example acme_live.";
  if (prefix.length < 2 || prefix.length > 16) return "A prefix has 2 to 16 characters.";
  if (!SHAPE.test(prefix)) return "Use letters, digits and _; begin with a letter and do not end with _.";
  return null;
}

/** Publishable keys are seen by everyone who uses the program. */
export const isPublishable = (prefix: string): boolean => prefix.startsWith("pk_");
