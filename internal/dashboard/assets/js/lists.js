// A list is a table of rows that come and go, are filtered, and are walked through by keys.

import { $, h, setAttribute, setText } from './dom.js';
import { count, minuteOf } from './format.js';

// times are the fields in which nobody looks for a word.
const times = /At$|^since$/;

export class List {
  // columns: {name, label, text(row), also(row), title(row), kind(row), ticks}; also stands after the text, and is less
  constructor(id, { title, columns, key, chips, chipOf, empty, open }) {
    Object.assign(this, { id, columns, key, chips, chipOf, empty, open, rows: [], lines: new Map(), words: '', chip: '', current: null, total: 0 });
    this.count = h('span', { class: 'count' });
    this.chipBox = h('div', { class: 'chips', role: 'group', 'aria-label': `Show of ${title.toLowerCase()}` });
    this.body = h('tbody', { role: 'rowgroup' });
    this.nothing = h('p', { class: 'nothing' }, 'reading …');
    this.note = h('p', { class: 'more', hidden: true });
    const heads = columns.map((c) => h('th', { class: c.name, scope: 'col', role: 'columnheader' }, c.label));
    this.table = h('table', { role: 'grid', 'aria-label': title, 'aria-rowcount': '-1' }, h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, ...heads)), this.body);
    this.scroller = h('div', { class: 'scroller' }, this.table, this.nothing, this.note);
    $(id).append(h('header', {}, h('h2', { id: `${id}-title` }, title, ' ', this.count), this.chipBox), this.scroller);
    this.body.addEventListener('click', (e) => this.clicked(e));
    this.body.addEventListener('focusin', (e) => this.makeCurrent(e.target.closest('tr')));
  }

  // set shows rows, which are some of all there are; since says from when on these are counted.
  set(rows, total, since) {
    Object.assign(this, { rows, total, since, loaded: true });
    // A request is one row on all its hops. Only while a step is taken both its messages may be there.
    const keys = new Set();
    for (const row of rows) {
      row.key = keys.has(this.key(row)) ? `${this.key(row)} ${row.sequenceNumber}` : this.key(row);
      keys.add(row.key);
      row.haystack ??= Object.entries(row).filter(([name, value]) => typeof value === 'string' && !times.test(name)).map(([, value]) => value).join('\n').toLowerCase();
    }
    this.draw();
  }

  filter(words) {
    this.words = words.toLowerCase().trim();
    this.draw();
  }

  choose(chip) {
    this.chip = this.chip === chip ? '' : chip;
    this.draw();
  }

  shown() {
    const words = this.words.split(/\s+/).filter(Boolean);
    return this.rows.filter((row) => words.every((w) => row.haystack.includes(w)) && (!this.chip || this.chipOf(row).includes(this.chip)));
  }

  draw() {
    const shown = this.shown();
    const had = this.current && this.body.contains(document.activeElement);
    const place = this.current ? [...this.body.children].indexOf(this.current) : 0;
    const keep = new Set(shown.map((row) => row.key));
    for (const [key, line] of this.lines) {
      if (!keep.has(key)) {
        line.remove();
        this.lines.delete(key);
        if (this.current === line) this.current = null;
      }
    }
    let next = this.body.firstChild;
    for (const row of shown) {
      const line = this.line(row);
      if (line === next) next = next.nextSibling;
      else this.body.insertBefore(line, next);
    }
    if (!this.current && this.body.children.length > 0) {
      this.makeCurrent(this.body.children[Math.max(0, Math.min(place, this.body.children.length - 1))]);
    }
    if (had && this.current && !this.body.contains(document.activeElement)) this.current.focus({ preventScroll: true }); // it was moved
    this.drawAround(shown.length);
  }

  drawAround(shown) {
    const since = this.since ? ` since ${minuteOf(this.since)}` : '';
    setText(this.count, !this.loaded ? '' : (shown === this.total ? count(shown) : `${count(shown)} of ${count(this.total)}`) + since);
    this.nothing.hidden = shown > 0;
    setText(this.nothing, !this.loaded ? 'reading …' : this.rows.length > 0 ? 'Nothing here matches.' : this.empty);
    this.table.hidden = shown === 0;
    this.drawChips();
  }

  drawChips() {
    const chips = this.chips().filter((c) => c.count > 0 || c.name === this.chip);
    const signature = JSON.stringify([chips, this.chip]);
    if (signature === this.drawnChips) return;
    this.drawnChips = signature;
    const focused = this.chipBox.contains(document.activeElement) ? document.activeElement.dataset.chip : undefined;
    this.chipBox.replaceChildren(...chips.map((c) => h('button', {
      type: 'button', class: `chip ${c.name}`, 'data-chip': c.name, title: c.title, 'aria-pressed': String(this.chip === c.name), onclick: () => this.choose(c.name),
    }, c.label ?? c.name, ' ', h('span', {}, count(c.count)))));
    if (focused) [...this.chipBox.children].find((b) => b.dataset.chip === focused)?.focus();
  }

  line(row) {
    let line = this.lines.get(row.key);
    if (!line) {
      line = h('tr', { role: 'row', tabindex: '-1' }, ...this.columns.map((c) => h('td', { class: c.name, role: 'gridcell', 'data-label': c.label })));
      this.lines.set(row.key, line);
    }
    if (line.row !== row) {
      line.row = row;
      this.columns.forEach((c, i) => this.fill(line.children[i], c, row));
    }
    return line;
  }

  fill(cell, column, row) {
    const text = column.text(row) || '–';
    if (column.also) cell.replaceChildren(text, h('span', {}, column.also(row)));
    else setText(cell, text);
    setAttribute(cell, 'title', column.title?.(row));
    if (column.kind) setAttribute(cell, 'data-kind', column.kind(row));
  }

  // tick brings what changes with time up to date.
  tick() {
    const ticking = this.columns.map((c, i) => [c, i]).filter(([c]) => c.ticks);
    for (const line of this.lines.values()) {
      for (const [c, i] of ticking) setText(line.children[i], c.text(line.row) || '–');
    }
  }

  clicked(event) {
    const line = event.target.closest('tr');
    if (!line || !getSelection().isCollapsed) return; // a text is being selected
    this.makeCurrent(line);
    this.open(this, line.row, false);
  }

  makeCurrent(line) {
    if (!line || line === this.current) return;
    this.current?.setAttribute('tabindex', '-1');
    this.current = line;
    line.setAttribute('tabindex', '0');
  }

  select(row) {
    for (const line of this.lines.values()) setAttribute(line, 'aria-selected', row && line.row.key === row.key ? 'true' : undefined);
  }

  // move goes some rows on, and stays within the list.
  move(by) {
    const lines = [...this.body.children];
    const at = lines.indexOf(this.current);
    const to = lines[Math.max(0, Math.min(lines.length - 1, at + by))];
    to?.focus();
    return to?.row;
  }

  focus() {
    this.current?.focus();
    return Boolean(this.current);
  }
}
