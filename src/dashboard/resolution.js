// Why an agent answers, in words (contract, section 3).

import { h } from './dom.js';

/** The rule that decided, in a sentence; `channel` and `company` are how they are named in it. */
export function why(rule, { channel, company }) {
  const pinned = company ? [' The chat is pinned to ', h('strong', company), ': it sees that company’s articles, and no other’s.'] : ' It is pinned to no company.';
  switch (rule) {
    case 'white_label_install':
      return ['The bot of ', channel, ' is installed for the M365 tenant that the message came from, so that channel’s agent answers.', pinned];
    case 'bot_channel':
      return ['The MSP has ', channel, ' registered for the bot that was written to, so that channel’s agent answers.', pinned];
    case 'neo_support':
      return ['No channel of the MSP is registered for the bot that was written to, so its managed support agent answers.', pinned];
    default:
      return [company ? 'This agent was selected by hand, to try it as a company’s staff would meet it.' : 'This agent was selected by hand.', pinned];
  }
}
