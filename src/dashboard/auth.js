// Signing in: by a link of the server's own, by Microsoft Entra ID (authorization code with PKCE, RFC 7636), by a key.

import { call, credential, get, post } from './api.js';
import { h, refill } from './dom.js';
import { button, notice, sentence } from './parts.js';

/** What an Entra sign-in under way has to remember over the visit to the authority, and afterwards to get fresh tokens. */
const UNDER_WAY = 'switchboard.entra.under-way';
const GRANT = 'switchboard.entra.grant';
/** Fresh tokens are fetched this long before the old one ends. */
const EARLY_MS = 120_000;

const read = (name) => JSON.parse(sessionStorage.getItem(name) ?? 'null');
const keep = (name, value) => sessionStorage.setItem(name, JSON.stringify(value));

const base64url = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

/** The address that the authority sends people back to: this page's own. */
const here = () => new URL(location.pathname, location.origin).href;

async function endpoints(entra) {
  const response = await fetch(`${entra.authority}/common/v2.0/.well-known/openid-configuration`, { credentials: 'omit' });
  if (!response.ok) throw new Error(`Microsoft Entra ID answered with status ${response.status}.`);
  return response.json();
}

async function goToEntra(entra) {
  if (!globalThis.crypto?.subtle) throw new Error('Signing in with Microsoft needs this page over https, or on this machine.');
  const { authorization_endpoint: authorize, token_endpoint: tokens } = await endpoints(entra).catch((error) => {
    throw new Error(`Microsoft Entra ID cannot be reached. ${error.message}`);
  });
  const verifier = random();
  const state = random();
  const challenge = base64url(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier)));
  const scope = [...entra.scopes, 'openid', 'profile', 'offline_access'].join(' ');
  keep(UNDER_WAY, { state, verifier, tokens, scope, client_id: entra.client_id, then: location.hash });
  const url = new URL(authorize);
  for (const [name, value] of Object.entries({
    client_id: entra.client_id, response_type: 'code', response_mode: 'query', redirect_uri: here(), scope, state,
    code_challenge: challenge, code_challenge_method: 'S256', prompt: 'select_account',
  })) url.searchParams.set(name, value);
  location.assign(url);
}

async function granted(tokens, form) {
  const response = await fetch(tokens, { method: 'POST', body: new URLSearchParams(form), credentials: 'omit' });
  const body = await response.json().catch(() => ({}));
  if (!response.ok || !body.access_token) {
    throw new Error(`Microsoft did not sign you in. ${body.error_description ?? body.error ?? `It answered with status ${response.status}.`}`);
  }
  credential.set(body.access_token);
  keep(GRANT, {
    tokens, client_id: form.client_id, scope: form.scope, refresh_token: body.refresh_token ?? form.refresh_token ?? null,
    ends_at: Date.now() + (body.expires_in ?? 3_600) * 1_000,
  });
}

let renewing = null;
credential.renew = async () => {
  const grant = read(GRANT);
  if (grant === null || grant.refresh_token === null || Date.now() < grant.ends_at - EARLY_MS) return;
  renewing ??= granted(grant.tokens, {
    grant_type: 'refresh_token', client_id: grant.client_id, scope: grant.scope, refresh_token: grant.refresh_token,
  }).catch(() => {
    // The old token is good for a while yet, and a refusal then asks for a sign-in; nothing is gained by trying at each call.
    keep(GRANT, { ...grant, refresh_token: null });
  }).finally(() => (renewing = null));
  await renewing;
};

function forget() {
  credential.clear();
  sessionStorage.removeItem(GRANT);
  sessionStorage.removeItem(UNDER_WAY);
}

async function exchange(code) {
  const { token } = await post('/auth/exchange', { code }, { quiet: true });
  forget();
  credential.set(token);
}

/**
 * Takes what the address brings from a sign-in link or from the authority, and takes it out of the address first.
 * Gives a sentence if that did not work, else null.
 */
