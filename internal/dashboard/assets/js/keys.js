// The whole page by keyboard.

const actionKeys = { c: 'cancel', e: 'expedite', r: 'resubmit', d: 'drop' };

export function listenToKeys({ tables, details, open, act, filter }) {
  const order = [tables.waiting, tables.ended, tables.dead];
  const listOf = (element) => order.find((list) => list.body.contains(element));

  function inList(list, event) {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
    const { key } = event;
    if (key in steps) {
      const by = Number.isFinite(steps[key]) ? steps[key] : Math.sign(steps[key]) * list.body.children.length;
      const row = list.move(by);
      if (details.isOpen && row) open(list, row, false);
    } else if (key === 'ArrowRight' || key === 'ArrowLeft') {
      const from = order.indexOf(list);
      const by = key === 'ArrowRight' ? 1 : order.length - 1;
      for (let i = 1; i < order.length; i++) if (order[(from + i * by) % order.length].focus()) break;
    } else if (key === 'Enter' || key === ' ') {
      open(list, list.current.row, true);
    } else if (actionKeys[key]) {
      act(actionKeys[key], list, list.current.row);
    } else {
      return;
    }
    event.preventDefault();
  }

  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
    const { target, key } = event;
    if (key === 'Escape') {
      if (details.isOpen) details.close();
      else if (target === filter && filter.value === '') order.find((list) => list.focus());
      else if (target === filter) return; // the browser empties it
      return;
    }
    if (target === filter) {
      if (key === 'ArrowDown' || key === 'Enter') {
        order.find((list) => list.focus());
        event.preventDefault();
      }
      return;
    }
    if (key === '/') {
      filter.focus();
      filter.select();
      event.preventDefault();
      return;
    }
    const list = listOf(target);
    if (list) inList(list, event);
    else if (target === document.body && (key === 'ArrowDown' || key === 'ArrowUp')) {
      order.find((l) => l.focus());
      event.preventDefault();
    }
  });
}
