// Signing in with a sign-in link, with an API key, or with Microsoft Entra ID (authorization code
// with PKCE, RFC 7636).

import { call, credential, errorOf, get, post } from './api.js';
import { h, setContent } from './dom.js';
import { button, copyButton, errorText, failure, notice } from './components.js';

/** The storage keys of a pending Entra sign-in, and of the grant that later refreshes the token. */
const PENDING = 'switchboard.entra.pending';
const GRANT = 'switchboard.entra.grant';
/** The storage key of the id and the time of the sign-in, which the tabs that share it have too. */
const SIGN_IN = 'switchboard.sign-in';
/** A token is refreshed this long before it expires. */
const EARLY_MS = 120_000;
/** How long a new tab waits for the answers of other tabs. */
const ANSWER_MS = 250;

const read = (name) => JSON.parse(sessionStorage.getItem(name) ?? 'null');
const store = (name, value) => sessionStorage.setItem(name, JSON.stringify(value));

const base64url = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

/** The address that the authority redirects to: this page. */
const redirectUri = () => new URL(location.pathname, location.origin).href;

async function endpoints(entra) {
  const response = await fetch(`${entra.authority}/common/v2.0/.well-known/openid-configuration`, { credentials: 'omit' });
  if (!response.ok) throw new Error(`Microsoft Entra ID answered with status ${response.status}.`);
  return response.json();
}

async function goToEntra(entra) {
  if (!globalThis.crypto?.subtle) throw new Error('Signing in with Microsoft requires https or localhost.');
  const { authorization_endpoint: authorize, token_endpoint: tokens } = await endpoints(entra).catch((error) => {
    throw new Error(`Microsoft Entra ID cannot be reached. ${error.message}`);
  });
  const verifier = random();
  const state = random();
  const challenge = base64url(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier)));
  const scope = [...entra.scopes, 'openid', 'profile', 'offline_access'].join(' ');
  store(PENDING, { state, verifier, tokens, scope, client_id: entra.client_id, then: location.hash });
  const url = new URL(authorize);
  for (const [name, value] of Object.entries({
    client_id: entra.client_id, response_type: 'code', response_mode: 'query', redirect_uri: redirectUri(), scope, state,
    code_challenge: challenge, code_challenge_method: 'S256', prompt: 'select_account',
  })) url.searchParams.set(name, value);
  location.assign(url);
}

/** Gets tokens from the authority: `{ token, grant }`. */
async function fetchTokens(tokens, form) {
  const response = await fetch(tokens, { method: 'POST', body: new URLSearchParams(form), credentials: 'omit' });
  const body = await response.json().catch(() => ({}));
  if (!response.ok || !body.access_token) {
    throw new Error(`Microsoft did not sign you in. ${body.error_description ?? body.error ?? `Status ${response.status}.`}`);
  }
  const grant = {
    tokens, client_id: form.client_id, scope: form.scope, refresh_token: body.refresh_token ?? form.refresh_token ?? null,
    ends_at: Date.now() + (body.expires_in ?? 3_600) * 1_000,
  };
  return { token: body.access_token, grant };
}

let renewing = null;
credential.renew = async () => {
  const grant = read(GRANT);
  if (grant === null || grant.refresh_token === null || Date.now() < grant.ends_at - EARLY_MS) return;
  const renewed = read(SIGN_IN);
  renewing ??= fetchTokens(grant.tokens, {
    grant_type: 'refresh_token', client_id: grant.client_id, scope: grant.scope, refresh_token: grant.refresh_token,
  }).then((fetched) => {
    // The person can have signed out meanwhile.
    if (read(SIGN_IN)?.id !== renewed.id) return;
    keep({ ...renewed, ...fetched });
    tell('renewed');
  }, () => {
    // The old token is still valid for a while, and a 401 then asks for a sign-in. The refresh
    // token is dropped, so that not every call tries again.
    store(GRANT, { ...grant, refresh_token: null });
  }).finally(() => (renewing = null));
  await renewing;
};

/** The sign-in of this tab, `{ id, at, token, grant }`, or null. */
function signIn() {
  const token = credential.get();
  return token === null ? null : { ...read(SIGN_IN), token, grant: read(GRANT) };
}

/** Makes a sign-in the one of this tab. */
function keep({ id, at, token, grant }) {
  credential.set(token);
  store(SIGN_IN, { id, at });
  if (grant) store(GRANT, grant);
  else sessionStorage.removeItem(GRANT);
}

