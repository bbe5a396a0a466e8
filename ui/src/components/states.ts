// How each state looks and reads. One place for words, icons and tones.
import Ban from "@lucide/svelte/icons/ban";
import CircleCheck from "@lucide/svelte/icons/circle-check";
import CircleDashed from "@lucide/svelte/icons/circle-dashed";
import CirclePause from "@lucide/svelte/icons/circle-pause";
import Clock from "@lucide/svelte/icons/clock";
import ClockAlert from "@lucide/svelte/icons/clock-alert";
import CloudOff from "@lucide/svelte/icons/cloud-off";
import KeyRound from "@lucide/svelte/icons/key-round";
import LogIn from "@lucide/svelte/icons/log-in";
import RefreshCw from "@lucide/svelte/icons/refresh-cw";
import Undo2 from "@lucide/svelte/icons/undo-2";
import type { AccountStatus, ApiKeyState, SecretState } from "../lib/host";
import type { Tone } from "./Badge.svelte";

interface Look {
  text: string;
  tone: Tone;
  icon: typeof Ban;
}

export const keyLook: Record<ApiKeyState, Look> = {
  active: { text: "Active", tone: "ok", icon: CircleCheck },
  rotating: { text: "Rotating", tone: "info", icon: RefreshCw },
  expired: { text: "Expired", tone: "idle", icon: ClockAlert },
  disabled: { text: "Disabled", tone: "warn", icon: CirclePause },
  revoked: { text: "Revoked", tone: "danger", icon: Ban },
};

export const secretLook: Record<SecretState, Look> = {
  pending: { text: "Not used yet", tone: "info", icon: CircleDashed },
  active: { text: "Active", tone: "ok", icon: CircleCheck },
  retiring: { text: "Retiring", tone: "warn", icon: Clock },
  retired: { text: "Retired", tone: "idle", icon: Undo2 },
  expired: { text: "Expired", tone: "idle", icon: ClockAlert },
  revoked: { text: "Revoked", tone: "danger", icon: Ban },
  aborted: { text: "Cancelled", tone: "idle", icon: Undo2 },
};

export const accountLook: Record<AccountStatus, Look> = {
  signed_in: { text: "Signed in", tone: "ok", icon: CircleCheck },
  session_only: { text: "This session only", tone: "warn", icon: Clock },
  offline: { text: "Offline", tone: "idle", icon: CloudOff },
  keychain_unavailable: { text: "Keychain unavailable", tone: "warn", icon: KeyRound },
  sign_in_needed: { text: "Sign in again", tone: "danger", icon: LogIn },
};
