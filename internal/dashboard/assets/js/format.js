// Times, counts and ids as people read them.

let offset = 0; // of the server's clock to this one's

export function setClock(serverTime) {
  offset = Date.parse(serverTime) - Date.now();
}

export const now = () => Date.now() + offset;

const second = 1000, minute = 60 * second, hour = 60 * minute, day = 24 * hour;

// roughly is a length of time in one unit.
export function roughly(ms) {
  if (ms < 2 * minute) return `${Math.max(0, Math.floor(ms / second))} s`;
  if (ms < 2 * hour) return `${Math.floor(ms / minute)} min`;
  if (ms < 2 * day) return `${Math.floor(ms / hour)} h`;
  return `${count(Math.floor(ms / day))} d`;
}

// countDown is what is left until a time, to the second while that means anything.
export function countDown(time) {
  const ms = Math.ceil((Date.parse(time) - now()) / second) * second;
  if (!(ms > 0)) return 'now';
  if (ms >= 1000 * day) return `${count(Math.floor(ms / (365 * day)))} y`;
  if (ms >= 10 * day) return `${count(Math.floor(ms / day))} d`;
  if (ms >= day) return `${Math.floor(ms / day)} d ${Math.floor((ms / hour) % 24)} h`;
  const two = (n) => String(Math.floor(n)).padStart(2, '0');
  const minutes = `${ms >= hour ? two((ms / minute) % 60) : Math.floor(ms / minute)}:${two((ms / second) % 60)}`;
  return ms >= hour ? `${Math.floor(ms / hour)}:${minutes}` : minutes;
}

export const age = (time) => roughly(now() - Date.parse(time));

// took is the time between two.
export function took(from, to) {
  const ms = Date.parse(to) - Date.parse(from);
  return ms >= 0 && ms < 10 * second ? `${(ms / second).toFixed(1)} s` : roughly(ms);
}

const clockTime = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const shortTime = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const date = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

const isToday = (t) => new Date(t).toDateString() === new Date(now()).toDateString();

// clock is a time of day; of another day, the day and the time; of another year, that too.
export function clock(time) {
  const t = Date.parse(time);
  if (isToday(t)) return clockTime.format(t);
  const year = new Date(t).getFullYear();
  return `${date.format(t)}${year === new Date(now()).getFullYear() ? '' : ` ${year}`}, ${shortTime.format(t)}`;
}

const counts = new Intl.NumberFormat('en-US');

// dayOrClock is a time of day; of another day, the day.
export const dayOrClock = (time) => (isToday(Date.parse(time)) ? clockTime : date).format(Date.parse(time));

// minuteOf is a time of day without seconds.
export const minuteOf = (time) => (isToday(Date.parse(time)) ? shortTime.format(Date.parse(time)) : clock(time));

export const count = (n) => counts.format(n);

// shortID is the end of an ARM id that tells it from others here: POOL/NAME of a connection, TYPE/NAME of whatever else.
export function shortID(id) {
  const segments = (id || '').split('/');
  if (segments.length === 11) return `${segments[8]}/${segments[10]}`;
  return segments.length > 2 ? segments.slice(-2).join('/') : id || '';
}
