package worker

import (
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"hsmsweep/deletion"
)

// armRate is how many requests of a kind ARM lets a subscription have in a second once its bucket is empty: its published limits.
var armRate = map[string]float64{deletes: 10, reads: 25}

// The kinds of requests for which ARM has a limit of its own.
const (
	deletes = "deletes"
	reads   = "reads"
)

// A pace has requests wait for what ARM would refuse otherwise. ARM tells with each answer how many more of the kind it will
// take from the subscription now; when none are left, each request is promised a time of its own, as many a second as
// ARM takes. Like a gate it is this process's memory only. Others who spend from the same bucket, replicas above all, show in that it
// empties faster than by what is sent from here: what is left is shared in that proportion.
type pace struct {
	mu      sync.Mutex
	buckets map[string]*bucket // by kind and lower-case subscription
}

type bucket struct {
	told     bool    // ARM has said how many are left
	left     float64 // of our share, at the time below, without those under way
	at       time.Time
	underWay int
	next     time.Time // the first time that is promised to nobody

	share     float64   // of the bucket that is ours, 0 to 1
	estimated bool      // as it was seen; before, nobody else is expected
	mark      time.Time // of the last estimate
	had       int       // so many were left then
	spent     int       // from here, since then
}

// take tells whether a request may be sent now (the zero time), or else when it may. A promise is kept: a request that comes at the
// time it was promised is sent. The gate opens at the given time; before it nothing is sent.
func (p *pace) take(kind, subscription string, promised bool, now, opens time.Time) (at time.Time, promise bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.bucket(kind, subscription, now)
	open := !opens.After(now)
	switch {
	case !b.told && !open:
		return opens, false
	case !b.told || open && (promised || b.left >= 1 && !now.Before(b.next)):
		b.left--
		b.underWay++
		return time.Time{}, false
	}
	each := time.Duration(float64(time.Second) / (armRate[kind] * b.share))
	at = later(now.Add(time.Duration(max(0, 1-b.left)*float64(each))), later(opens, b.next))
	if at.Sub(now) > farthest {
		return now.Add(farthest), false
	}
	b.next = at.Add(each)
	return at, true
}

// farthest is how far ahead a time is promised: who knows what ARM will take later. What is behind that asks again, ever later.
const farthest = 10 * time.Minute

// answered notes what an answer tells of the limit.
func (p *pace) answered(kind, subscription string, out deletion.Outcome, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.bucket(kind, subscription, now)
	b.underWay = max(0, b.underWay-1)
	switch {
	case out.Kind == deletion.Throttled:
		b.left = min(b.left, 0)
	case out.Left != nil:
		b.estimate(kind, *out.Left, now)
		b.told, b.left = true, float64(*out.Left)*b.share-float64(b.underWay)
	}
}

const (
	// leastShare keeps a replica from giving way for good.
	leastShare = 0.02
	// fairer is what every replica's share grows by with each estimate. What is seen of shares keeps them as they are, whatever they are;
	// with this, small ones grow and large ones, which find less left, shrink.
	fairer = 0.005
)

// estimate compares what was spent from here with what was spent in all.
func (b *bucket) estimate(kind string, left int, now time.Time) {
	b.spent++
	since := now.Sub(b.mark)
	switch {
	case b.mark.IsZero():
	case b.spent < 10 && since < 2*time.Second:
		return
	default:
		all := max(1, float64(b.had-left)+armRate[kind]*since.Seconds())
		seen := min(1, float64(b.spent)/all)
		if b.estimated {
			seen = (seen + 3*b.share) / 4
		}
		b.estimated, b.share = true, min(1, max(leastShare, seen)+fairer)
		if left > 20 { // which nobody spends
			b.share = min(1, b.share*1.1)
		}
	}
	b.spent, b.mark, b.had = 0, now, left
}

// bucket is the bucket of now.
func (p *pace) bucket(kind, subscription string, now time.Time) *bucket {
	key := kind + subscription
	if p.buckets == nil {
		p.buckets = make(map[string]*bucket)
	}
	b := p.buckets[key]
	if b == nil {
		b = &bucket{at: now, share: 1}
		p.buckets[key] = b
	}
	b.left += armRate[kind] * b.share * max(0, now.Sub(b.at).Seconds())
	b.at = now
	return b
}

// ahead is how far ahead times are promised, in the subscription where that is farthest.
func (p *pace) ahead(kind string, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var farthest time.Duration
	for key, b := range p.buckets {
		if strings.HasPrefix(key, kind) {
			farthest = max(farthest, b.next.Sub(now))
		}
	}
	return farthest
}

// kindOf is the kind of request that a step begins with. A guard's read before a DELETE does not count: reads have the higher limit.
func kindOf(t task, p Policy) string {
	if t.attempt.Operation != nil || t.attempt.Verifying != nil || t.request.Selects() || t.request.Reported || dryRun(t, p) {
		return reads
	}
	return deletes
}

// held tells whether a request has to wait before ARM is asked, because ARM would refuse it.
func (w *Worker) held(t task) (Verdict, bool) {
	now, a := t.now(), t.attempt
	pool, _ := poolOf(t.request) // searches of several subscriptions have the empty name in common
	kind, subscription := kindOf(t, w.policy), strings.ToLower(pool.SubscriptionID)
	if shut := w.pools.closedFor(strings.ToLower(pool.String()), now); shut > 0 && kind == deletes {
		a.Setbacks = min(a.Setbacks+1, longestBusy)
		return park(a, now.Add(max(shut, w.policy.Backoff(a.Setbacks))), WaitConflict), true
	}
	shut := w.subscriptions.closedFor(subscription, now)
	at, promised := w.pace.take(kind, subscription, a.Promised, now, now.Add(shut))
	if at.IsZero() {
		return Verdict{}, false
	}
	wait := at.Sub(now)
	switch a.Promised = promised; {
	case promised:
	case shut > 0:
		wait = w.policy.Spread(wait)
	default:
		wait = min(wait<<min(a.Setbacks, 8), w.policy.MaxRetryAfter)
		wait = wait/2 + rand.N(wait/2+1)
		a.Setbacks++
	}
	return park(a, now.Add(wait), WaitThrottle), true
}

// heard has what ARM answered to a step be known to those that come next. The task is as it was before.
func (w *Worker) heard(t task, did exchange, v Verdict) {
	now, out := t.now(), did.outcome
	pool, _ := poolOf(t.request)
	kind, subscription := kindOf(t, w.policy), strings.ToLower(pool.SubscriptionID)
	if kind == deletes && did.question != "DELETE" {
		out.Left = nil // a guard's read was the end of it
	}
	w.pace.answered(kind, subscription, out, now)
	if out.Kind == deletion.Throttled && !v.Until.IsZero() {
		w.subscriptions.close(subscription, v.Until)
	}
	if did.question != "DELETE" {
		return
	}
	id := strings.ToLower(pool.String())
	if w.conflicts.inRow(id, out.Kind == deletion.Conflict) >= busyAfter {
		w.pools.close(id, now.Add(poolPause))
	}
}

const (
	// busyAfter is after how many conflicts in a row a pool is taken to be busy, whoever asks.
	busyAfter = 8
	// longestBusy is the setback whose delay is the longest for which others wait for it: half a minute.
	longestBusy = 5
	// poolPause is for how long such a pool is not asked for another change.
	poolPause = 2 * time.Second
)
