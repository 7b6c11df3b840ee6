package worker

import (
	"context"
	"sync"
	"time"
)

// A stall is the state in which the request queue takes no successors: it is full, disabled for sending, or throttled. Each
// message that is received then can only be given back, and the broker dead-letters it after a few deliveries, so hardly any
// are received: one now and then, to see whether it is over.
type stall struct {
	mu       sync.Mutex
	cause    error // nil: there is none
	failures int
	until    time.Time
}

func (s *stall) failed(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); !now.Before(s.until) { // those in hand together fail together, and count once
		s.failures++
		s.until = now.Add(Backoff(s.failures) + stallPause)
	}
	s.cause = cause
}

// stallPause is what there is at least between two tries.
const stallPause = 10 * time.Second

func (s *stall) over() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cause, s.failures, s.until = nil, 0, time.Time{}
}

func (s *stall) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// admits waits for the next try, and tells how many of n messages may be received for it.
func (s *stall) admits(ctx context.Context, n int) int {
	s.mu.Lock()
	stalled, pause := s.cause != nil, time.Until(s.until)
	s.mu.Unlock()
	if !stalled {
		return n
	}
	if pause > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return 1
}
