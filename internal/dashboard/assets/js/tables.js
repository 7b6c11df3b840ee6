// What the three lists show of a row.

import { List } from './lists.js';
import { age, countDown, dayOrClock, roughly, now, shortID, took } from './format.js';

const target = (row) => row.connectionId || row.selector || '';
// The connection's own name comes first, so that where there is no room its pool is cut.
const connection = { name: 'connection', label: 'Connection', title: target, text: (row) => shortID(target(row)).split('/').at(-1), also: (row) => shortID(target(row)).split('/').slice(0, -1).join('/') };
const request = { name: 'request', label: 'Request', text: (row) => row.requestId, title: (row) => row.requestId };

export function makeTables(state, open) {
  const waiting = new List('waiting', {
    title: 'Waiting', empty: 'Nothing waits.', open,
    key: (row) => row.lineage,
    columns: [
      request, connection,
      { name: 'why', label: 'Why', text: (row) => row.words, title: (row) => row.lastError || row.words, kind: (row) => row.why },
      { name: 'due', label: 'Due in', ticks: true, text: (row) => (row.parked ? countDown(row.dueAt) : 'now'), title: (row) => row.dueAt },
      { name: 'age', label: 'Age', ticks: true, text: (row) => age(row.requestedAt), title: (row) => row.requestedAt },
      { name: 'hops', label: 'Hops', text: (row) => String(row.hops) },
      { name: 'polls', label: 'Polls', text: (row) => String(row.polls) },
      { name: 'ticket', label: 'Ticket', text: (row) => row.ticket, title: (row) => row.ticket },
    ],
    chips: () => {
      const { active = 0, parked = 0, whys } = state.head ?? {};
      const reasons = (whys ?? []).map((w) => ({ name: w.why, title: w.words, count: w.count }));
      return [{ name: 'due', count: active, title: 'queued or in hand' }, { name: 'parked', count: parked, title: 'all that is scheduled' }, ...reasons];
    },
    chipOf: (row) => (row.parked ? ['parked', row.why] : ['due']),
  });
  const ended = new List('ended', {
    title: 'Ended', empty: 'No request has ended, as far as there are events.', open,
    key: (row) => row.id,
    columns: [
      { name: 'time', label: 'When', text: (row) => dayOrClock(row.finishedAt), title: (row) => row.finishedAt },
      { name: 'outcome', label: 'Outcome', text: (row) => row.outcome, also: code, title: (row) => row.detail || row.outcome, kind: (row) => row.kind },
      request, connection,
      { name: 'took', label: 'Took', text: (row) => took(row.requestedAt, row.finishedAt), title: () => 'from request to end' },
    ],
    chips: () => ['completed', 'skipped', 'expanded', 'failed'].map((kind) => ({ name: kind, count: state.head?.ends?.[kind] ?? 0 })),
    chipOf: (row) => [row.kind],
  });
  const dead = new List('dead', {
    title: 'Dead letters', empty: 'No dead letters.', open,
    key: (row) => row.sequenceNumber,
    columns: [
      { name: 'reason', label: 'Reason', text: (row) => row.reason, title: (row) => row.description, kind: () => 'failed' },
      request, connection,
      { name: 'age', label: 'For', ticks: true, text: (row) => roughly(now() - Date.parse(row.deadLetteredAt)), title: (row) => row.deadLetteredAt },
      { name: 'again', label: 'Resubmits', text: (row) => String(row.resubmits) },
    ],
    chips: () => [], chipOf: () => [],
  });
  return { waiting, ended, dead };
}

// code says more of a failure than that it failed.
function code(row) {
  return row.kind === 'failed' ? (row.detail || '').split(':')[0] : '';
}
