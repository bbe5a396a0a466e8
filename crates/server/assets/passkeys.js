// Passkeys: the buttons of `data-passkey`. Without this script they stay hidden and pages work as before.
const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

async function send(path, csrf, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-csrf-token": csrf },
    body: JSON.stringify(body),
  });
  const json = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(json.detail || "That did not work. Reload the page and try again.");
  return json;
}

async function use(place) {
  const { publicKey, state } = await send(place.dataset.options, place.dataset.csrf, {});
  publicKey.challenge = bytes(publicKey.challenge);
  const { rawId, response } = await navigator.credentials.get({ publicKey });
  return {
    state,
    id: text(rawId),
    client_data: text(response.clientDataJSON),
    authenticator_data: text(response.authenticatorData),
    signature: text(response.signature),
    user_handle: response.userHandle && response.userHandle.byteLength ? text(response.userHandle) : null,
    return_to: place.dataset.returnTo,
  };
}

async function add(place) {
  const { publicKey, state } = await send(place.dataset.options, place.dataset.csrf, {});
  publicKey.challenge = bytes(publicKey.challenge);
  publicKey.user.id = bytes(publicKey.user.id);
  for (const known of publicKey.excludeCredentials) known.id = bytes(known.id);
  const { response } = await navigator.credentials.create({ publicKey });
  return {
    state,
    name: place.querySelector("input").value,
    client_data: text(response.clientDataJSON),
    attestation_object: text(response.attestationObject),
    transports: response.getTransports ? response.getTransports() : [],
  };
}

for (const place of window.PublicKeyCredential ? document.querySelectorAll("[data-passkey]") : []) {
  const button = place.querySelector("button");
  const problem = place.querySelector("[role=alert]");
  place.hidden = false;
  button.addEventListener("click", async () => {
    button.disabled = true;
    problem.hidden = true;
    try {
      const body = await (place.dataset.passkey === "add" ? add(place) : use(place));
      const { location } = await send(place.dataset.answer, place.dataset.csrf, body);
      window.location.assign(location);
    } catch (error) {
      const quiet = error.name === "NotAllowedError" || error.name === "AbortError";
      problem.textContent =
        error.name === "InvalidStateError" ? "This device has a passkey for you already."
        : quiet ? "No passkey was used." : error.message;
      problem.hidden = false;
      button.disabled = false;
    }
  });
}
