// What needs a hand first, each mended where it is shown; below it, how the last days went.

import { call, get, patch, path, put, remove } from './api.js';
import { h, refill } from './dom.js';
import { badge, button, confirm, dialog, failure, heading, linkButton, milliseconds, notice, number, plural, say, section, skeleton, time } from './parts.js';
import { form } from './form.js';
import { carriers, linkDirectory, unshareDirectory } from './linking.js';
import { channelNames } from './names.js';
import { agents, picker } from './picker.js';
import { bars } from './plot.js';

/** Rows of refused M365 tenants that are shown at once. */
const PAGE = 10;

export async function view(context) {
  const hands = h('div');
  const { signal } = context;
  const redraw = async () => refill(hands, await needed(context, redraw));
  const days = h('div', skeleton(3));
  if (context.me.can.keep) lastDays(signal).then((drawn) => refill(days, drawn), (error) => signal.aborted || refill(days, failure(error)));
  await redraw();
  return [
    heading('Overview', { lead: `Who would be refused today at ${context.me.tenant?.name ?? context.me.client_id}, and how the last days went.` }),
    hands,
    context.me.can.keep && days,
  ];
}

/** What needs a hand. */
async function needed({ me, signal }, redraw) {
  const [refused, health] = await Promise.all([
    call('GET', '/end-companies/unlinked-tenants', { query: { page_size: PAGE }, signal }),
    get('/end-companies/health', {}, signal),
  ]);
  const seen = new Set(refused.data.map((row) => row.inbound_tenant_id));
  const installed = health.installed_without_company.items.filter((item) => !seen.has(item.end_client_tenant_id));
  const shared = health.shared_directories.items.filter((item) => !seen.has(item.tenant_id));
  if (refused.data.length + installed.length + shared.length + health.channels_without_agent.count === 0) {
    return section('Needs a hand', notice('good', 'Nobody would be refused today.',
      h('p', 'Every M365 tenant that a bot is installed for leads to exactly one company, and every channel has an agent that can answer.')));
  }
  return [
    refused.data.length > 0 && refusedTenants(me, refused, redraw, signal),
    findings('Companies that share an M365 tenant', health.shared_directories, shared, (item) => row(
      h('code', item.tenant_id),
      [item.companies.map(({ psa_company_name: name }, index) => [index > 0 && ', ', h('bdi', name)]),
        item.linked_companies > item.companies.length && ` and ${item.linked_companies - item.companies.length} more`],
      badge(carriers(item.linked_companies), 'warn'),
      me.can.keep && button('Choose who keeps it', async () => await unshareDirectory(item.tenant_id) && redraw(), { small: true }))),
    findings('Installed, and no company linked yet', health.installed_without_company, installed, (item) => row(
      h('code', item.end_client_tenant_id),
      ['Whoever writes there is refused. Channel ', h('a', { href: `#/channels/${item.channel_id}` }, h('bdi', item.internal_name))],
      null,
      me.can.keep && button('Link to a company', async () => await linkDirectory(item.end_client_tenant_id) && redraw(), { small: true, icon: 'link' }))),
    findings('Channels without an agent that can answer', health.channels_without_agent, health.channels_without_agent.items, (item) => row(
      h('a', { href: `#/channels/${item.channel_id}` }, h('bdi', item.internal_name)),
      item.message,
      badge(item.agent_name ?? 'agent is gone', 'bad'),
      me.can.keep && button('Mend', async () => await mendChannel(item) && redraw(), { small: true }))),
  ];
}

/** Findings of one kind, those of them that are not shown elsewhere; the server gives the first only. */
function findings(title, { count, items }, shown, rowOf) {
  return shown.length > 0 && section(title, h('ul.todo', shown.map(rowOf)),
    count > items.length && h('p.lead', `The first ${number(items.length)} of ${number(count)}.`));
}

const row = (name, text, mark, action) => h('li', h('div.todo-what', h('div.row', name, mark), h('p', text)), action);

