// The audit trail, page by page, newest first.
import { app } from "./app.svelte";
import { commands, type AuditEventView, type AuditSubjectFilter, type ErrorView } from "./host";

const PAGE = 200;

class ActivityList {
  text = $state("");
  subject = $state<AuditSubjectFilter>("all");
  rows = $state.raw<AuditEventView[]>([]);
  complete = $state(false);
  fresh = $state(true);
  loading = $state(false);
  error = $state<ErrorView | null>(null);

  #cursor: string | null = null;
  #run = 0;

  async load(): Promise<void> {
    const run = ++this.#run;
    this.loading = true;
    await this.#fetch(run, null);
  }

  async more(): Promise<void> {
    if (this.loading || this.complete || this.error) return;
    this.loading = true;
    await this.#fetch(this.#run, this.#cursor);
  }

  async #fetch(run: number, cursor: string | null): Promise<void> {
    try {
      const request = { text: this.text.trim(), subject: this.subject, cursor, limit: PAGE };
      const page = await commands.listAuditEvents(request);
      if (run !== this.#run) return;
      this.rows = cursor === null ? page.items : this.rows.concat(page.items);
      this.#cursor = page.nextCursor;
      this.complete = page.nextCursor === null;
      this.error = null;
      this.fresh = false;
    } catch (thrown) {
      if (run === this.#run) this.error = app.note(thrown);
    } finally {
      if (run === this.#run) this.loading = false;
    }
  }
}

export const activity = new ActivityList();
