// What several tests start from.
import type { ApiKeyView } from "../../src/lib/host";

/** An active key that nothing was done to yet. */
export const keyView = (over: Partial<ApiKeyView> = {}): ApiKeyView => ({
  id: "key_1",
  name: "Billing",
  prefix: "sk_live",
  scopes: ["a:b"],
  state: "active",
  kid: "abcdefghijkl",
  lastFour: "c123",
  createdAt: 0,
  expiresAt: null,
  oldSecretWorksUntil: null,
  lastUsedAt: null,
  revokedAt: null,
  revokedReason: null,
  revocationQueuedAt: null,
  movedTo: null,
  mayChange: true,
  ...over,
});
