// What a notice says: what happened, what to do about it, and how it looks. Names are foreign text.
import Bird from "@lucide/svelte/icons/bird";
import CalendarClock from "@lucide/svelte/icons/calendar-clock";
import Hourglass from "@lucide/svelte/icons/hourglass";
import KeyRound from "@lucide/svelte/icons/key-round";
import MessageCircleQuestionMark from "@lucide/svelte/icons/message-circle-question-mark";
import PackageX from "@lucide/svelte/icons/package-x";
import RefreshCw from "@lucide/svelte/icons/refresh-cw";
import ShieldAlert from "@lucide/svelte/icons/shield-alert";
import UserX from "@lucide/svelte/icons/user-x";
import Webhook from "@lucide/svelte/icons/webhook";
import type { NoticeKind, NoticeView } from "../../lib/host";
import { count, harmless } from "../../lib/text";
import { DAY, relative } from "../../lib/time";

export interface NoticeWords {
  title: string;
  /** What to do. */
  text: string;
  /** Who did it, or why it failed: foreign text. */
  detail: string;
}

const advice: Record<NoticeKind, string> = {
  key_expiring: "Rotate it in time: the old secret goes on for the overlap, and nothing breaks.",
  rotation_due: "Rotate the key, or let its schedule do it.",
  rotation_pending: "The old secret goes on until the new one is used, and for the overlap after that.",
  overlap_closing: "Give whoever still uses the old secret the new one, or they will be refused.",
  delivery_failed: "The old secret goes on. Rotate again once the place can be reached.",
  key_exposed:
    "Whoever has the text may have used it. Look at the key’s use, and rotate it where it is needed.",
  key_reported:
    "Only the public part was told, so nothing was ended. If the whole key is there too, rotate it.",
  retired_secret_used: "If it is a program of yours, give it the new secret; if not, the old one has leaked.",
  canary_used: "Find out how it got there: whoever has this key may have more.",
  hygiene_asked: "Say for each of them whether it is still needed, on the server’s account page.",
  webhook_disabled: "Mend the receiver, then switch the webhook on again.",
  owner_keys_revoked: "Every key of this owner is refused from then on.",
};

function when(dueAt: number | null, now: number, soon: (when: string) => string, over: string): string {
  if (dueAt === null) return soon("soon");
  return dueAt <= now ? over : soon(relative(dueAt, now));
}

function title(notice: NoticeView, now: number): string {
  const name = `“${harmless(notice.name, 80)}”`;
  switch (notice.kind) {
    case "key_expiring":
      return when(notice.dueAt, now, (at) => `${name} expires ${at}`, `${name} has expired`);
    case "rotation_due":
      return when(
        notice.dueAt,
        now,
        (at) => `${name} is to be rotated ${at}`,
        `The rotation of ${name} is overdue`,
      );
    case "rotation_pending":
      return `A new secret of ${name} waits to be taken`;
    case "overlap_closing":
      return when(
        notice.dueAt,
        now,
        (at) => `The old secret of ${name} ends ${at} and is still in use`,
        `The old secret of ${name} ended in use`,
      );
    case "delivery_failed":
      return `The new secret of ${name} was not delivered`;
    case "key_exposed":
      return `${name} was found where no key belongs`;
    case "key_reported":
      return `Somebody says that ${name} is where no key belongs`;
    case "retired_secret_used":
      return `A secret of ${name} was used after its end`;
    case "canary_used":
      return `The canary key ${name} was used`;
    case "hygiene_asked":
      return `You are asked to keep or to retire ${count(notice.count, "key")}`;
    case "webhook_disabled":
      return `The webhook ${name} was switched off`;
    case "owner_keys_revoked":
      return `All keys of ${name} were revoked`;
  }
}

function detail(notice: NoticeView): string {
  const said = harmless(notice.detail, 300);
  switch (notice.kind) {
    case "overlap_closing":
      return `${count(notice.count, "caller")} in the last hour`;
    case "retired_secret_used":
    case "canary_used":
      return said ? `By ${said}` : "";
    case "hygiene_asked":
      return said;
    default:
      return said;
  }
}

export function wordsOf(notice: NoticeView, now: number): NoticeWords {
  const isOver = notice.kind === "key_expiring" && notice.dueAt !== null && notice.dueAt <= now;
  const text = isOver
    ? "Whoever still uses it is refused: issue a new one where it is needed."
    : advice[notice.kind];
  return { title: title(notice, now), text, detail: detail(notice) };
}

interface Look {
  icon: typeof KeyRound;
  ground: string;
}

const icons: Record<NoticeKind, typeof KeyRound> = {
  key_expiring: CalendarClock,
  rotation_due: RefreshCw,
  rotation_pending: KeyRound,
  overlap_closing: Hourglass,
  delivery_failed: PackageX,
  key_exposed: ShieldAlert,
  key_reported: ShieldAlert,
  retired_secret_used: ShieldAlert,
  canary_used: Bird,
  hygiene_asked: MessageCircleQuestionMark,
  webhook_disabled: Webhook,
  owner_keys_revoked: UserX,
};
const alarms: NoticeKind[] = ["delivery_failed", "key_exposed", "retired_secret_used", "canary_used"];
const news: NoticeKind[] = ["rotation_pending", "hygiene_asked", "owner_keys_revoked"];

export function lookOf(notice: NoticeView, now: number): Look {
  const icon = icons[notice.kind];
  if (notice.settled) return { icon, ground: "bg-idle-soft text-idle" };
  const late = notice.dueAt !== null && notice.dueAt < now + DAY && notice.kind !== "hygiene_asked";
  if (late || alarms.includes(notice.kind)) return { icon, ground: "bg-danger-soft text-danger" };
  if (news.includes(notice.kind)) return { icon, ground: "bg-info-soft text-info" };
  return { icon, ground: "bg-warn-soft text-warn" };
}
