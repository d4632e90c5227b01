// Try an agent: as a technician, as a client's staff would meet it, or as the relay would route it.

import { all, get, path, post } from './api.js';
import { conversation } from './chat.js';
import { h, newId, refill } from './dom.js';
import { form } from './form.js';
import { linkDirectory, unshareDirectory } from './linking.js';
import { agentNames, channelNames, companyNames } from './names.js';
import { badge, button, facts, heading, linkButton, notice, sentence } from './parts.js';
import { agentOption, agents, companies, companyOption, picker } from './picker.js';
import { why } from './resolution.js';

/** Bots and M365 tenants that are suggested at most. */
const SUGGESTED = 200;

export async function view(context) {
  const { me, signal, query } = context;
  const ways = [
    !me.platform && { name: 'technician', label: 'Technician', make: technician },
    !me.platform && me.can.keep && { name: 'staff', label: 'Client’s staff', make: staff },
    me.can.keep && { name: 'relay', label: 'Relay', make: relay },
  ].filter(Boolean);
  const wanted = query.get('agent_id') ? await agentOption(query.get('agent_id')) : null;
  const company = query.get('end_company_id') ? await companyOption(query.get('end_company_id')) : null;
  const first = wanted?.row.audience === 'END_USER' || company ? 'staff' : query.get('as');

  const place = h('div.stack');
  const chat = h('section', { 'aria-label': 'Chat' });
  const verdict = h('div.stack', { 'aria-live': 'polite' });
  let current = null;

  const tabs = ways.map((way) => h('button', { type: 'button', onclick: () => choose(way) }, way.label));
  const choose = (way) => {
    tabs.forEach((tab, index) => tab.setAttribute('aria-pressed', String(ways[index] === way)));
    verdict.replaceChildren();
    refill(place, way.make({ context, open, verdict, wanted, company }));
  };

  /** Begins a session and shows it; the one before stays among the sessions. */
  async function open(body, people) {
    const session = await post('/chat/sessions', body);
    const agent = await get(path`/agents/${session.agent_id}`, {}, signal).catch(() => null);
    current?.abort();
    current = new AbortController();
    signal.addEventListener('abort', () => current.abort(), { once: true });
    refill(verdict, told('good', session, session.resolution.rule), linkButton('Open in Sessions', `#/sessions/${session.id}`));
    refill(chat, conversation({
      session, signal: current.signal, writes: true,
      people: { user: people, assistant: agent?.name ?? 'Agent' },
      opening: {
        welcome: agent?.agent_settings?.welcome_message ?? 'Ask something.',
        prompts: agent?.agent_settings?.suggested_prompts ?? [],
      },
    }));
    chat.querySelector('textarea').focus();
  }

  choose(ways.find((way) => way.name === first) ?? ways[0]);
  refill(chat, h('div.empty', h('h2', 'No chat yet.'), h('p', 'Choose who you are and which agent you meet, then begin. What you say here is kept among the sessions.')));
  return [
    heading('Try it', { lead: 'Meet an agent as those who will talk to it do.' }),
    h('div.columns.two.try',
      chat,
      h('div.card.stack',
        ways.length > 1 && h('div.segments', { role: 'group', 'aria-label': 'Try it as' }, tabs),
        place, verdict)),
  ];
}

