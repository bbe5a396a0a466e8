// How the flows work, fetched once; and what happened in the last real ones, fetched as they go on.
import { app } from "./app.svelte";
import { commands, type ErrorView, type FlowTraceView, type FlowView } from "./host";

class Flows {
  items = $state.raw<FlowView[]>([]);
  traces = $state.raw<FlowTraceView[]>([]);
  error = $state.raw<ErrorView | null>(null);

  #run = 0;

  async load(): Promise<void> {
    const run = ++this.#run;
    try {
      const items = this.items.length > 0 ? this.items : await commands.listFlows();
      const traces = await commands.listFlowTraces();
      if (run !== this.#run) return;
      this.items = items;
      this.traces = traces;
      this.error = null;
    } catch (thrown) {
      if (run === this.#run) this.error = app.note(thrown);
    }
  }
}

export const flows = new Flows();
