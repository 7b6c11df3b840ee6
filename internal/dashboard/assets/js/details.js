// The panel with all that is known of one request.

import { $, h, setText } from './dom.js';
import { age, clock, countDown, shortID, took } from './format.js';

export class Details {
  constructor({ act, closed }) {
    Object.assign(this, { act, closed, panel: $('details'), list: null, row: null, ticking: [] });
    this.panel.addEventListener('click', (e) => this.clicked(e));
  }

  get isOpen() { return !this.panel.hidden; }

  // open shows a row; takesFocus when it was opened by a key.
  open(list, row, actions, takesFocus) {
    const other = !this.row || this.row.lineage !== row.lineage || this.list !== list;
    Object.assign(this, { list, row, actions });
    this.panel.hidden = false;
    this.panel.classList.toggle('left', list.id !== 'waiting');
    if (other) {
      this.steps = undefined;
      this.drawn = '';
      this.draw();
      this.panel.scrollTop = 0;
    }
    if (takesFocus) this.panel.focus();
    return this.load();
  }

  close() {
    if (!this.isOpen) return;
    const had = this.panel.contains(document.activeElement);
    this.panel.hidden = true;
    const list = this.list;
    Object.assign(this, { list: null, row: null });
    this.closed(list, had);
  }

  // load gets the timeline, which grows.
  async load() {
    const { lineage } = this.row;
    try {
      const answer = await fetch(`/api/timeline?lineage=${encodeURIComponent(lineage)}`);
      if (!answer.ok) return;
      const { steps } = await answer.json();
      if (this.row?.lineage !== lineage) return;
      this.steps = steps ?? [];
    } catch {
      return; // the page says elsewhere that it is not connected
    }
    this.draw();
  }

  // refresh takes the row as it is now, or what the request has become.
  refresh(tables) {
    if (!this.isOpen) return;
    for (const list of [tables.waiting, tables.dead, tables.ended]) {
      const found = list.rows.find((row) => row.lineage === this.row.lineage);
      if (!found) continue;
      this.row = found;
      this.list.select(null);
      this.list = list;
      list.select(found);
      break;
    }
    this.draw();
    this.load();
  }

  draw() {
    const state = JSON.stringify([this.row, this.list.id, this.steps, this.actions]);
    if (state === this.drawn) return;
    this.drawn = state;
    const focused = this.panel.contains(document.activeElement) ? document.activeElement.dataset.name : undefined;
    this.ticking = [];
    const { row } = this;
    this.panel.replaceChildren(
      h('header', {}, h('h2', { id: 'details-title' }, row.requestId), h('button', { type: 'button', class: 'close', 'data-name': 'close', 'aria-label': 'Close' }, '×')),
      this.status(row), this.buttons(row), this.facts(row), h('h3', {}, 'Timeline'), this.timeline());
    if (focused) (this.panel.querySelector(`[data-name="${CSS.escape(focused)}"]`) ?? this.panel).focus();
  }

  status(row) {
    if (this.list.id === 'dead') return h('p', { class: 'status', 'data-kind': 'failed' }, h('b', {}, row.reason), h('span', {}, row.description));
    if (this.list.id === 'ended') return h('p', { class: 'status', 'data-kind': row.kind }, h('b', {}, row.outcome), h('span', {}, row.detail || ''));
    const due = h('span', {});
    if (row.parked) this.ticks(due, () => `next step ${until(row.dueAt)}`);
    return h('p', { class: 'status', 'data-kind': row.why }, h('b', {}, row.words), due);
  }

  buttons(row) {
    if (!this.actions || this.list.id === 'ended') return undefined;
    const button = (name, label, refused) => h('button', { type: 'button', 'data-act': name, 'data-name': name, disabled: Boolean(refused), title: refused || undefined }, label);
    if (this.list.id === 'dead') return h('div', { class: 'buttons' }, button('resubmit', 'Resubmit …'), button('drop', 'Drop …'));
    const refusals = [['Not to be cancelled: ', row.notCancelled], ['Not to be expedited: ', row.notExpedited]].filter(([, why]) => why);
    const words = refusals.length === 2 && refusals[0][1] === refusals[1][1] ? [refusals[0][1]] : refusals.map((r) => r.join(''));
    return h('div', { class: 'buttons' },
      button('cancel', row.begun ? 'Stop watching …' : 'Cancel …', row.notCancelled),
      button('expedite', 'Expedite …', row.notExpedited),
      ...words.map((text) => h('p', { class: 'refused' }, text)));
  }

