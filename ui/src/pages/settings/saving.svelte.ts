// Saves one setting and remembers how that went, for the row that shows it.
import { app, type KnownSettings } from "../../lib/app.svelte";
import { toErrorView } from "../../lib/errors";

export class Saving {
  error = $state<string | null>(null);
  saved = $state(false);
  #timer: ReturnType<typeof setTimeout> | undefined;

  refuse(reason: string): void {
    this.saved = false;
    this.error = reason;
  }

  async save(change: Partial<KnownSettings>): Promise<boolean> {
    clearTimeout(this.#timer);
    this.saved = false;
    try {
      await app.saveSettings(change);
      this.error = null;
      this.saved = true;
      this.#timer = setTimeout(() => (this.saved = false), 2500);
      return true;
    } catch (thrown) {
      const { message, hint } = toErrorView(thrown);
      this.error = hint ? `${message} ${hint}` : message;
      return false;
    }
  }
}
