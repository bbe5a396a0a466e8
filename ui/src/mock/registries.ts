// The pretended choice of registries: a server for every account at one. `?mock=keywright,stale` shows a
// server that went away while a revocation waits.
import type { AccountView, RegistriesView } from "../lib/host";
import { KEYWRIGHT } from "../lib/sessions.svelte";
import { MINUTE, type World } from "./world";

export class MockRegistries {
  #current: string | null = null;
  #discarded = new Set<string>();

  constructor(
    private world: World,
    private accounts: () => AccountView[],
  ) {}

  view(): RegistriesView {
    const stale = this.world.scenario.has("stale");
    const waiting = this.world.keys
      .filter((_, index) => stale && index === 0)
      .filter(({ view }) => !this.#discarded.has(view.id));
    return {
      current: this.#current,
      servers: this.accounts()
        .filter(({ providerId }) => providerId === KEYWRIGHT)
        .map((account) => ({
          accountId: account.id,
          accountName: account.email ?? account.displayName,
          issuer: account.issuer,
          mayRead: true,
          mayWrite: !this.world.scenario.has("reader"),
          offlineSince: stale ? Date.now() - MINUTE : null,
          queuedRevocations: waiting.map(({ view }) => ({
            keyId: view.id,
            name: view.name,
            reason: "",
            queuedAt: Date.now() - MINUTE,
            refused: null,
          })),
        })),
    };
  }

  choose(accountId: string | null): RegistriesView {
    this.#current = accountId;
    return this.view();
  }

  discard(keyId: string): RegistriesView {
    this.#discarded.add(keyId);
    return this.view();
  }
}