/** Forgets the sign-in of this tab. Other tabs keep theirs. */
export function forgetSignIn() {
  credential.clear();
  for (const name of [SIGN_IN, GRANT, PENDING]) sessionStorage.removeItem(name);
}

/** Makes a new sign-in the one of this tab. */
function begin({ token, grant = null }) {
  forgetSignIn();
  keep({ id: random(), at: Date.now(), token, grant });
}

/*
 * The tabs of a browser share a sign-in: a new tab asks, and the tabs that are signed in answer.
 * The browser delivers the messages to pages of this origin only, and stores none of them. Each tab
 * keeps the sign-in that it has, so that two people in two tabs are never mixed.
 */
const channel = new BroadcastChannel(`switchboard ${new URL('.', document.baseURI).pathname}`);
const TAB = random();
/** The answers to this tab's question, while the tab waits for them. */
let answers = null;
let asked = false;
/** The functions of the page, which `shareSignIn` sets. */
let page = null;

const tell = (kind, rest) => channel.postMessage({ kind, ...signIn(), ...rest });

/**
 * Shares the sign-in with the other tabs. `isSignedIn()` says whether the sign-in of this tab is
 * valid. `ended()` is called if the sign-in ended in another tab. `mayBegin()` says whether this tab
 * takes a sign-in that it has not waited for, and `began()` is called after it has.
 */
export function shareSignIn(functions) {
  page = functions;
}

channel.addEventListener('message', ({ data: { kind, to, ...other } }) => {
  const isSame = credential.get() !== null && other.id !== undefined && read(SIGN_IN)?.id === other.id;
  const take = () => {
    keep(other);
    page.began();
  };
  switch (kind) {
    case 'ask':
      if (page.isSignedIn()) tell('answer', { to: other.from });
      break;
    case 'answer':
      if (to !== TAB) break;
      if (answers) answers.add(other);
      else if (asked && page.mayBegin()) take();
      break;
    case 'began':
      if (page.mayBegin()) take();
      break;
    case 'renewed':
      if (isSame) keep(other);
      break;
    case 'ended':
      if (!isSame) break;
      forgetSignIn();
      page.ended();
      break;
  }
});

/** Asks the other tabs for a sign-in, and keeps the latest one. */
async function askOtherTabs() {
  answers = new Set();
  asked = true;
  channel.postMessage({ kind: 'ask', from: TAB });
  await new Promise((resolve) => setTimeout(resolve, ANSWER_MS));
  const [latest] = [...answers].sort((one, other) => other.at - one.at);
  answers = null;
  if (latest && credential.get() === null) keep(latest);
}

async function exchange(code) {
  begin(await post('/auth/exchange', { code }, { quiet: true }));
}

/**
 * Signs in with the code that a sign-in link or the authority put into the address, else with the
 * sign-in of another tab. The code is removed from the address first. Returns the text of an error, or null.
 */
export async function completeSignIn() {
  const query = new URLSearchParams(location.search);
  const fragment = new URLSearchParams(location.hash.slice(1));
  const pending = read(PENDING);
  try {
    if (query.has('state')) {
      history.replaceState(null, '', location.pathname + (pending?.then ?? ''));
      sessionStorage.removeItem(PENDING);
      if (query.get('state') !== pending?.state) return 'This sign-in was not started on this page. Start again.';
      if (query.has('error')) return `Microsoft did not sign you in. ${query.get('error_description') ?? query.get('error')}`;
      forgetSignIn();
      begin(await fetchTokens(pending.tokens, {
        grant_type: 'authorization_code', client_id: pending.client_id, scope: pending.scope, redirect_uri: redirectUri(),
        code: query.get('code'), code_verifier: pending.verifier,
      }));
      tell('began');
    } else if (fragment.has('code')) {
      history.replaceState(null, '', location.pathname);
      await exchange(fragment.get('code'));
      tell('began');
    } else if (credential.get() === null && !history.state?.signedOut) {
      await askOtherTabs();
    }
    return null;
  } catch (error) {
    return errorText(error);
  }
}

/**
 * The caller with its permissions and its tenant, or null if nobody is signed in. Throws
 * `ApiError`.
 */
