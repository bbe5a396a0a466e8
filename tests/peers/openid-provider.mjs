// A certified OpenID provider (npm oidc-provider) for the tests to sign in at.
// Configuration: one JSON argument. Standard output: a line "ready <issuer>", then one line per
// request that the tests count: "request <method> <path> <grant_type or ->".
import { createServer as createHttp } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { readFileSync } from 'node:fs';
import Provider from 'oidc-provider';

const settings = JSON.parse(process.argv[2] ?? '{}');
const { tls, accessTokenLife = 300, refreshTokens = true, clientSecret,
  applicationType = 'native', redirectUris = ['http://127.0.0.1/callback', 'http://[::1]/callback'] } = settings;

// The port must be known before the issuer, and the issuer before the provider.
let handler = (_request, response) => response.writeHead(503).end();
const listen = (request, response) => handler(request, response);
const server = tls
  ? createHttps({ key: readFileSync(tls.key), cert: readFileSync(tls.cert) }, listen)
  : createHttp(listen);
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `${tls ? 'https' : 'http'}://127.0.0.1:${server.address().port}`;

const people = {
  ada: { name: 'Ada Lovelace', email: 'ada@example.com', email_verified: true },
  bob: { name: 'Bob \u202eBuilder', email: 'bob@example.com', email_verified: false },
};

const client = {
  client_id: 'keywright-tests',
  application_type: applicationType,
  redirect_uris: redirectUris,
  response_types: ['code'],
  grant_types: refreshTokens ? ['authorization_code', 'refresh_token'] : ['authorization_code'],
  token_endpoint_auth_method: clientSecret ? 'client_secret_basic' : 'none',
  ...(clientSecret ? { client_secret: clientSecret } : {}),
};

const provider = new Provider(issuer, {
  clients: [client],
  claims: { openid: ['sub'], profile: ['name'], email: ['email', 'email_verified'] },
  scopes: ['openid', 'offline_access', 'profile', 'email'],
  pkce: { required: () => true },
  cookies: { keys: ['only for tests'] },
  features: {
    devInteractions: { enabled: true },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true },
  },
  rotateRefreshToken: true,
  ttl: {
    AccessToken: accessTokenLife, AuthorizationCode: 60, IdToken: 300, RefreshToken: 86400,
    Grant: 86400, Interaction: 600, Session: 86400,
  },
  findAccount: (_context, sub) => ({
    accountId: sub,
    claims: () => ({ sub, ...(people[sub] ?? { name: sub }) }),
  }),
});

provider.use(async (context, next) => {
  await next();
  const grant = context.oidc?.params?.grant_type ?? '-';
  process.stdout.write(`request ${context.method} ${context.path} ${grant}\n`);
});
// Says why it refused a request; the tests show it when they fail.
for (const event of ['authorization.error', 'grant.error', 'revocation.error', 'server_error']) {
  provider.on(event, (_context, error) => process.stderr.write(`${event}: ${error.stack ?? error}\n`));
}

handler = provider.callback();
process.stdout.write(`ready ${issuer}\n`);
// Ends with the test that started it, however that ends.
process.stdin.resume().on('end', () => process.exit(0));
