// A certified OpenID provider to sign in at. Prints {"issuer": …} first, then what it issues and
// ends, line by line: the tests search the app's traces for these values.
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const HOSTILE = "\u202egnp.exe <img src=x onerror=document.title='owned'>\u0007 " + "long ".repeat(2000);
const people = {
  hostile: { name: HOSTILE, email: "<b>bold</b>@example.test" },
};

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "keywright",
        application_type: "native",
        token_endpoint_auth_method: "none",
        redirect_uris: ["http://127.0.0.1/callback"],
        grant_types: ["authorization_code", "refresh_token"],
        response_types: ["code"],
      },
    ],
    claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"] },
    findAccount: (_, sub) => ({
      accountId: sub,
      claims: () => ({
        sub,
        name: people[sub]?.name ?? `Person ${sub}`,
        email: people[sub]?.email ?? `${sub}@example.test`,
        email_verified: true,
      }),
    }),
    features: { devInteractions: { enabled: true }, revocation: { enabled: true } },
    issueRefreshToken: () => true,
    rotateRefreshToken: true,
    cookies: { keys: ["only for tests"] },
    ttl: { AccessToken: 3600, RefreshToken: 86400, Grant: 86400, Session: 86400, Interaction: 600 },
  });
  const say = (event, value) => console.log(JSON.stringify({ event, value }));
  for (const kind of ["access_token", "refresh_token", "authorization_code"])
    for (const what of ["saved", "consumed", "destroyed"])
      provider.on(`${kind}.${what}`, (token) => say(`${kind}.${what}`, token.jti));
  provider.on("grant.revoked", (_, id) => say("grant.revoked", id));
  provider.on("server_error", (_, error) => console.error(error));
  server.on("request", provider.callback());
  console.log(JSON.stringify({ issuer }));
});