export async function currentUser() {
  if (credential.get() === null) return null;
  try {
    const { data: me } = await call('GET', '/whoami', { quiet: true });
    const can = {
      /** Change agents, channels, companies and articles. */
      manage: me.kind === 'service_account' || me.role === 'ADMIN',
      /** Manage API keys and users. */
      admin: me.kind === 'dashboard_user' && me.role === 'ADMIN',
      chat: me.role !== 'VIEWER',
    };
    const tenant = me.kind === 'end_user_session' ? null : await get('/tenant');
    return { ...me, can, tenant };
  } catch (error) {
    if (error.status === 401) return null;
    throw error;
  }
}

/** Ends the sign-in in all tabs that share it, on the server too if the server issued the token. */
export async function signOut() {
  try {
    if (credential.get() !== null) await call('POST', '/auth/sign-out', { quiet: true });
  } catch {
    // The server cannot end API keys and Entra's tokens. The page forgets them either way.
  }
  channel.postMessage({ kind: 'ended', id: read(SIGN_IN)?.id });
  forgetSignIn();
}

/** Signs in with a pasted API key, or with the code of a pasted link. */
async function signInWith(text) {
  if (/^neo_sk_/.test(text)) {
    const before = signIn();
    begin({ token: text });
    try {
      await call('GET', '/whoami', { quiet: true });
    } catch (error) {
      forgetSignIn();
      if (before !== null) keep(before);
      throw error;
    }
    return;
  }
  const code = text.includes('code=') ? new URLSearchParams(text.slice(text.indexOf('code='))).get('code') : text;
  await exchange(code);
}

/** How to get a sign-in link: the command of this server, which the server tells people on its machine. */
async function linkCommand() {
  const response = await fetch(new URL('dashboard/login-command', document.baseURI), { cache: 'no-store', credentials: 'omit' });
  if (!response.ok) throw await errorOf(response);
  const { command, client_id: tenant, creates_tenant: creates, has_others: others } = await response.json();
  return [
    h('p', creates ? 'This server has no tenant yet. Create one on the command line, then load this page again.' : 'Create a link on the command line. It works once.'),
    h('div.secret', h('code', command), copyButton(command, 'Copy the command')),
    others && h('p', 'It signs you in to ', h('code', tenant), '. The server has other tenants too.'),
  ];
}

/** The sign-in form. `done` is called after a sign-in. `why` is the text of an earlier error. */
export function signInPanel(done, why) {
  const problem = h('div', why && notice('bad', 'You are not signed in.', h('p', why)));
  const input = h('input.input.code', {
    id: 'sign-in-with', type: 'password', name: 'credential', autocomplete: 'off', spellcheck: 'false', required: true,
    'aria-describedby': 'sign-in-hint',
  });
  const fail = (error) => setContent(problem, notice('bad', 'Sign-in failed.', h('p', errorText(error))));
  const submit = button('Sign in', null, { kind: 'primary', type: 'submit' });
  const form = h('form.form', {
    novalidate: true,
    onsubmit: async (event) => {
      event.preventDefault();
      const text = input.value.trim();
      if (text === '') {
        fail(new Error('Enter a sign-in link or an API key.'));
        input.focus();
        return;
      }
      if (submit.getAttribute('aria-disabled') === 'true') return;
      submit.setAttribute('aria-disabled', 'true');
      problem.replaceChildren();
      try {
        await signInWith(text);
        input.value = '';
        tell('began');
        await done();
      } catch (error) {
        fail(error);
      } finally {
        submit.removeAttribute('aria-disabled');
      }
    },
  },
  h('div.field', h('label', { for: 'sign-in-with' }, 'Sign-in link or API key'), input,
    h('p.hint', { id: 'sign-in-hint' }, 'An API key signs in as its service account.')),
  h('div.form-actions', submit));
  const entra = h('div.entra');
  const command = h('div.hint.stack');
  const load = async () => {
    try {
      const [{ data }, how] = await Promise.all([call('GET', '/auth/config', { quiet: true }), linkCommand()]);
      if (data.entra !== null) {
        setContent(entra, button('Sign in with Microsoft', () => goToEntra(data.entra).catch(fail), { kind: 'primary' }), h('div.or', h('span', 'or')));
      }
      setContent(command, how);
    } catch (error) {
      setContent(command, failure(error, load));
    }
  };
  load();
  return h('div.sign-in-panel', problem, entra, form, command);
}
