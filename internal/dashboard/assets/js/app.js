// The page asks for the picture after the one it has, shows it, and asks again.

import { $, h, setText } from './dom.js';
import { clock, count, now, roughly, setClock } from './format.js';
import { drawCharts, drawFlow, makeFlow } from './charts.js';
import { makeTables } from './tables.js';
import { Details } from './details.js';
import { ask, possible } from './actions.js';
import { listenToKeys } from './keys.js';

const state = { number: 0, versions: { waiting: 0, ended: 0, dead: 0 }, head: null, actions: false, lostSince: '' };

const tables = makeTables(state, open);
const details = new Details({ act, closed: (list, had) => { list.select(null); if (had) list.focus(); } });
makeFlow((list, chip) => {
  if (chip) tables[list].choose(chip);
  $(list).scrollIntoView({ block: 'nearest' });
  tables[list].focus();
});

function open(list, row, takesFocus) {
  for (const other of Object.values(tables)) other.select(other === list ? row : null);
  details.open(list, row, state.actions, takesFocus);
}

async function act(action, list, row) {
  if (!state.actions || !possible(action, list, row)) return;
  const back = document.activeElement;
  const done = await ask(action, row);
  if (document.contains(back)) back.focus();
  if (!done) return;
  if (state.found?.length) search($('filter').value.trim()); // it is not among those that are read again
  const told = $('told');
  told.textContent = done;
  clearTimeout(told.timer);
  told.timer = setTimeout(() => { told.textContent = ''; }, 8000);
}

$('filter').addEventListener('input', () => {
  if (state.found?.length) {
    state.found = [];
    showWaiting();
  }
  for (const list of Object.values(tables)) list.filter($('filter').value);
  offerSearch();
});

// offerSearch is for a request that is not among the most urgent: the whole queue is asked for its id.
function offerSearch() {
  const { waiting } = tables;
  const id = $('filter').value.trim();
  const missing = id && waiting.shown().length === 0 && waiting.total > waiting.rows.length;
  waiting.note.hidden = !missing;
  waiting.note.replaceChildren();
  if (!missing) return;
  waiting.note.append(h('button', { type: 'button', onclick: () => search(id) }, `Look for the request “${id}” in all ${count(waiting.total)}`));
}

async function search(id) {
  const { note } = tables.waiting;
  setText(note, 'looking through the queue …');
  try {
    const answer = await fetch(`/api/find?requestId=${encodeURIComponent(id)}`);
    const result = await answer.json();
    setText(note, result.error ?? (result.rows.length ? '' : `No request “${id}” waits.`));
    state.found = result.rows ?? [];
    showWaiting();
  } catch {
    setText(note, 'The dashboard’s server did not answer.');
  }
}

// showWaiting adds what was searched for to the most urgent.
function showWaiting() {
  const known = new Set(state.waiting.map((row) => row.sequenceNumber));
  const found = (state.found ?? []).filter((row) => !known.has(row.sequenceNumber));
  tables.waiting.set([...state.waiting, ...found], state.head.active + state.head.parked);
}

function show(answer) {
  setClock(answer.now);
  Object.assign(state, { number: answer.number, head: answer.head, actions: answer.actions });
  setText($('queue'), answer.queue);
  document.title = `hsmsweep: ${answer.queue}`;
  $('action-keys').hidden = !answer.actions;
  for (const name of ['waiting', 'ended', 'dead']) {
    if (!answer[name]) continue;
    state.versions[name] = answer[name].version;
    state[name] = answer[name].rows;
  }
  if (state.waiting) showWaiting();
  const { ends } = state.head;
  if (state.ended) tables.ended.set(state.ended, ends.completed + ends.skipped + ends.expanded + ends.failed, state.head.since);
  if (state.dead) tables.dead.set(state.dead, state.head.dead);
  if (state.head.ages) {
    drawFlow(state);
    drawCharts(state.head);
  }
  details.actions = state.actions;
  details.refresh(tables);
  tick();
}

// tick brings what changes with time up to date.
function tick() {
  for (const list of Object.values(tables)) list.tick();
  details.tick();
  if (state.head?.ages) drawFlow(state);
  drawPulse();
}

function drawPulse() {
  const { head, lostSince, broken } = state;
  if (broken) return;
  const pulse = (kind, text) => {
    if ($('pulse').className !== `pulse ${kind}`) $('pulse').className = `pulse ${kind}`;
    setText($('pulse-text'), text);
  };
  const faults = head?.faults ?? [];
  const old = head?.readAt ? `read ${ago(now() - Date.parse(head.readAt))}` : 'nothing was read yet';
  const strange = head?.strange ? ` · ${count(head.strange)} messages there are no events` : '';
  if (lostSince) pulse('lost', `no connection since ${clock(lostSince)} · ${old}`);
  else if (!head) pulse('wait', 'reading …');
  else if (faults.length) pulse('lost', `Service Bus cannot be read · ${old}`);
  else if (head.more) pulse('wait', `${old} · still reading older events`);
  else pulse('live', (head.pause > 3000 ? `${old}, every ${roughly(head.pause)}` : old) + strange);
  $('fault').hidden = !faults.length && !lostSince;
  setText($('fault'), lostSince ? 'The dashboard’s server does not answer. What is shown is old; this page tries again by itself.'
    : faults.length ? `${faults.join(' · ')} · What is shown is as it was; it is read again by itself.` : '');
}

const ago = (ms) => (ms < 2000 ? 'just now' : `${roughly(ms)} ago`);

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

// visible waits while nobody can see the page: then nothing is to be read for it.
function visible() {
  if (!document.hidden) return undefined;
  return new Promise((resolve) => { document.addEventListener('visibilitychange', resolve, { once: true }); });
}

// next gets the next picture; nothing where the server cannot be reached.
async function next() {
  try {
    const query = new URLSearchParams({ number: state.number, ...state.versions });
    const answer = await fetch(`/api/state?${query}`, { signal: AbortSignal.timeout(40000) });
    if (answer.status === 401) location.reload();
    return answer.ok ? await answer.json() : undefined;
  } catch {
    return undefined;
  }
}

async function follow() {
  for (let wait = 200; ; await pause(wait)) {
    await visible();
    const answer = await next();
    if (answer) {
      state.lostSince = '';
      wait = 200;
      show(answer);
    } else {
      state.lostSince ||= new Date(now()).toISOString();
      wait = Math.min(wait * 2, 5000);
      drawPulse();
    }
  }
}

drawCharts({}); // their places
listenToKeys({ tables, details, open, act, filter: $('filter') });
setInterval(tick, 1000);
follow().catch((fault) => {
  state.broken = true;
  Object.assign($('fault'), { textContent: `This page has a fault, and does not go on: ${fault.message}. Load it again.`, hidden: false });
  throw fault;
});
