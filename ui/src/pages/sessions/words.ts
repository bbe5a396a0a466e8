// What a session is called: a server's terms, in words for people.
import type { SessionView } from "../../lib/host";
import { harmless } from "../../lib/text";

const known = (text: string): boolean => text !== "" && text !== "unknown";

/** "Firefox 128 on Linux", as far as the browser told. */
export function sessionName(session: SessionView): string {
  const browser = known(session.browser) ? harmless(session.browser, 60) : "";
  const os = known(session.os) ? harmless(session.os, 40) : "";
  if (browser && os) return `${browser} on ${os}`;
  return browser || os || "An unknown browser";
}

const DEVICES: Record<string, string> = {
  computer: "Computer",
  phone: "Phone",
  tablet: "Tablet",
  program: "Program",
};
export const deviceWord = (device: string): string => DEVICES[device] ?? "Unknown device";

// RFC 8176, and what a Keywright server adds. What a method implies is not said twice.
const METHODS: Record<string, string> = {
  pwd: "password",
  otp: "one-time code",
  hwk: "passkey",
  swk: "passkey",
  pop: "passkey",
  webauthn: "passkey",
  passkey: "passkey",
  rec: "recovery code",
  fed: "another provider",
  ext: "another provider",
};
const IMPLIED = new Set(["mfa", "user"]);

/** "Password and one-time code". */
export function methodWords(methods: string[]): string {
  const words = [
    ...new Set(methods.filter((one) => !IMPLIED.has(one)).map((one) => METHODS[one] ?? harmless(one, 40))),
  ];
  if (words.length === 0) return "Not told";
  const text =
    words.length === 1 ? (words[0] as string) : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
  return text[0]?.toUpperCase() + text.slice(1);
}

const SCOPES: Record<string, string> = {
  openid: "know who you are",
  profile: "see your name",
  email: "see your e-mail address",
  offline_access: "stay signed in",
  account: "see and end your sessions",
};
/** What an application may do, in words where they are known. */
export const scopeWord = (scope: string): string => SCOPES[scope] ?? harmless(scope, 60);
