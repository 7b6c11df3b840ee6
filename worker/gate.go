package worker

import (
	"strings"
	"sync"
	"time"

	"hsmsweep/deletion"
)

// A gate keeps requests from being sent about a subscription that is throttled, or a pool that is busy: ARM refuses them anyhow,
// and each refusal may add to the wait. It is this process's memory only; another replica learns by its own refusal.
type gate struct {
	mu     sync.Mutex
	closed map[string]time.Time // by lower-case id
}

// close keeps the gate shut until the given time at least.
func (g *gate) close(id string, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed == nil {
		g.closed = make(map[string]time.Time)
	}
	if until.After(g.closed[id]) {
		g.closed[id] = until
	}
}

// closedFor tells how long the gate stays shut; 0 is open.
func (g *gate) closedFor(id string, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	until, ok := g.closed[id]
	if ok && !now.Before(until) {
		delete(g.closed, id)
		return 0
	}
	return max(0, until.Sub(now))
}

// shut is how many gates are closed.
func (g *gate) shut(now time.Time) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, until := range g.closed {
		if now.Before(until) {
			n++
		}
	}
	return n
}

// conflicts counts, for each pool, how often it refused a change in a row.
type conflicts struct {
	mu sync.Mutex
	n  map[string]int // by lower-case id
}

// inRow notes an answer, and returns how many conflicts there have been since any other.
func (c *conflicts) inRow(id string, conflict bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !conflict {
		delete(c.n, id)
		return 0
	}
	if c.n == nil {
		c.n = make(map[string]int)
	}
	c.n[id]++
	return c.n[id]
}

// exclusive lets one step at a time look at a pool and delete in it. It is this process's memory only.
type exclusive struct {
	mu    sync.Mutex
	taken map[string]bool // by the pool's lower-case id
}

// take takes a pool until done is called; false: another step has it.
func (e *exclusive) take(pool deletion.PoolID) (done func(), free bool) {
	key := strings.ToLower(pool.String())
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.taken[key] {
		return nil, false
	}
	if e.taken == nil {
		e.taken = make(map[string]bool)
	}
	e.taken[key] = true
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.taken, key)
	}, true
}
