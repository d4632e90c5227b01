// Chats with an agent as a technician, as a client's staff, or as the relay would route a message.

import { allRows, get, path, post } from './api.js';
import { conversation } from './chat.js';
import { append, h, newId, setContent } from './dom.js';
import { form } from './form.js';
import { linkDirectory, unshareDirectory } from './linking.js';
import { agentNames, channelNames, companyNames } from './names.js';
import { badge, button, errorText, facts, heading, linkButton, notice } from './components.js';
import { agentOption, agents, companies, companyOption, picker } from './picker.js';
import { explainRule } from './resolution.js';

/** Rows that are read for suggestions of bots, and of M365 tenants. */
const SUGGESTED = 200;

export async function view(context) {
  const { me, signal, query } = context;
  const modes = [
    !me.platform && { name: 'technician', label: 'Technician', make: technicianForm },
    !me.platform && me.can.manage && { name: 'staff', label: 'Client’s staff', make: staffForm },
    me.can.manage && { name: 'relay', label: 'Relay', make: relayForm },
  ].filter(Boolean);
  const wanted = query.get('agent_id') ? await agentOption(query.get('agent_id')) : null;
  const company = query.get('end_company_id') ? await companyOption(query.get('end_company_id')) : null;
  const first = wanted?.row.audience === 'END_USER' || company ? 'staff' : query.get('as');
  /** The chat of an earlier visit, which a reload continues. */
  const kept = query.get('session') && await get(path`/chat/sessions/${query.get('session')}`, {}, signal).catch((error) => {
    if (error.status !== 404) throw error;
    return null;
  });

  const settings = h('div.stack');
  const chat = h('section', { 'aria-label': 'Chat' });
  const decision = h('div.stack', { 'aria-live': 'polite' });
  const inside = h('div.stack.try-settings', { id: newId('settings') });
  /** Folds the settings on a narrow page, where they would cover the chat. */
  const fold = h('button.button.small.fold', { hidden: true, type: 'button', 'aria-controls': inside.id, onclick: () => setFolded(!card.classList.contains('folded')) }, 'Settings');
  const card = h('div.card', fold, inside);
  const setFolded = (isFolded) => {
    card.classList.toggle('folded', isFolded);
    fold.setAttribute('aria-expanded', String(!isFolded));
  };
  let mode = null;
  let current = null;

  const tabs = modes.map((offered) => h('button', { type: 'button', onclick: () => choose(offered) }, offered.label));
  const choose = (chosen) => {
    mode = chosen;
    tabs.forEach((tab, index) => tab.setAttribute('aria-pressed', String(modes[index] === mode)));
    decision.replaceChildren();
    setContent(settings, mode.make({ context, startChat, decision, wanted, company }));
  };

  /** Creates a session and shows it. Its id is in the address, so that a reload continues the chat. */
  async function startChat(body) {
    const session = await post('/chat/sessions', body);
    context.remember(new Map([['as', mode.name], ['session', session.id]]));
    await show(session);
    chat.querySelector('textarea').focus();
  }

  async function show(session) {
    const agent = await get(path`/agents/${session.agent_id}`, {}, signal).catch(() => null);
    current?.abort();
    current = new AbortController();
    signal.addEventListener('abort', () => current.abort(), { once: true });
    setContent(decision, decisionCard('good', session, session.resolution.rule), linkButton('Open in Sessions', `#/sessions/${session.id}`));
    setContent(chat, conversation({
      session, signal: current.signal, writes: true,
      people: { user: session.end_company_id ? 'Client staff (you)' : 'You', assistant: agent?.name ?? 'Agent' },
      opening: {
        welcome: agent?.agent_settings?.welcome_message ?? 'Ask a question.',
        prompts: agent?.agent_settings?.suggested_prompts ?? [],
      },
    }));
    fold.hidden = false;
    setFolded(true);
  }

  append(inside, modes.length > 1 && h('div.segments', { role: 'group', 'aria-label': 'Try it as' }, tabs), settings, decision);
  setFolded(false);
  choose(modes.find((mode) => mode.name === first) ?? modes[0]);
  if (kept && kept.created_by.id === me.id && kept.archived_at === null) await show(kept);
  else setContent(chat, h('div.empty', h('h2', 'No chat yet.'), h('p', 'Choose your role and an agent, then start a chat. The chat is stored as a session.')));
  return [
    heading('Try it', { lead: 'Chat with an agent the way its users do.' }),
    h('div.columns.two.try',
      chat, card),
  ];
}

/** The routing decision: the agent, the rule, and the company. */
function decisionCard(kind, { agent_id: agent, end_company_id: company, channel_id: channel, client_id: tenant }, rule) {
  return h('div.card.stack.decision',
    h('div.row', h('strong', 'Answered by ', agentNames.element(agent)), badge(rule, kind === 'good' ? 'good' : 'info')),
    h('p', explainRule(rule, {
      channel: channel ? h('a', { href: `#/channels/${channel}` }, channelNames.element(channel)) : 'a channel',
      company: company && companyNames.element(company),
    })),
    facts([['Acting for', tenant], ['Company', company ? companyNames.element(company) : 'none'], ['Agent', String(agent)]]));
}