/** A verdict: who answers, for whom, why. */
function told(kind, { agent_id: agent, end_company_id: company, channel_id: channel, client_id: tenant }, rule) {
  return h('div.card.stack.verdict',
    h('div.row', h('strong', 'Answered by ', agentNames.element(agent)), badge(rule, kind === 'good' ? 'good' : 'info')),
    h('p', why(rule, {
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

function technician({ open, wanted }) {
  return [
    h('p.muted', 'An internal agent, as your own technicians meet it.'),
    form({
      fields: [pickAgent('MSP', wanted?.row.audience === 'MSP' ? wanted : null)],
      label: 'Begin a chat',
      submit: (values) => open(values, 'You'),
    }).element,
  ];
}

function staff({ open, wanted, company }) {
  return [
    h('p.muted', 'An agent for clients’ staff, seeing exactly what this company’s staff would. That you did so is an audit event.'),
    form({
      fields: [
        pickAgent('END_USER', wanted?.row.audience === 'END_USER' ? wanted : null),
        {
          name: 'end_company_id', label: 'Company', kind: 'custom', required: true,
          make: (id, _, described) => picker({ id, described, start: company, search: companies(), placeholder: 'Search companies…' }),
        },
      ],
      label: 'Begin a chat',
      submit: (values) => open(values, 'Client staff (you)'),
    }).element,
  ];
}

function relay({ context, open, verdict }) {
  const { me, signal } = context;
  const bots = h('datalist', { id: newId('bots') });
  const directories = h('datalist', { id: newId('directories') });
  suggest(bots, directories, signal).catch(() => {
    // Suggestions are a comfort; ids can be typed without them.
  });
  const made = form({
    fields: [
      { name: 'bot_id', label: 'Bot', code: true, nullable: true, hint: 'The bot that was written to, as the relay names it.' },
      { name: 'inbound_tenant_id', label: 'M365 tenant', code: true, nullable: true, hint: 'The directory of whoever wrote.' },
    ],
    label: 'Ask who would answer',
    submit: ask,
  });
  made.element.elements.bot_id.setAttribute('list', bots.id);
  made.element.elements.inbound_tenant_id.setAttribute('list', directories.id);

  async function ask(values) {
    const route = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null));
    const asked = { ...route, managed_agent_key: 'NEO_SUPPORT' };
    try {
      const found = await post('/chat/sessions/resolve', asked);
      // Only the relay itself is routed; others meet the same agent as the same company's staff.
      const body = me.platform ? asked : { agent_id: found.agent_id, ...(found.end_company_id ? { end_company_id: found.end_company_id } : {}) };
      refill(verdict, told('info', found, found.rule), button('Chat like this', () => open(body, found.end_company_id ? 'Client staff (you)' : 'You'), { kind: 'primary' }));
    } catch (error) {
      if (error.status === 400 || error.status === 0 || error.status === 429) throw error;
      refill(verdict, refused(error, values, () => ask(values)));
    }
  }

  return [
    h('p.muted', 'What the relay would be told for a message from Teams. Nothing is written until you begin a chat.'),
    made.element, bots, directories,
  ];
}

/** A refusal, with what mends it where that can be done from here. */
function refused(error, { inbound_tenant_id: directory }, again) {
  const mend = error.code !== 'end_company_not_mapped' || !directory ? null
    : error.details.linked_companies > 1
      ? button('Choose who keeps the link', async () => await unshareDirectory(directory) && again(), { small: true })
      : button('Link to a company', async () => await linkDirectory(directory) && again(), { small: true, icon: 'link' });
  return notice('bad', 'Nobody would answer.', h('p', 'The person would be told: ', h('q', sentence(error))), h('p', badge(error.code, 'bad')), mend);
}

/** Bots of the tenant's channels, and M365 tenants of its companies and of those that were refused. */
async function suggest(bots, directories, signal) {
  const known = new Set();
  for await (const channel of all('/channels', {}, signal, SUGGESTED)) {
    if (channel.bot_id && !known.has(channel.bot_id)) bots.append(h('option', { value: channel.bot_id }, channel.internal_name));
    known.add(channel.bot_id);
  }
  for await (const row of all('/end-companies/unlinked-tenants', {}, signal, SUGGESTED)) directories.append(h('option', { value: row.inbound_tenant_id }, 'refused before'));
  for await (const company of all('/end-companies', {}, signal, SUGGESTED)) {
    if (company.tenant_id) directories.append(h('option', { value: company.tenant_id }, company.psa_company_name));
  }
}
