// The pretended choice of registries: a server for every account at one. `?mock=keywright,stale` shows a
// server that went away while a revocation waits; `?mock=left` has revocations of a server that nobody is signed in to; `?mock=keywright,both-places` moves a key that is revoked here meanwhile.
import type {
  AccountView,
  PromotionRequest,
  PromotionView,
  RegistriesView,
  RegistryPermissionsView,
} from "../lib/host";
import { KEYWRIGHT } from "../lib/sessions.svelte";
import { MINUTE, type World } from "./world";

export class MockRegistries {
  #current: string | null = null;
  #discarded = new Set<string>();
  #forgotten = false;

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
      signedOut: this.world.scenario.has("left") && !this.#forgotten ? this.#left() : [],
    };
  }

  #left(): RegistriesView["signedOut"] {
    const waiting = this.world.keys.slice(1, 3).map(({ view }) => ({
      keyId: view.id,
      name: view.name,
      reason: "",
      queuedAt: Date.now() - MINUTE,
      refused: null,
    }));
    const whose = { accountName: "grace@example.com", issuer: "https://keys.example.org" };
    return [{ id: "0a1b2c", ...whose, queuedRevocations: waiting }];
  }

  forget(): RegistriesView {
    this.#forgotten = true;
    return this.view();
  }

  /** `?mock=keywright,auditor`: a role that sees all keys and changes its own. */
  permissions(): RegistryPermissionsView {
    const all = this.#current === null || !this.world.scenario.has("auditor");
    return { mayIssue: all, mayVerify: all, mayDefineScopes: all };
  }

  choose(accountId: string | null): RegistriesView {
    this.#current = accountId;
    const auditor = accountId !== null && this.world.scenario.has("auditor");
    for (const [index, { view }] of this.world.keys.entries()) view.mayChange = !auditor || index === 1;
    return this.view();
  }

  /** The last key asked for has a name that the server knows already. */
  promote(request: PromotionRequest): PromotionView {
    const asked = this.world.keys.filter(({ view }) => request.keyIds.includes(view.id));
    const name = ({ view }: (typeof asked)[number]) => ({ keyId: view.id, name: view.name });
    // `?mock=keywright,stops`: the server stops after two of them.
    const stops = !request.dryRun && this.world.scenario.has("stops") && asked.length > 4;
    if (stops) asked.splice(2);
    // What it refuses it tells when it judges: that is not asked for again.
    const taken = asked.length > 1 && request.dryRun ? asked.slice(0, -1) : asked;
    // What was revoked here on its way: the server took it, and this device did not leave it.
    const both = !request.dryRun && this.world.scenario.has("both-places") ? taken.slice(0, 2) : [];
    const moved = taken.slice(both.length);
    if (!request.dryRun) for (const { view } of moved) view.movedTo = "https://id.example.com";
    for (const { view } of both) view.state = "revoked";
    return {
      dryRun: request.dryRun,
      moved: moved.map(name),
      refused: asked.slice(taken.length).map((key) => ({
        ...name(key),
        code: "key_exists",
        message: "another key here has this id",
      })),
      inBothPlaces: both.map((key) => ({
        ...name(key),
        code: "key_revoked",
        message: "the key is revoked; a revoked key cannot be rotated or re-enabled",
      })),
      problem: stops
        ? {
            code: "registry_offline",
            message: "The server at id.example.com does not answer.",
            hint: "Try again later.",
            retryable: true,
          }
        : null,
    };
  }

  discard(keyId: string): RegistriesView {
    this.#discarded.add(keyId);
    return this.view();
  }
}
