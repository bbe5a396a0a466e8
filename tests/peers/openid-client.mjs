// A third party's client (npm openid-client, certified) against our server: one scenario a run.
// Argument: JSON {scenario, issuer, client, secret, person, …}. Standard output: one line of JSON.
import assert from 'node:assert/strict';
import * as oidc from 'openid-client';
import {
  SignJWT, createRemoteJWKSet, decodeJwt, decodeProtectedHeader, exportJWK, generateKeyPair, importJWK, jwtVerify,
} from 'jose';
import { UserAgent, approve } from './user-agent.mjs';

const input = JSON.parse(process.argv[2]);
const issuer = new URL(input.issuer);
const redirect = 'http://127.0.0.1:9999/callback';
const insecure = issuer.protocol === 'http:' ? { execute: [oidc.allowInsecureRequests] } : {};

const discover = (auth) => oidc.discovery(issuer, input.client, undefined, auth ?? authentication(), insecure);
function authentication() {
  if (input.auth === 'client_secret_post') return oidc.ClientSecretPost(input.secret);
  if (input.secret) return oidc.ClientSecretBasic(input.secret);
  return oidc.None();
}

async function request(config, more = {}) {
  const verifier = oidc.randomPKCECodeVerifier();
  const [state, nonce] = [oidc.randomState(), oidc.randomNonce()];
  const parameters = {
    redirect_uri: redirect, scope: input.scope ?? 'openid profile email offline_access',
    code_challenge: await oidc.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
    state, nonce, ...more,
  };
  return { parameters, checks: { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce } };
}

async function signIn(config, { agent = new UserAgent(), more, par, dpop } = {}) {
  const { parameters, checks } = await request(config, more);
  const url = par
    ? await oidc.buildAuthorizationUrlWithPAR(config, parameters, dpop ? { DPoP: dpop } : undefined)
    : oidc.buildAuthorizationUrl(config, parameters);
  const back = await approve(agent, url, input.person, redirect);
  assert.equal(back.searchParams.get('iss'), input.issuer, 'RFC 9207');
  const tokens = await oidc.authorizationCodeGrant(config, back, checks, undefined, dpop ? { DPoP: dpop } : undefined);
  return { agent, back, checks, tokens };
}

// The OAuth error code with which something is refused.
async function refused(work) {
  try {
    await work();
  } catch (error) {
    return error.error ?? error.cause?.error ?? error.code ?? error.message;
  }
  throw new assert.AssertionError({ message: 'it was not refused' });
}

