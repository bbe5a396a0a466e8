// Closing the app: the host asks before something is cut or lost, and the window puts the question.
import { dialog } from "./dialogs.svelte";
import { commands, type UnfinishedView } from "./host";

class Closing {
  /** What would be cut or lost; the question about it is on the screen. */
  asked = $state.raw<UnfinishedView | null>(null);
  /** The secret that the person has, by their own word. */
  stored: string | null = null;
  #back: Element | null = null;

  /** The host wants to know whether to close. */
  ask(unfinished: UnfinishedView): void {
    if (this.#hasAll(unfinished)) return this.close();
    if (this.asked) this.shown();
    else this.#back = document.activeElement;
    this.asked = unfinished;
  }

  /** The question is on the screen; until the host knows, its patience is short. */
  shown(): void {
    commands.closeQuestionShown().catch(() => undefined); // then the next attempt closes
  }

  keepOpen(): void {
    this.asked = null;
    const back = this.#back;
    requestAnimationFrame(() => {
      if (back instanceof HTMLElement && back.isConnected) back.focus({ preventScroll: true });
    });
  }

  close(): void {
    commands.closeApp().catch(() => undefined); // it stays open, and can be closed again
  }

  #hasAll({ working, secrets }: UnfinishedView): boolean {
    const { request } = dialog;
    const shown = request?.kind === "reveal" ? request.issued.revealId : null;
    return !working && secrets === 1 && shown !== null && shown === this.stored;
  }
}

export const closing = new Closing();
