// What the whole shell knows: settings, the app itself, the keychain's and the registry's health.
import { toErrorView, isKeychainProblem, isRegistryProblem } from "./errors";
import { commands, type AppInfoView, type ErrorView, type KeychainView, type Settings } from "./host";
import { showTheme } from "./theme.svelte";

export type KnownSettings = Required<Settings>;

const DEFAULTS: KnownSettings = {
  theme: "system",
  signInTimeoutS: 300,
  callbackPort: null,
  extraCaFile: null,
  clipboardClearS: 30,
  defaultKeyLifetimeDays: 90,
  defaultOverlapMs: 24 * 60 * 60 * 1000,
  allowNeverExpires: false,
  registryAccount: null,
};

class AppModel {
  settings = $state<KnownSettings>(DEFAULTS);
  settingsError = $state<ErrorView | null>(null);
  info = $state<AppInfoView | null>(null);
  infoError = $state<ErrorView | null>(null);
  keychain = $state<KeychainView | null>(null);
  /** A keychain problem, from the probe or from a command that met it. */
  keychainProblem = $state<ErrorView | null>(null);
  keychainChecking = $state(false);
  registryProblem = $state<ErrorView | null>(null);
  registryRetrying = $state(false);
  /** The shell is on the screen: what costs more may follow. */
  painted = $state(false);
  /** Counts up when the registry came back: pages load again. */
  generation = $state(0);
  #saving: Promise<void> = Promise.resolve();

  async loadSettings(): Promise<void> {
    try {
      this.accept(await commands.readSettings());
      this.settingsError = null;
    } catch (thrown) {
      this.settingsError = this.note(thrown);
    }
  }

  /** Saves a change; throws an {@link ErrorView} where the host refuses it. One after the other: settings are sent
   *  whole, and what is on its way must not be put back by the next. */
  async saveSettings(change: Partial<Settings>): Promise<void> {
    const saved = this.#saving.then(() => this.#save(change));
    this.#saving = saved.catch(() => undefined);
    await saved;
  }

  async #save(change: Partial<Settings>): Promise<void> {
    try {
      this.accept(await commands.updateSettings({ ...this.settings, ...change }));
    } catch (thrown) {
      throw this.note(thrown);
    }
  }

  async loadInfo(): Promise<void> {
    try {
      this.info = await commands.appInfo();
      this.infoError = null;
      this.registryProblem = this.info.registry.problem;
    } catch (thrown) {
      this.infoError = this.note(thrown);
    }
  }

  async checkKeychain(): Promise<void> {
    this.keychainChecking = true;
    try {
      this.acceptKeychain(await commands.checkKeychain());
    } catch (thrown) {
      this.keychainProblem = toErrorView(thrown);
    } finally {
      this.keychainChecking = false;
    }
  }

  /** Takes a probe's answer; when a problem is over, the pages load again. */
  acceptKeychain(keychain: KeychainView): void {
    const healed = this.keychainProblem !== null && keychain.problem === null;
    this.keychain = keychain;
    this.keychainProblem = keychain.problem;
    if (healed) this.generation += 1;
  }

  async retryRegistry(): Promise<void> {
    this.registryRetrying = true;
    try {
      const registry = await commands.retryRegistry();
      this.registryProblem = registry.problem;
      if (this.info) this.info = { ...this.info, registry };
      if (registry.healthy) this.generation += 1;
    } catch (thrown) {
      this.registryProblem = toErrorView(thrown);
    } finally {
      this.registryRetrying = false;
    }
  }

  /** Turns what was thrown into a view, and remembers what concerns the whole shell. */
  note(thrown: unknown): ErrorView {
    const error = toErrorView(thrown);
    if (isKeychainProblem(error)) this.keychainProblem = error;
    if (isRegistryProblem(error)) this.registryProblem = error;
    return error;
  }

  private accept(settings: Settings): void {
    this.settings = { ...DEFAULTS, ...settings };
    showTheme(this.settings.theme);
  }
}

export const app = new AppModel();

/** Tells drivers and people that the first page shows its data. */
export function markReady(): void {
  document.documentElement.dataset.ready = "true";
}