const scenarios = {
  async code() {
    const config = await discover();
    const { tokens, back, checks } = await signIn(config);
    const claims = tokens.claims();
    assert.equal(decodeProtectedHeader(tokens.id_token).alg, input.alg ?? 'RS256');
    const profile = await oidc.fetchUserInfo(config, tokens.access_token, claims.sub);
    assert.equal(profile.email, input.person.email);
    assert.equal(profile.email_verified, true);
    // RFC 9068, checked by somebody else's library.
    const keys = createRemoteJWKSet(new URL(config.serverMetadata().jwks_uri));
    const { payload } = await jwtVerify(tokens.access_token, keys, { issuer: input.issuer, typ: 'at+jwt' });
    for (const personal of ['email', 'name', 'picture']) assert.equal(payload[personal], undefined);
    assert.equal(payload.client_id, input.client);
    // The code is worth nothing a second time, and ends what the first time gave (AC-053).
    const again = await refused(() => oidc.authorizationCodeGrant(config, back, checks));
    const after = await refused(() => oidc.fetchUserInfo(config, tokens.access_token, claims.sub));
    return { again, after: String(after), sub: claims.sub, acr: claims.acr, amr: claims.amr };
  },

  async refresh() {
    const config = await discover();
    const { tokens } = await signIn(config);
    const first = await oidc.refreshTokenGrant(config, tokens.refresh_token);
    assert.notEqual(first.refresh_token, tokens.refresh_token);
    // Within the grace, the same successor (AC-084).
    const same = await oidc.refreshTokenGrant(config, tokens.refresh_token);
    assert.equal(same.refresh_token, first.refresh_token);
    const narrow = await oidc.refreshTokenGrant(config, first.refresh_token, { scope: 'openid' });
    assert.equal(narrow.scope ?? 'openid', 'openid');
    const wide = await refused(() => oidc.refreshTokenGrant(config, narrow.refresh_token, { scope: 'openid keys:read' }));
    // An older one is theft: the whole family ends (AC-085).
    const reuse = await refused(() => oidc.refreshTokenGrant(config, tokens.refresh_token));
    const family = await refused(() => oidc.refreshTokenGrant(config, narrow.refresh_token));
    return { wide, reuse, family };
  },

  async device() {
    const config = await discover();
    const start = await oidc.initiateDeviceAuthorization(config, { scope: input.scope ?? 'openid offline_access' });
    const pending = await refused(() => oidc.genericGrantRequest(config,
      'urn:ietf:params:oauth:grant-type:device_code', { device_code: start.device_code }));
    const agent = new UserAgent();
    let page = await agent.go(start.verification_uri);
    if (page.body.includes('name="password"')) {
      page = await agent.submit(page, { email: input.person.email, password: input.person.password });
    }
    page = await agent.submit(page, { user_code: start.user_code });
    if (page.body.includes('name="password"')) {
      page = await agent.submit(page, { email: input.person.email, password: input.person.password });
    }
    assert.ok(page.body.includes(start.user_code), 'the code is shown again (S53)');
    assert.ok(page.body.includes(input.name), 'the client is named (S54)');
    page = await agent.submit(page, {}, { button: /^allow/i });
    const tokens = await oidc.pollDeviceAuthorizationGrant(config, start);
    const spent = await refused(() => oidc.genericGrantRequest(config,
      'urn:ietf:params:oauth:grant-type:device_code', { device_code: start.device_code }));
    const next = await oidc.refreshTokenGrant(config, tokens.refresh_token);
    assert.ok(next.access_token);
    // AC-171: five wrong codes, and then none is looked up for a while, not even a right one.
    const wrong = [];
    for (let n = 0; n < 5; n += 1) {
      page = await agent.go(start.verification_uri);
      wrong.push((await agent.submit(page, { user_code: 'BBBB-BBBB' })).status);
    }
    const right = await oidc.initiateDeviceAuthorization(config, { scope: 'openid' });
    page = await agent.submit(await agent.go(right.verification_uri), { user_code: right.user_code });
    return { pending, spent, wrong, throttled: page.status, scope: tokens.scope ?? null };
  },

  async par() {
    const config = await discover();
    const { tokens } = await signIn(config, { par: true });
    assert.ok(tokens.id_token);
    // A request that was pushed by somebody else is not ours to use.
    const { parameters } = await request(config);
    const url = await oidc.buildAuthorizationUrlWithPAR(config, parameters);
    const agent = new UserAgent();
    await approve(agent, url, input.person, redirect);
    const second = await agent.go(url, { until: redirect });
    return { second: second.status || second.url.searchParams.get('error') };
  },

  async dpop() {
    const config = await discover();
    const keys = await generateKeyPair('ES256');
    const dpop = oidc.getDPoPHandle(config, keys);
    const { tokens } = await signIn(config, { dpop });
    assert.equal(tokens.token_type.toLowerCase(), 'dpop');
    assert.ok(decodeJwt(tokens.access_token).cnf.jkt);
    const profile = await oidc.fetchUserInfo(config, tokens.access_token, tokens.claims().sub, { DPoP: dpop });
    assert.equal(profile.email, input.person.email);
    const bearer = await fetch(config.serverMetadata().userinfo_endpoint, {
      headers: { authorization: `Bearer ${tokens.access_token}` },
    });
    const next = await oidc.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP: dpop });
    assert.equal(next.token_type.toLowerCase(), 'dpop');
    const stranger = oidc.getDPoPHandle(config, await generateKeyPair('ES256'));
    const other = await refused(() => oidc.refreshTokenGrant(config, next.refresh_token, undefined, { DPoP: stranger }));
    return { bearer: bearer.status, other };
  },

  // Bound tokens, with their key, for after a restart.
  async dpop_begin() {
    const config = await discover();
    const keys = await generateKeyPair('ES256', { extractable: true });
    const { tokens } = await signIn(config, { dpop: oidc.getDPoPHandle(config, keys) });
    const [own, open] = [await exportJWK(keys.privateKey), await exportJWK(keys.publicKey)];
    return { access: tokens.access_token, refresh: tokens.refresh_token, sub: tokens.claims().sub, own, open };
  },

  // Goes on with them, as any application does: what it is asked for it gives by itself.
  async dpop_go_on() {
    const signer = input.jwk && oidc.PrivateKeyJwt({ key: await importJWK(input.jwk, 'ES256'), kid: input.jwk.kid });
    const config = await discover(signer);
    const nonces = new Set();
    let asked = 0;
    config[oidc.customFetch] = async (url, options) => {
      const answer = await fetch(url, options);
      if (answer.headers.has('dpop-nonce')) {
        asked += 1;
        nonces.add(answer.headers.get('dpop-nonce'));
      }
      return answer;
    };
    const dpop = oidc.getDPoPHandle(config, {
      privateKey: await importJWK(input.own, 'ES256'), publicKey: await importJWK(input.open, 'ES256'),
    });
    if (signer) {
      // Its assertion is used up by the answer that asks: it makes another.
      const tokens = await oidc.clientCredentialsGrant(config, { scope: input.scope }, { DPoP: dpop });
      return { asked, nonces: nonces.size, type: tokens.token_type };
    }
    const profile = await oidc.fetchUserInfo(config, input.access, input.sub, { DPoP: dpop });
    const next = await oidc.refreshTokenGrant(config, input.refresh, undefined, { DPoP: dpop });
    return { asked, nonces: nonces.size, email: profile.email, type: next.token_type };
  },

  // Signs what it is given: proofs and assertions that are shown more than once.
  async sign() {
    const key = await importJWK(input.jwk, 'ES256');
    const { d, ...jwk } = input.jwk;
    const tokens = input.tokens.map(({ type, claims }) => new SignJWT(claims)
      .setProtectedHeader(type === 'dpop' ? { typ: 'dpop+jwt', alg: 'ES256', jwk } : { alg: 'ES256', kid: jwk.kid })
      .sign(key));
    return { tokens: await Promise.all(tokens) };
  },

  async logout() {
    const config = await discover();
    const { agent, tokens } = await signIn(config);
    const after = 'http://127.0.0.1:9999/signed-out';
    const url = oidc.buildEndSessionUrl(config, {
      id_token_hint: tokens.id_token, post_logout_redirect_uri: after, state: 'back again',
    });
    let page = await agent.go(url, { until: after });
    if (page.status !== 0) page = await agent.submit(page, {}, { button: /sign out|^yes/i, until: after });
    assert.equal(page.url.searchParams.get('state'), 'back again');
    const { parameters } = await request(config, { prompt: 'none' });
    const silent = await agent.go(oidc.buildAuthorizationUrl(config, parameters), { until: redirect });
    const userinfo = await fetch(config.serverMetadata().userinfo_endpoint, {
      headers: { authorization: `Bearer ${tokens.access_token}` },
    });
    return { silent: silent.url.searchParams.get('error'), userinfo: userinfo.status };
  },

  async revoke() {
    const config = await discover();
    const { tokens } = await signIn(config);
    const before = await oidc.tokenIntrospection(config, tokens.access_token);
    assert.equal(before.active, true);
    await oidc.tokenRevocation(config, tokens.refresh_token, { token_type_hint: 'refresh_token' });
    const after = await oidc.tokenIntrospection(config, tokens.access_token);
    await oidc.tokenRevocation(config, 'nobody-knows-this');
    return { after, refresh: await refused(() => oidc.refreshTokenGrant(config, tokens.refresh_token)) };
  },

  async client_credentials() {
    const config = await discover();
    const tokens = await oidc.clientCredentialsGrant(config, { scope: input.scope });
    assert.equal(tokens.refresh_token, undefined);
    const { sub } = decodeJwt(tokens.access_token);
    return { sub };
  },

  async private_key_jwt() {
    const key = await importJWK(input.jwk, input.jwk.alg);
    const config = await discover(oidc.PrivateKeyJwt({ key, kid: input.jwk.kid }));
    const tokens = await oidc.clientCredentialsGrant(config, { scope: input.scope });
    const wrong = await generateKeyPair(input.jwk.alg);
    const liar = await discover(oidc.PrivateKeyJwt({ key: wrong.privateKey, kid: input.jwk.kid }));
    const refusal = await refused(() => oidc.clientCredentialsGrant(liar, { scope: input.scope }));
    return { type: tokens.token_type, refusal };
  },

  async make_key() {
    const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true });
    const extra = { kid: 'one', alg: 'ES256', use: 'sig' };
    return {
      public: { keys: [{ ...await exportJWK(publicKey), ...extra }] },
      private: { ...await exportJWK(privateKey), ...extra },
    };
  },

  // Only a browser, at the person's own page; its session cookie.
  async browser_only() {
    const agent = new UserAgent();
    let page = await agent.go(`${input.issuer}/account`);
    page = await agent.submit(page, { email: input.person.email, password: input.person.password });
    assert.equal(page.status, 200);
    assert.ok(page.body.includes('<h1'), page.body);
    return { cookie: agent.cookie('session') ?? agent.cookie('__Host-session') };
  },

  // Our server is the client; the provider elsewhere has a page for the name and one for consent.
  // All the way there, up to the answer that the provider sends back by the browser; not opened.
  async upstream_answer() {
    const agent = new UserAgent();
    const until = input.back;
    let page = await agent.go(`${input.issuer}/rp/authorize?idp=upstream&redirect_uri=/account`);
    for (let step = 0; step < 4 && page.status !== 0; step += 1) {
      page = page.body.includes('name="login"')
        ? await agent.submit(page, { login: input.login, password: 'x' }, { until })
        : await agent.submit(page, { prompt: 'consent' }, { until });
    }
    assert.equal(page.status, 0);
    const name = agent.cookieNames().find((one) => one.endsWith('login'));
    return { url: page.url.href, name, cookie: agent.cookie(name) };
  },

  async upstream() {
    const agent = new UserAgent();
    let page = await agent.go(`${input.issuer}/rp/authorize?idp=upstream&redirect_uri=/account`);
    for (let step = 0; step < 4 && page.url.origin !== issuer.origin; step += 1) {
      page = page.body.includes('name="login"')
        ? await agent.submit(page, { login: input.login, password: 'x' })
        : await agent.submit(page, { prompt: 'consent' });
    }
    const session = await agent.go(`${input.issuer}/auth/session`);
    return {
      status: page.status, path: page.url.pathname,
      session: session.status === 200 ? JSON.parse(session.body) : null,
    };
  },

  async sign_in_only() {
    const config = await discover();
    const { tokens } = await signIn(config);
    return { access_token: tokens.access_token, refresh_token: tokens.refresh_token, id_token: tokens.id_token };
  },
};

const result = await scenarios[input.scenario]();
process.stdout.write(`${JSON.stringify(result)}\n`);