export async function arrive() {
  const query = new URLSearchParams(location.search);
  const fragment = new URLSearchParams(location.hash.slice(1));
  const underWay = read(UNDER_WAY);
  try {
    if (query.has('state')) {
      history.replaceState(null, '', location.pathname + (underWay?.then ?? ''));
      sessionStorage.removeItem(UNDER_WAY);
      if (query.get('state') !== underWay?.state) return 'This sign-in was not begun here. Begin again.';
      if (query.has('error')) return `Microsoft did not sign you in. ${query.get('error_description') ?? query.get('error')}`;
      forget();
      await granted(underWay.tokens, {
        grant_type: 'authorization_code', client_id: underWay.client_id, scope: underWay.scope, redirect_uri: here(),
        code: query.get('code'), code_verifier: underWay.verifier,
      });
    } else if (fragment.has('code')) {
      history.replaceState(null, '', location.pathname);
      await exchange(fragment.get('code'));
    }
    return null;
  } catch (error) {
    return sentence(error);
  }
}

/** Who is signed in, with what they may do; null where nobody is. Throws `Refused` for other failures. */
export async function who() {
  if (credential.get() === null) return null;
  try {
    const { data: me } = await call('GET', '/whoami', { quiet: true });
    const keeps = me.kind === 'service_account' || me.role === 'ADMIN';
    const can = {
      /** Change agents, channels, companies, articles. */
      keep: keeps,
      /** Manage keys and people. */
      admin: me.kind === 'dashboard_user' && me.role === 'ADMIN',
      /** Chat. */
      chat: me.role !== 'VIEWER',
    };
    const tenant = me.kind === 'end_user_session' ? null : await get('/tenant');
    return { ...me, can, tenant };
  } catch (error) {
    if (error.status === 401) return null;
    throw error;
  }
}

/** Ends the sign-in, at the server where it was made there. */
export async function signOut() {
  try {
    if (credential.get() !== null) await call('POST', '/auth/sign-out', { quiet: true });
  } catch {
    // Keys and Entra's tokens end elsewhere; here they are forgotten either way.
  }
  forget();
}

/** What was pasted: a key as it is, else the code of a link. */
async function take(text) {
  if (/^neo_sk_/.test(text)) {
    const before = credential.get();
    const grant = sessionStorage.getItem(GRANT);
    forget();
    credential.set(text);
    try {
      await call('GET', '/whoami', { quiet: true });
    } catch (error) {
      forget();
      if (before !== null) credential.set(before);
      if (grant !== null) sessionStorage.setItem(GRANT, grant);
      throw error;
    }
    return;
  }
  const code = text.includes('code=') ? new URLSearchParams(text.slice(text.indexOf('code='))).get('code') : text;
  await exchange(code);
}

/** The ways to sign in; `done` is called when one worked. `why` is a sentence of what went wrong before. */
export function signInPanel(done, why) {
  const problem = h('div', why && notice('bad', 'You are not signed in.', h('p', why)));
  const input = h('input.input.code', {
    id: 'sign-in-with', type: 'password', name: 'credential', autocomplete: 'off', spellcheck: 'false', required: true,
    'aria-describedby': 'sign-in-hint',
  });
  const fail = (error) => refill(problem, notice('bad', 'That did not work.', h('p', sentence(error))));
  const submit = button('Sign in', null, { kind: 'primary', type: 'submit' });
  const form = h('form.form', {
    onsubmit: async (event) => {
      event.preventDefault();
      const text = input.value.trim();
      if (text === '' || submit.getAttribute('aria-disabled') === 'true') return;
      submit.setAttribute('aria-disabled', 'true');
      problem.replaceChildren();
      try {
        await take(text);
        input.value = '';
        await done();
      } catch (error) {
        fail(error);
      } finally {
        submit.removeAttribute('aria-disabled');
      }
    },
  },
  h('div.field', h('label', { for: 'sign-in-with' }, 'Sign-in link or API key'), input,
    h('p.hint', { id: 'sign-in-hint' }, 'A link comes from ', h('code', 'switchboard login-link --tenant CLIENT_ID'), ' and works once. A key acts as its service account.')),
  h('div.form-actions', submit));
  const entra = h('div.entra');
  call('GET', '/auth/config', { quiet: true }).then(({ data }) => {
    if (data.entra === null) return;
    refill(entra, button('Sign in with Microsoft', () => goToEntra(data.entra).catch(fail), { kind: 'primary' }), h('div.or', h('span', 'or')));
  }, fail);
  return h('div.sign-in-panel', problem, entra, form);
}
