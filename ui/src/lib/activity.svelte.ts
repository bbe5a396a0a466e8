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

  /** What was asked for the rows that are shown; null before any. */
  #shown: string | null = null;
  #cursor: string | null = null;
  /** Where the part began that did not come; null for the top. */
  #failed: string | null = null;
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

  /** Asks again for what did not come: the list, or its next part. */
  async again(): Promise<void> {
    if (this.#failed === null) return this.load();
    this.error = null;
    await this.more();
  }

  async #fetch(run: number, cursor: string | null): Promise<void> {
    const request = { text: this.text.trim(), subject: this.subject, cursor, limit: PAGE };
    const question = `${request.subject} ${request.text}`;
    try {
      const page = await commands.listAuditEvents(request);
      if (run !== this.#run) return;
      this.rows = cursor === null ? page.items : this.rows.concat(page.items);
      this.#cursor = page.nextCursor;
      this.#shown = question;
      this.complete = page.nextCursor === null;
      this.error = null;
      this.fresh = false;
    } catch (thrown) {
      if (run !== this.#run) return;
      this.error = app.note(thrown);
      this.#failed = cursor;
      // Rows are never shown as the answer to a question that got none.
      if (question !== this.#shown) {
        this.rows = [];
        this.#shown = null;
      }
    } finally {
      if (run === this.#run) this.loading = false;
    }
  }
}

export const activity = new ActivityList();
