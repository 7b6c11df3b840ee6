package worker

import (
	"fmt"
	"sync"
	"time"
)

const (
	// longestRound is more than a round of the housekeeping takes: a look through the dead-letter queue, one at the receiver, one
	// towards ARM, and the pause.
	longestRound = 6 * time.Minute
	// longestTurn is more than the receiving loop takes to come round: the longest pause of a stall, or all steps in hand at
	// their time-outs.
	longestTurn = 10 * time.Minute
	// longestWake is more than a receive that waits takes to end when its connection is replaced.
	longestWake = 2 * time.Minute
)

// A pulse is when the two loops last moved. An outage of Service Bus or ARM stops neither: each try there has its time-out, and to wait
// for a message is to be alive.
type pulse struct {
	mu      sync.Mutex
	loop    time.Time // zero: it has not begun, or has ended
	house   time.Time
	waits   bool      // for a message
	asked   time.Time // to stop waiting; zero: it was not
	drained bool
}

// moved notes that the receiving loop has.
func (p *pulse) moved() { p.note(func() { p.loop, p.waits, p.asked = time.Now(), false, time.Time{} }) }

// listening notes that the receiving loop waits for a message, for as long as it likes.
func (p *pulse) listening() {
	p.note(func() { p.loop, p.waits, p.asked = time.Now(), true, time.Time{} })
}

// disturbed notes that it should wait no longer.
func (p *pulse) disturbed() { p.note(func() { p.asked = time.Now() }) }

// kept notes that the housekeeping begins another round.
func (p *pulse) kept() { p.note(func() { p.house = time.Now() }) }

// draining notes that neither loop is to move any more. How long steps may take then is the operator's.
func (p *pulse) draining() { p.note(func() { p.drained = true }) }

func (p *pulse) note(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// Live tells what in the worker is stuck, so that only a new process helps; nil: nothing is.
func (w *Worker) Live() error {
	p, now := &w.pulse, time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	since := func(t time.Time) time.Duration { return now.Sub(t).Round(time.Second) }
	switch {
	case p.drained || p.loop.IsZero():
	case p.waits && !p.asked.IsZero() && since(p.asked) > longestWake:
		return fmt.Errorf("receiving has not ended for %s, although its connection was replaced", since(p.asked))
	case !p.waits && since(p.loop) > longestTurn:
		return fmt.Errorf("the receiving loop has not moved for %s", since(p.loop))
	case !p.house.IsZero() && since(p.house) > longestRound:
		return fmt.Errorf("the housekeeping has not moved for %s", since(p.house))
	}
	return nil
}
