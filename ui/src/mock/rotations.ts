// The pretended registry's rotations: the same clocks and steps as the real one's.
import type { RotateApiKeyRequest, RotationStep, SecretView } from "../lib/host";
import { fail } from "./fail";
import type { MockKey } from "./world";

export const verifies = (secret: SecretView): boolean =>
  ["active", "pending", "retiring"].includes(secret.state);

/** What the secrets make of the key, unless a person ended or suspended it. */
export function refreshState({ view, settings, secrets }: MockKey): void {
  const working = secrets.filter(verifies).length;
  view.oldSecretWorksUntil = secrets.find((secret) => secret.state === "retiring")?.retiresAt ?? null;
  if (view.revokedAt !== null) view.state = "revoked";
  else if (settings.disabledAt !== null) view.state = "disabled";
  else view.state = working === 0 ? "expired" : working === 1 ? "active" : "rotating";
  const current = secrets.find((one) => verifies(one) && one.state !== "retiring") ?? secrets[0];
  if (current)
    Object.assign(view, { kid: current.kid, lastFour: current.lastFour, expiresAt: current.expiresAt });
}

/** Makes room for a new secret; gives whether the old one still works beside it. */
export function beginRotation(key: MockKey, request: RotateApiKeyRequest, now: number): void {
  const old = key.secrets.find((secret) => secret.state === "active") ?? key.secrets.find(verifies);
  for (const secret of key.secrets) {
    if (!verifies(secret)) continue;
    if (request.compromised) secret.state = "revoked";
    else if (secret.state === "pending" && secret !== old) secret.state = "aborted";
    else if (secret !== old || request.overlapMs === 0)
      Object.assign(secret, { state: "retired", retiresAt: now });
  }
  key.rotation = null;
  if (!old || !verifies(old)) return;
  const atIssue = request.clock === "from_issue";
  if (atIssue) Object.assign(old, { state: "retiring", retiresAt: now + request.overlapMs });
  key.rotation = {
    id: request.idempotencyKey,
    state: "pending",
    clock: request.clock,
    overlapMs: request.overlapMs,
    silentMs: request.silentMs,
    createdAt: now,
    oldSecretWorksUntil: atIssue ? now + request.overlapMs : null,
    pendingUntil: atIssue ? null : now + 30 * 24 * 60 * 60 * 1000,
  };
}

/** The first use of a pending secret starts the clock of the old one. */
export function firstUse(key: MockKey, secret: SecretView, now: number): void {
  if (secret.state !== "pending") return;
  secret.state = "active";
  const { rotation } = key;
  if (rotation === null) return;
  const old = key.secrets.find((one) => one !== secret && verifies(one));
  if (old && rotation.clock !== "from_issue")
    Object.assign(old, { state: "retiring", retiresAt: now + rotation.overlapMs });
  Object.assign(rotation, {
    state: "overlapping",
    oldSecretWorksUntil: old?.retiresAt ?? null,
    pendingUntil: null,
  });
  refreshState(key);
}

export function stepRotation(key: MockKey, step: RotationStep, now: number): void {
  const { rotation } = key;
  const wrong = rotation === null || (rotation.state === "pending") !== (step === "cancel");
  if (wrong) fail("no_rotation", "There is no rotation under way that this could be done to.");
  const [fresh, old] = key.secrets.filter(verifies);
  if (step === "finish") {
    if (old) Object.assign(old, { state: "retired", retiresAt: now });
  } else {
    if (fresh) fresh.state = "aborted";
    if (old) Object.assign(old, { state: "active", retiresAt: null });
  }
  key.rotation = null;
  refreshState(key);
}
