// What is typed into the dialogs of keys, and what the registry is asked.
import { expect, it } from "vitest";
import { DAY, HOUR, MINUTE } from "../../src/lib/time";
import { draftProblems, emptyDraft, toSettings } from "../../src/pages/keys/advanced";
import { overlapText, stepsOf } from "../../src/pages/keys/rotation";
import { newTarget, toTarget } from "../../src/pages/keys/targets";

it("an untouched advanced part asks for nothing", () => {
  expect(toSettings(emptyDraft())).toBeNull();
  expect(draftProblems(emptyDraft())).toEqual({});
});

it("lists are split, numbers are numbers, blanks are nothing", () => {
  const settings = toSettings({
    ...emptyDraft(),
    tags: " a, b\nc ",
    networks: "192.0.2.0/24\n\n 2001:db8::/48 ",
    limitCount: " 60 ",
    limitPeriod: MINUTE,
    credits: "0",
    notBefore: "2026-11-21T08:00",
  });
  expect(settings).toMatchObject({
    tags: ["a", "b", "c"],
    networks: ["192.0.2.0/24", "2001:db8::/48"],
    origins: [],
    limit: { count: 60, periodMs: MINUTE, burst: 0 },
    credits: 0,
    notBefore: new Date(2026, 10, 21, 8).getTime(),
  });
});

it("what is no number is said at its field", () => {
  const problems = (change: object) => Object.keys(draftProblems({ ...emptyDraft(), ...change }));
  expect(problems({ limitCount: "1.5" })).toEqual(["limit"]);
  expect(problems({ limitCount: "0" })).toEqual(["limit"]);
  expect(problems({ limitCount: "5000000000" })).toEqual(["limit"]);
  expect(problems({ limitBurst: "3" })).toEqual(["limit"]);
  expect(problems({ credits: "-1" })).toEqual(["credits"]);
  expect(problems({ limitCount: "60", limitBurst: "5", credits: "9" })).toEqual([]);
});

it("the overlap is told by its clock", () => {
  expect(overlapText("from_first_use", DAY, null, 0)).toBe(
    "works until 24 hours after the new one is first used",
  );
  expect(overlapText("from_issue", HOUR, null, 0)).toMatch(/^works for 1 hour, until /);
  expect(overlapText("until_drained", 7 * DAY, 12 * HOUR, 0)).toBe(
    "works until nobody has used it for 12 hours, at most 7 days after the new one is first used",
  );
  expect(overlapText("from_first_use", 0, null, 0)).toMatch(/^stops at once/);
});

it("only steps that the state allows are offered", () => {
  const rotation = {
    id: "r",
    state: "pending" as const,
    clock: "from_first_use" as const,
    overlapMs: DAY,
    silentMs: null,
    createdAt: 0,
    oldSecretWorksUntil: null,
    pendingUntil: null,
  };
  expect(stepsOf(rotation)).toEqual(["cancel"]);
  expect(stepsOf({ ...rotation, state: "overlapping" })).toEqual(["finish", "roll_back"]);
});

it("a program's arguments are lines, and a read-back is only asked for where one is named", () => {
  const draft = {
    ...newTarget(0, "X"),
    kind: "command" as const,
    program: " /bin/p ",
    arguments: "-a\nb c\n",
  };
  expect(toTarget(draft)).toEqual({
    kind: "command",
    run: { program: "/bin/p", arguments: ["-a", "b c"] },
    check: null,
  });
  expect(toTarget({ ...draft, checkProgram: "/bin/q" })).toMatchObject({
    check: { program: "/bin/q", arguments: [] },
  });
});
