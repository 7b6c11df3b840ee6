package dashboard

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/Azure/go-amqp"

	"hsmsweep/worker"
)

const (
	// shortestPause is between two rounds.
	shortestPause = time.Second
	// faultPause is after a round with faults, which may have taken long to fail, and read nothing.
	faultPause = 5 * time.Second
	// pauseFactor keeps reading to a tenth of the time: a round that takes a second is followed by nine of rest.
	pauseFactor = 9
	// idleAfter is how long nobody may have looked until nothing is read any more.
	idleAfter = 45 * time.Second
	// closeTimeout bounds the goodbye to Service Bus, whose peer may be gone already.
	closeTimeout = 3 * time.Second
)

// A watch reads Service Bus, round by round while somebody looks, and makes a picture of each.
type watch struct {
	operator  *worker.Operator
	ends      *ends
	timelines *timelines
	round     func(context.Context) (rest time.Duration) // reads everything once; nothing is read then for the rest
	hurry     chan struct{}                              // takes one: the next round begins without a pause

	mu      sync.Mutex
	looked  time.Time
	picture picture
	changed chan struct{} // closed when there is a new picture
}

func newWatch(operator *worker.Operator, e *ends) *watch {
	w := &watch{operator: operator, ends: e, timelines: newTimelines(), hurry: make(chan struct{}, 1), changed: make(chan struct{}),
		picture: picture{Number: time.Now().UnixMilli()}} // after a restart no page takes an old number for a new one
	w.round = w.readAll
	return w
}

// run reads until ctx ends.
func (w *watch) run(ctx context.Context) {
	defer w.ends.close(ctx)
	for ctx.Err() == nil {
		var pause <-chan time.Time // for ever
		if w.watched() {
			pause = time.After(w.round(ctx))
		}
		select {
		case <-ctx.Done():
		case <-pause:
		case <-w.hurry:
		}
	}
}

// readAll is a round. The queue comes before the events: a request that ends meanwhile is in both, and not in neither. What cannot be
// read stays as it was, and the picture says so; the first time at once, since the rest may take as long to fail.
func (w *watch) readAll(ctx context.Context) (rest time.Duration) {
	w.mu.Lock()
	next := w.picture
	w.mu.Unlock()
	next.Number++
	whole := len(next.Head.Faults) == 0
	next.Head.Faults = nil
	began := time.Now()
	fault := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			next.Head.Faults = append(slices.Clip(next.Head.Faults), what+": "+plainly(err))
			if whole {
				w.show(&next)
			}
		}
	}
	fault("The queue", w.readQueue(ctx, &next))
	fault("The dead letters", w.readDead(ctx, &next))
	more, err := w.readEnds(ctx, &next)
	fault("The events", err)
	if ctx.Err() != nil {
		return 0
	}
	switch took := time.Since(began); {
	case next.Head.Faults != nil:
		rest = faultPause
	case more:
		next.Head.ReadAt, next.Head.Took, rest = time.Now().UTC(), took.Milliseconds(), shortestPause
	default:
		next.Head.ReadAt, next.Head.Took, rest = time.Now().UTC(), took.Milliseconds(), max(shortestPause, pauseFactor*took)
	}
	next.Head.Pause = rest.Milliseconds()
	w.show(&next)
	return rest
}

// plainly is an error in Service Bus's own words, where it has some.
func plainly(err error) string {
	if told, ok := errors.AsType[*amqp.Error](err); ok && told.Description != "" {
		return told.Description + " (" + string(told.Condition) + ")"
	}
	return err.Error()
}

// show gives a picture to all who look. The next one has another number.
func (w *watch) show(p *picture) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.picture = *p
	p.Number++
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *watch) readQueue(ctx context.Context, p *picture) error {
	s := newSnapshot(time.Now(), w.timelines)
	for page, err := range w.operator.Requests(ctx) {
		if err != nil {
			return err
		}
		for _, request := range page {
			s.add(request)
		}
	}
	rows := s.rows()
	h := &p.Head
	h.Active, h.Parked, h.Oldest, h.Whys, h.Ages, h.Dues = s.active, s.parked, s.oldest, whyCounts(s.whys), s.ages.bars(), s.dues.bars()
	return p.waiting.set(rows, p.Number)
}

func (w *watch) readDead(ctx context.Context, p *picture) error {
	var letters deadLetters
	for page, err := range w.operator.DeadLetters(ctx) {
		if err != nil {
			return err
		}
		for _, d := range page {
			letters.add(newDeadRow(d))
		}
	}
	p.Head.Dead = letters.count
	return p.dead.set(letters.rows(), p.Number)
}

func (w *watch) readEnds(ctx context.Context, p *picture) (more bool, err error) {
	more, err = w.ends.read(ctx, w.timelines)
	h := &p.Head
	h.Since, h.Ends, h.Minutes, h.Strange, h.More = w.ends.since, w.ends.counts, w.ends.minutes.until(time.Now()), w.ends.strange, more
	if setting := p.ended.set(w.ends.rows(), p.Number); setting != nil {
		return more, setting
	}
	return more, err
}

func (w *watch) watched() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.looked) < idleAfter
}

// soon has the next round begin at once.
func (w *watch) soon() {
	select {
	case w.hurry <- struct{}{}:
	default: // it does already
	}
}

// look gives a picture with another number than that of the one seen last; after a while, or at the end of ctx, that one again.
func (w *watch) look(ctx context.Context, seen int64) picture {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	w.mu.Lock()
	if time.Since(w.looked) >= idleAfter {
		w.soon()
	}
	w.looked = time.Now()
	w.mu.Unlock()
	for {
		w.mu.Lock()
		p, changed := w.picture, w.changed
		w.mu.Unlock()
		if p.Number != seen && (p.waiting.rows != nil || len(p.Head.Faults) > 0) {
			return p
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return p
		}
	}
}

// lookTimeout is how long a page waits for the next picture.
const lookTimeout = 20 * time.Second