const pickAgent = (audience, start, label = 'Agent') => ({
  name: 'agent_id', label, kind: 'custom', required: true,
  make: (id, _, described) => picker({
    id, described, start, placeholder: 'Search agents…',
    search: agents({ audience, state: 'ENABLED', autonomy_type: 'CONVERSATIONAL' }),
  }),
});

function technicianForm({ startChat, wanted }) {
  return [
    h('p.muted', 'Chat with an internal agent, as your technicians do.'),
    form({
      fields: [pickAgent('MSP', wanted?.row.audience === 'MSP' ? wanted : null)],
      label: 'Start chat',
      submit: (values) => startChat(values),
    }).element,
  ];
}

function staffForm({ startChat, wanted, company }) {
  return [
    h('p.muted', 'Chat with an agent for clients’ staff. The agent uses exactly the articles that this company’s staff may see. Each such chat is recorded in the audit log.'),
    form({
      fields: [
        pickAgent('END_USER', wanted?.row.audience === 'END_USER' ? wanted : null),
        {
          name: 'end_company_id', label: 'Company', kind: 'custom', required: true,
          make: (id, _, described) => picker({ id, described, start: company, search: companies(), placeholder: 'Search companies…' }),
        },
      ],
      label: 'Start chat',
      submit: (values) => startChat(values),
    }).element,
  ];
}

function relayForm({ context, startChat, decision }) {
  const { me, signal } = context;
  const bots = h('datalist', { id: newId('bots') });
  const directories = h('datalist', { id: newId('directories') });
  suggest(bots, directories, signal).catch(() => {
    // Suggestions are optional. Ids can be typed without them.
  });
  const made = form({
    fields: [
      { name: 'bot_id', label: 'Bot', code: true, nullable: true, hint: 'The id of the bot that receives the message.' },
      { name: 'inbound_tenant_id', label: 'M365 tenant', code: true, nullable: true, hint: 'The Microsoft directory of the person who writes.' },
    ],
    label: 'Show who would answer',
    submit: resolve,
  });
  made.element.elements.bot_id.setAttribute('list', bots.id);
  made.element.elements.inbound_tenant_id.setAttribute('list', directories.id);

  async function resolve(values) {
    const route = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null));
    const request = { ...route, managed_agent_key: 'NEO_SUPPORT' };
    try {
      const found = await post('/chat/sessions/resolve', request);
      // Only a platform key can create a routed session. Others chat with the same agent and
      // company.
      const body = me.platform ? request : { agent_id: found.agent_id, ...(found.end_company_id ? { end_company_id: found.end_company_id } : {}) };
      setContent(decision, decisionCard('info', found, found.rule), button('Start this chat', () => startChat(body), { kind: 'primary' }));
    } catch (error) {
      if (error.status === 400 || error.status === 0 || error.status === 429) throw error;
      setContent(decision, refusal(error, values, me, () => resolve(values)));
    }
  }

  return [
    h('p.muted', 'See how Switchboard would route a message from Teams. No session is stored until you start a chat. A refusal is recorded in the audit log.'),
    made.element, bots, directories,
  ];
}

/** A refusal, with a button that fixes the link of the M365 tenant if that is the cause. */
function refusal(error, { inbound_tenant_id: directory }, me, again) {
  if (error.code === 'not_found' && directory && !me.platform) return notOwn();
  const fix = error.code !== 'end_company_not_mapped' || !directory ? null
    : error.details.linked_companies > 1
      ? button('Choose one company', async () => await unshareDirectory(directory) && again(), { small: true })
      : button('Link to a company', async () => await linkDirectory(directory) && again(), { small: true, icon: 'link' });
  return notice('bad', 'No agent would answer.', h('p', 'The person would get this reply: ', h('q', errorText(error))), h('p', badge(error.code, 'bad')), fix);
}

/** The refusal for an M365 tenant that is not the tenant’s own. The reply does not tell whether another tenant serves it. */
function notOwn() {
  return notice('info', 'You cannot ask about this M365 tenant.',
    h('p', 'You can ask about an M365 tenant that a company is linked to, that one of your channels is installed for, or that was refused at one of your channels.'),
    h('p', 'If one of these applies, somebody else has the bot’s install for the M365 tenant: ask the platform’s operator.'), h('p', badge('not_found', 'info')));
}

/** Suggests the bots of channels, and the M365 tenants that are linked or were refused. */
async function suggest(bots, directories, signal) {
  const seen = new Set();
  for await (const channel of allRows('/channels', {}, signal, SUGGESTED)) {
    if (channel.bot_id && !seen.has(channel.bot_id)) bots.append(h('option', { value: channel.bot_id }, channel.internal_name));
    seen.add(channel.bot_id);
  }
  for await (const row of allRows('/end-companies/unlinked-tenants', {}, signal, SUGGESTED)) directories.append(h('option', { value: row.inbound_tenant_id }, 'refused before'));
  for await (const company of allRows('/end-companies', {}, signal, SUGGESTED)) {
    for (const id of company.tenant_ids) directories.append(h('option', { value: id }, company.psa_company_name));
  }
}
