// The numbers at the top, and the small charts.

import { $, h, setText, svg } from './dom.js';
import { age, count, countDown } from './format.js';

const kinds = ['completed', 'skipped', 'expanded', 'failed'];

// tiles are the stations of a request's way, and the list that each leads to.
const tiles = [
  { name: 'due', label: 'queued or in hand', list: 'waiting', chip: 'due', title: 'Active messages. Service Bus does not tell which of them a worker has in hand.' },
  { name: 'parked', label: 'parked', list: 'waiting', chip: 'parked', title: 'Scheduled messages: no process holds anything for them.' },
  { name: 'completed', label: 'completed', list: 'ended', chip: 'completed', title: 'The connection is gone.' },
  { name: 'skipped', label: 'skipped', list: 'ended', chip: 'skipped', title: 'Nothing was deleted, on purpose.' },
  { name: 'expanded', label: 'expanded', list: 'ended', chip: 'expanded', title: 'A selector that became requests.' },
  { name: 'failed', label: 'failed', list: 'ended', chip: 'failed', title: 'Given up; each became a dead letter.' },
  { name: 'dead', label: 'dead letters', list: 'dead', title: 'Failed requests about which nobody has decided yet.' },
];

export function makeFlow(choose) {
  for (const t of tiles) {
    t.number = h('span', { class: 'number' }, '–');
    t.note = h('span', { class: 'note' }, ' ');
    const button = h('button', { type: 'button', title: t.title, onclick: () => choose(t.list, t.chip) }, t.number, h('span', { class: 'label' }, t.label), t.note);
    $('flow').append(h('li', { class: t.name }, button));
  }
}

export function drawFlow({ head, waiting, dead }) {
  const numbers = { due: head.active, parked: head.parked, dead: head.dead, ...head.ends };
  const next = waiting?.find((row) => row.parked);
  const notes = {
    due: head.active > 0 && head.oldest ? `longest for ${age(head.oldest)}` : 'nothing is due',
    parked: next ? `next in ${countDown(next.dueAt)}`.replace('in now', 'now') : ' ',
    dead: dead?.length ? `newest ${age(dead[0].deadLetteredAt)} ago` : ' ',
  };
  for (const kind of kinds) notes[kind] = `${count(head.minutes.reduce((sum, m) => sum + m[kind], 0))} in the last hour`;
  for (const t of tiles) {
    setText(t.number, count(numbers[t.name]));
    setText(t.note, notes[t.name]);
    t.number.closest('li').classList.toggle('none', numbers[t.name] === 0);
  }
}

export function drawCharts(head) {
  drawMinutes(head.minutes || []);
  drawBars('ages', 'Age of what waits', head.ages || []);
  drawBars('dues', 'Parked, due within', head.dues || []);
}

// drawn is what a chart shows now: what says the same is not drawn again.
const drawn = {};

function draws(id, data) {
  const text = JSON.stringify(data);
  if (drawn[id] === text) return false;
  drawn[id] = text;
  return true;
}

const chartHeight = 100;

function drawMinutes(minutes) {
  if (!draws('minutes', minutes)) return;
  const total = (m) => kinds.reduce((sum, kind) => sum + m[kind], 0);
  const most = Math.max(...minutes.map(total), 1);
  const bars = svg('svg', { viewBox: `0 0 ${minutes.length * 5} ${chartHeight}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': summary(minutes) });
  minutes.forEach((m, i) => {
    let y = chartHeight;
    const stack = svg('g', {}, svg('title', {}, `${minutes.length - 1 - i} min ago: ${kinds.filter((k) => m[k]).map((k) => `${m[k]} ${k}`).join(', ') || 'none'}`));
    stack.append(svg('rect', { class: 'ground', x: i * 5, y: 0, width: 5, height: chartHeight }));
    for (const kind of kinds) {
      const size = (m[kind] / most) * chartHeight;
      if (size > 0) stack.append(svg('rect', { class: kind, x: i * 5 + 0.5, y: (y -= size), width: 4, height: size }));
    }
    bars.append(stack);
  });
  const legend = h('span', { class: 'legend' }, ...kinds.map((kind) => h('span', { class: kind }, kind)));
  $('minutes').replaceChildren(
    h('figcaption', {}, 'Ends per minute', legend),
    h('div', { class: 'plot' }, h('span', { class: 'most' }, count(most)), bars),
    h('div', { class: 'scale' }, h('span', {}, '1 h ago'), h('span', {}, '30 min'), h('span', {}, 'now')));
}

function summary(minutes) {
  const sums = kinds.map((kind) => `${minutes.reduce((sum, m) => sum + m[kind], 0)} ${kind}`);
  return `In the last hour: ${sums.join(', ')}`;
}

function drawBars(id, title, bars) {
  if (!draws(id, bars)) return;
  const most = Math.max(...bars.map((b) => b.count), 1);
  $(id).replaceChildren(h('figcaption', {}, title), h('ul', { class: 'bars' }, ...bars.map((b, i) => h('li', {},
    h('span', { class: 'limit' }, i < bars.length - 1 ? `< ${b.label}` : b.label),
    svg('svg', { viewBox: '0 0 100 10', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      svg('rect', { class: 'ground', x: 0, y: 0, width: 100, height: 10 }),
      svg('rect', { class: 'bar', x: 0, y: 0, width: b.count ? Math.max((b.count / most) * 100, 1) : 0, height: 10 })),
    h('span', { class: 'n' }, count(b.count))))));
}
