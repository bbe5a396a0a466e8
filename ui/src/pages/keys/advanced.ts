// The settings of a new key that most do without: as they are typed, and as the registry takes them.
import type { IssueSettingsRequest } from "../../lib/host";
import { DAY, HOUR, MINUTE, SECOND } from "../../lib/time";

export const PERIODS = [
  { value: SECOND, label: "second" },
  { value: MINUTE, label: "minute" },
  { value: HOUR, label: "hour" },
  { value: DAY, label: "day" },
];

export interface AdvancedDraft {
  environment: string;
  /** As `<input type="datetime-local">` gives it. */
  notBefore: string;
  tags: string;
  note: string;
  networks: string;
  origins: string;
  limitCount: string;
  limitPeriod: number;
  limitBurst: string;
  credits: string;
  oneTime: boolean;
}

export const emptyDraft = (): AdvancedDraft => ({
  environment: "",
  notBefore: "",
  tags: "",
  note: "",
  networks: "",
  origins: "",
  limitCount: "",
  limitPeriod: MINUTE,
  limitBurst: "",
  credits: "",
  oneTime: false,
});

export type AdvancedField =
  "environment" | "notBefore" | "tags" | "note" | "networks" | "origins" | "limit" | "credits" | "oneTime";
export type AdvancedProblems = Partial<Record<AdvancedField, string>>;

/** Which field an error of the registry is about. */
export const FIELD_OF_CODE: Record<string, AdvancedField> = {
  invalid_environment: "environment",
  never_valid: "notBefore",
  invalid_tag: "tags",
  invalid_note: "note",
  invalid_network: "networks",
  invalid_origin: "origins",
  invalid_limit: "limit",
  invalid_credits: "credits",
  invalid_canary: "oneTime",
};

const isWhole = (text: string): boolean => /^\d{1,15}$/.test(text);

/** Numbers and times that are none; everything else is judged by the registry. */
export function draftProblems(draft: AdvancedDraft): AdvancedProblems {
  const problems: AdvancedProblems = {};
  const [count, burst, credits] = [draft.limitCount.trim(), draft.limitBurst.trim(), draft.credits.trim()];
  if (draft.notBefore !== "" && Number.isNaN(Date.parse(draft.notBefore)))
    problems.notBefore = "Enter a date and a time.";
  const within = (text: string): boolean => isWhole(text) && Number(text) < 2 ** 32;
  if (count === "" && burst !== "") problems.limit = "Enter how many uses a period may have.";
  else if (count !== "" && !(within(count) && Number(count) > 0))
    problems.limit = "Enter a whole number of uses, at least 1.";
  else if (burst !== "" && !within(burst))
    problems.limit = "Enter a whole number of uses that may come at once.";
  if (credits !== "" && !isWhole(credits)) problems.credits = "Enter a whole number.";
  return problems;
}

const lines = (text: string): string[] =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);

/** What the registry is asked; null where nothing was typed. */
export function toSettings(draft: AdvancedDraft): IssueSettingsRequest | null {
  const count = draft.limitCount.trim();
  const settings: IssueSettingsRequest = {
    environment: draft.environment.trim(),
    notBefore: draft.notBefore === "" ? null : Date.parse(draft.notBefore),
    tags: draft.tags.split(/[\s,]+/).filter(Boolean),
    note: draft.note.trim(),
    networks: lines(draft.networks),
    origins: lines(draft.origins),
    limit:
      count === ""
        ? null
        : { count: Number(count), periodMs: draft.limitPeriod, burst: Number(draft.limitBurst.trim() || 0) },
    credits: draft.credits.trim() === "" ? null : Number(draft.credits.trim()),
    oneTime: draft.oneTime,
  };
  const nothing = JSON.stringify(settings) === JSON.stringify(emptySettings);
  return nothing ? null : settings;
}

const emptySettings: IssueSettingsRequest = {
  environment: "",
  notBefore: null,
  tags: [],
  note: "",
  networks: [],
  origins: [],
  limit: null,
  credits: null,
  oneTime: false,
};