  facts(row) {
    const list = h('dl', {});
    const fact = (name, value, copied) => {
      if (value === undefined || value === '') return;
      const text = value instanceof Node ? value : String(value);
      const copy = copied && h('button', { type: 'button', class: 'copy', 'data-copy': copied, 'data-name': `copy ${name}`, 'aria-label': `Copy ${name.toLowerCase()}` }, 'copy');
      list.append(h('dt', {}, name), h('dd', { class: copied ? 'id' : undefined }, h('span', {}, text), copy));
    };
    const since = (time) => this.ticks(h('span', { title: time }), () => `${clock(time)}, ${age(time)} ago`);
    fact('Connection', row.connectionId, row.connectionId);
    fact('Selector', row.selector, row.selector);
    fact('Trace', row.traceId, row.traceId);
    fact('Ticket', row.ticket);
    fact('Requested', since(row.requestedAt));
    if (row.deadLetteredAt) fact('Dead letter', since(row.deadLetteredAt));
    if (row.finishedAt) fact('Ended', `${clock(row.finishedAt)}, after ${took(row.requestedAt, row.finishedAt)}`);
    fact('Requested by', row.requestedBy);
    fact('Reason', this.list.id === 'ended' ? row.reason : undefined);
    fact('Hops', row.hops);
    fact('DELETEs, polls', `${row.attempts}, ${row.polls}`);
    if (row.resubmits) fact('Resubmits', row.resubmits);
    fact('Last error', row.lastError);
    if (row.httpStatus) fact('ARM’s last answer', row.httpStatus);
    fact('ARM request', row.armRequestId, row.armRequestId);
    fact('Came of', row.parentId);
    fact('Event', row.id, row.id);
    fact('Message', row.messageId, row.messageId);
    fact('Sequence number', row.sequenceNumber);
    return list;
  }

  timeline() {
    if (this.steps === undefined) return h('p', { class: 'nothing' }, 'reading …');
    if (this.steps.length === 0) return h('p', { class: 'nothing' }, 'Nothing was seen of it while this page was watched.');
    return h('ol', { class: 'timeline' }, ...this.steps.map((s) => {
      const last = this.list.id === 'waiting' && s === this.steps.at(-1) && s.dueAt;
      const due = last ? this.ticks(h('span', { class: 'until' }), () => `until ${clock(s.dueAt)}, ${until(s.dueAt)}`) : s.dueAt && h('span', { class: 'until' }, `until ${clock(s.dueAt)}`);
      return h('li', { class: s.kind }, h('time', { datetime: s.at, title: s.at }, s.kind === 'gap' ? '' : clock(s.at)), h('span', {}, s.text), due, s.note && h('span', { class: 'note' }, s.note));
    }));
  }

  ticks(element, text) {
    this.ticking.push([element, text]);
    element.textContent = text();
    return element;
  }

  tick() {
    for (const [element, text] of this.ticking) setText(element, text());
  }

  async clicked(event) {
    const { act, copy } = event.target.dataset;
    if (event.target.closest('.close')) this.close();
    else if (act) this.act(act, this.list, this.row);
    else if (copy && navigator.clipboard) {
      await navigator.clipboard.writeText(copy);
      event.target.textContent = 'copied';
    } else if (copy) { // a browser gives the clipboard to pages over TLS or on loopback only
      getSelection().selectAllChildren(event.target.previousElementSibling);
      event.target.textContent = 'selected';
    }
  }
}

// until is how long a time is away.
function until(time) {
  const left = countDown(time);
  return left === 'now' ? left : `in ${left}`;
}

export const named = (row) => shortID(row.connectionId || row.selector) || 'what it names';