/** The M365 tenants that were refused, a page at a time. */
function refusedTenants(me, first, redraw, signal) {
  const list = h('ul.todo');
  const more = h('div.paging');
  const draw = ({ data, meta }) => {
    list.append(...data.map((item) => row(
      h('code', item.inbound_tenant_id),
      [plural(item.attempts, 'message'), ' refused, last ', time(item.last_seen_at), ', first ', time(item.first_seen_at), ', through ',
        item.channel_id ? h('a', { href: `#/channels/${item.channel_id}` }, channelNames.element(item.channel_id)) : 'no channel', item.bot_id && [' (bot ', h('code', item.bot_id), ')']],
      badge(carriers(item.linked_companies), 'warn'),
      me.can.keep && h('div.actions',
        item.linked_companies > 1
          ? button('Choose who keeps it', async () => await unshareDirectory(item.inbound_tenant_id) && redraw(), { small: true, kind: 'primary' })
          : button('Link to a company', async () => await linkDirectory(item.inbound_tenant_id) && redraw(), { small: true, icon: 'link', kind: 'primary' }),
        button('Forget', async () => {
          if (!await confirm('Forget this M365 tenant?', 'It leaves this list until somebody there is refused again. Nothing else changes.', 'Forget', { kind: 'plain' })) return;
          await remove(path`/end-companies/unlinked-tenants/${item.inbound_tenant_id}`);
          say('It is forgotten until it is refused again.');
          await redraw();
        }, { small: true })))));
    refill(more, meta.pagination.has_more && button('Show more', async () => {
      draw(await call('GET', '/end-companies/unlinked-tenants', { query: { page_size: PAGE, cursor: meta.pagination.next_cursor }, signal }));
    }, { small: true }));
  };
  draw(first);
  return section('Refused M365 tenants',
    h('p.lead', 'People there wrote to a bot and were turned away, since it is not known which company they belong to.'), list, more);
}

/** Gives a channel an agent that can answer: another one, or the same one enabled. */
async function mendChannel(item) {
  const channel = await get(path`/channels/${item.channel_id}`);
  const agent = item.agent_name === null ? null : await get(path`/agents/${item.agent_id}`);
  const enables = agent !== null && agent.state === 'DISABLED' && agent.managed_agent_key === null && agent.autonomy_type === 'CONVERSATIONAL';
  const done = await dialog(`Mend ${item.internal_name}`, (close) => [
    h('p', item.message),
    enables && button(`Enable ${agent.name}`, async () => {
      await put(path`/agents/${item.agent_id}`, { state: 'ENABLED', version: agent.version });
      close(`${agent.name} is enabled.`);
    }, { kind: 'primary' }),
    form({
      fields: [{
        name: 'agent_id', label: enables ? 'Or have another agent answer' : 'Agent', kind: 'custom', required: true,
        make: (id, _, described) => picker({ id, described, search: agents({ audience: channel.audience, state: 'ENABLED', autonomy_type: 'CONVERSATIONAL' }), placeholder: 'Search agents…' }),
      }],
      label: 'Use this agent',
      async submit(values) {
        await patch(path`/channels/${item.channel_id}`, values);
        close('The channel has an agent that can answer.');
      },
    }).element,
  ]);
  if (done === null) return false;
  say(done);
  return true;
}

/** Figures of the last two weeks. */
async function lastDays(signal) {
  const day = 86_400_000;
  const to = Math.ceil(Date.now() / day) * day;
  const from = to - 14 * day;
  const stats = await get('/stats', { from: new Date(from).toISOString(), to: new Date(to).toISOString() }, signal);
  const byDay = new Map(stats.by_day.map((entry) => [entry.day.slice(0, 10), entry]));
  const points = (name, otherwise) => Array.from({ length: 14 }, (_, index) => {
    const date = new Date(from + index * day).toISOString();
    return { day: date, value: byDay.get(date.slice(0, 10))?.[name] ?? otherwise };
  });
  const card = (name, value, plot) => h('div.card.figure-card', h('span.figure-name', name), h('span.figure-value', value), plot);
  const failures = bars('Failed turns', points('failures', 0));
  failures.classList.add('bad');
  return section('The last two weeks',
    stats.total.sessions + stats.total.turns === 0
      ? h('div.empty', h('h3', 'Nobody has chatted yet.'), h('p', 'Try an agent as your technicians or as a company’s staff would meet it.'), linkButton('Try it', '#/try', { kind: 'primary' }))
      : h('div.figures',
        card('Sessions', number(stats.total.sessions), bars('Sessions', points('sessions', 0))),
        card('Turns', number(stats.total.turns), bars('Turns', points('turns', 0))),
        card('Failed turns', number(stats.total.failures), failures),
        card('Median time to first word', milliseconds(stats.total.median_first_word_ms), bars('Median time to first word', points('median_first_word_ms', null), milliseconds))));
}
