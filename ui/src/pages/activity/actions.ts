// An icon and a tone for each kind of action; unknown ones get a plain mark.
import Ban from "@lucide/svelte/icons/ban";
import CircleDot from "@lucide/svelte/icons/circle-dot";
import CirclePause from "@lucide/svelte/icons/circle-pause";
import CirclePlay from "@lucide/svelte/icons/circle-play";
import CircleX from "@lucide/svelte/icons/circle-x";
import Database from "@lucide/svelte/icons/database";
import Eye from "@lucide/svelte/icons/eye";
import LogIn from "@lucide/svelte/icons/log-in";
import LogOut from "@lucide/svelte/icons/log-out";
import Plus from "@lucide/svelte/icons/plus";
import RefreshCw from "@lucide/svelte/icons/refresh-cw";
import ScanSearch from "@lucide/svelte/icons/scan-search";
import Settings from "@lucide/svelte/icons/settings";
import Tag from "@lucide/svelte/icons/tag";

interface Look {
  icon: typeof Ban;
  ground: string;
}

const ok = "bg-ok-soft text-ok";
const info = "bg-info-soft text-info";
const danger = "bg-danger-soft text-danger";
const warn = "bg-warn-soft text-warn";
const idle = "bg-idle-soft text-idle";

// The first entry whose text occurs in the action wins; failures come first.
const LOOKS: [string, Look][] = [
  ["failed", { icon: CircleX, ground: danger }],
  ["refused", { icon: CircleX, ground: danger }],
  ["denied", { icon: CircleX, ground: danger }],
  ["revoked", { icon: Ban, ground: danger }],
  ["disabled", { icon: CirclePause, ground: warn }],
  ["enabled", { icon: CirclePlay, ground: ok }],
  ["rotat", { icon: RefreshCw, ground: info }],
  ["refreshed", { icon: RefreshCw, ground: info }],
  ["issued", { icon: Plus, ground: ok }],
  ["signed_in", { icon: LogIn, ground: ok }],
  ["signed_out", { icon: LogOut, ground: idle }],
  ["revealed", { icon: Eye, ground: idle }],
  ["verif", { icon: ScanSearch, ground: idle }],
  ["scope.", { icon: Tag, ground: idle }],
  ["settings", { icon: Settings, ground: idle }],
  ["registry", { icon: Database, ground: idle }],
];

const UNKNOWN: Look = { icon: CircleDot, ground: idle };

export function actionIcon(action: string): Look {
  return LOOKS.find(([part]) => action.includes(part))?.[1] ?? UNKNOWN;
}
