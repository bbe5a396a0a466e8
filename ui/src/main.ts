// Starts the interface. In a plain browser (mode "mock") a pretended host answers; the app's own
// build contains none of it.
import { mount } from "svelte";
import App from "./App.svelte";
import { app } from "./lib/app.svelte";
import "./styles/app.css";

if (import.meta.env.MODE === "mock") {
  const { installMockHost } = await import("./mock/install");
  installMockHost();
}

// The theme is part of the settings: wait for them briefly, so that the first frame has it.
await Promise.race([app.loadSettings(), new Promise((done) => setTimeout(done, 80))]);

const target = document.getElementById("app");
if (target) mount(App, { target });
