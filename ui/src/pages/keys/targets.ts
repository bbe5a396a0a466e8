// Where a new secret can be delivered, as it is typed and as the app takes it.
import type { DeliveryTarget } from "../../lib/host";

export type TargetKind = DeliveryTarget["kind"];

export interface TargetDraft {
  /** Tells drafts apart on the page. */
  key: number;
  kind: TargetKind;
  service: string;
  username: string;
  path: string;
  variable: string;
  program: string;
  arguments: string;
  checkProgram: string;
  checkArguments: string;
}

export const KINDS: { value: TargetKind; label: string }[] = [
  { value: "dot_env", label: "Variable in an .env file" },
  { value: "keychain", label: "Keychain entry" },
  { value: "file", label: "File with nothing else" },
  { value: "command", label: "Standard input of a program" },
];

export const newTarget = (key: number, variable: string): TargetDraft => ({
  key,
  kind: "dot_env",
  service: "",
  username: "",
  path: "",
  variable,
  program: "",
  arguments: "",
  checkProgram: "",
  checkArguments: "",
});

/** Arguments are one per line, so that none needs quotes. */
const split = (text: string): string[] => text.split("\n").filter((line) => line !== "");

export function toTarget(draft: TargetDraft): DeliveryTarget {
  switch (draft.kind) {
    case "keychain":
      return { kind: "keychain", service: draft.service.trim(), username: draft.username.trim() };
    case "dot_env":
      return { kind: "dot_env", path: draft.path.trim(), variable: draft.variable.trim() };
    case "file":
      return { kind: "file", path: draft.path.trim() };
    case "command": {
      const check = draft.checkProgram.trim();
      return {
        kind: "command",
        run: { program: draft.program.trim(), arguments: split(draft.arguments) },
        check: check === "" ? null : { program: check, arguments: split(draft.checkArguments) },
      };
    }
  }
}
