package dashboard

import (
	"cmp"
	"container/list"
	"fmt"
	"slices"
	"sync"
	"time"

	"hsmsweep/worker"
)

const (
	// mostFollowed is how many requests' ways are kept; the one that was touched longest ago is forgotten for a new one.
	mostFollowed = 2000
	// mostStops is how many stops of one request are kept, the first ones and the last.
	mostStops = 60
)

// A stop is a request in the queue as it was seen at one hop.
type stop struct {
	hop       int
	active    bool
	why       worker.Reason
	seen, due time.Time
	attempts  int
	polls     int
	lastError string
}

// A way is what was seen of one request. Hops that began and ended between two looks are not in it.
type way struct {
	lineage     string
	requestID   string
	requestedAt time.Time
	stops       []stop
	cut         bool // in the middle, to keep within mostStops
	end         *endRow
}

// timelines are the ways of the requests that were seen last.
type timelines struct {
	mu   sync.Mutex
	ways map[string]*list.Element
	used list.List // of *way, the last touched in front
}

func newTimelines() *timelines { return &timelines{ways: map[string]*list.Element{}} }

// follow notes a request whose way is known already.
func (t *timelines) follow(w worker.Waiting, now time.Time) {
	t.mu.Lock()
	_, known := t.ways[w.Lineage()]
	t.mu.Unlock()
	if known {
		t.note(w, now)
	}
}

// note adds where a request was seen, unless it was seen there before.
func (t *timelines) note(w worker.Waiting, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	way := t.of(w.Lineage())
	way.requestID, way.requestedAt = w.RequestID, w.RequestedAt
	way.see(stop{hop: w.Hops, active: !w.Parked, why: w.Why, seen: now, due: w.DueAt, attempts: w.Attempts, polls: w.Polls, lastError: w.LastError})
}

func (w *way) see(s stop) {
	if s.active {
		s.why = ""
	}
	for i := len(w.stops) - 1; i >= 0; i-- {
		if old := &w.stops[i]; old.hop == s.hop && old.active == s.active {
			old.due = s.due
			return
		}
	}
	w.stops = append(w.stops, s)
	if len(w.stops) > mostStops {
		w.stops = slices.Delete(w.stops, mostStops/2, mostStops/2+1)
		w.cut = true
	}
}

// ended adds a request's event.
func (t *timelines) ended(e endRow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	way := t.of(e.Lineage)
	way.requestID, way.requestedAt, way.end = e.RequestID, e.RequestedAt, &e
}

func (t *timelines) of(lineage string) *way {
	if known := t.ways[lineage]; known != nil {
		t.used.MoveToFront(known)
		return known.Value.(*way)
	}
	w := &way{lineage: lineage}
	t.ways[lineage] = t.used.PushFront(w)
	if t.used.Len() > mostFollowed {
		oldest := t.used.Remove(t.used.Back()).(*way)
		delete(t.ways, oldest.lineage)
	}
	return w
}

// A step is a line of a request's timeline.
type step struct {
	At    time.Time `json:"at"`
	Kind  string    `json:"kind"` // sent, parked, due, asked, end; gap, which has no time
	Text  string    `json:"text"`
	Note  string    `json:"note,omitempty"`
	DueAt time.Time `json:"dueAt,omitzero"`
}

// steps tell a request's way, oldest first; none where nothing is known of it.
func (t *timelines) steps(lineage string) []step {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.ways[lineage]
	if known == nil {
		return nil
	}
	w := known.Value.(*way)
	steps := []step{{At: w.requestedAt, Kind: "sent", Text: "sent to the queue"}}
	for i, s := range w.stops {
		if before := w.hopBefore(i); s.hop > before+1 {
			why := " passed between two looks"
			if w.cut && i == mostStops/2 {
				why = " are not kept"
			}
			steps = append(steps, step{Kind: "gap", Text: hops(before+1, s.hop-1) + why})
		}
		steps = append(steps, s.step())
	}
	if w.end != nil {
		if s := w.end.StartedAt; !s.IsZero() {
			steps = append(steps, step{At: s, Kind: "asked", Text: "first DELETE sent to ARM"})
		}
		steps = append(steps, step{At: w.end.FinishedAt, Kind: "end", Text: w.end.Outcome, Note: w.end.Detail})
	}
	return inOrder(steps)
}

// hopBefore is the hop of the stop before, or the one from which a request begins.
func (w *way) hopBefore(i int) int {
	if i == 0 {
		return -1
	}
	return w.stops[i-1].hop
}

func hops(from, to int) string {
	if from == to {
		return fmt.Sprintf("hop %d", from)
	}
	return fmt.Sprintf("hops %d to %d", from, to)
}

func (s stop) step() step {
	text := fmt.Sprintf("hop %d: ", s.hop)
	if s.active {
		return step{At: s.seen, Kind: "due", Text: text + dueWords}
	}
	note := s.lastError
	if s.attempts+s.polls > 0 {
		note = count(s.attempts, "DELETE") + ", " + count(s.polls, "poll") + " so far"
		if s.lastError != "" {
			note += "; " + s.lastError
		}
	}
	return step{At: s.seen, Kind: "parked", Text: text + "parked, " + cmp.Or(words[s.why], string(s.why)), Note: note, DueAt: s.due}
}

// inOrder sorts steps by their time. A gap stays before the step that it was found with.
func inOrder(steps []step) []step {
	for i := len(steps) - 2; i >= 0; i-- {
		if steps[i].At.IsZero() {
			steps[i].At = steps[i+1].At
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return a.At.Compare(b.At) })
	return steps
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
