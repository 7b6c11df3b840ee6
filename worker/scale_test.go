package worker

import (
	"container/heap"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/deletion"
	"hsmsweep/queue"
)

var scaleRequests = flag.Int("scale.requests", 20_000, "requests of TestScale; a million takes minutes and 3 GB")

// TestScale has very many requests carried out in virtual time by the worker's own decisions (admit, held, decide, heard), with a
// model in place of Service Bus and ARM: 1,000 pools, in more and more subscriptions, with ARM's published limits for each. It prints
// how long all takes, and what bounds it: ARM, as long as there are few subscriptions, then the steps that the replicas take.
func TestScale(t *testing.T) {
	n := *scaleRequests
	t.Logf("%d requests, 1,000 pools, %d replicas of %d slots, %s a step", n, scaleReplicas, scaleSlots, scaleStep)
	t.Logf("%13s  %9s  %9s  %9s  %5s  %7s  %6s", "subscriptions", "makespan", "ARM alone", "steps", "hops", "refused", "broker")
	for _, subscriptions := range []int{1, 10, 100, 1000} {
		s := &scale{requests: n, subscriptions: subscriptions, rng: rand.New(rand.NewPCG(1, uint64(subscriptions)))}
		synctest.Test(t, func(*testing.T) { s.run() })
		arm := time.Duration(max(float64(n)/float64(subscriptions)-200, 0)/10) * time.Second
		arm = max(arm, time.Duration(max(float64(s.polls)/float64(subscriptions)-250, 0)/25)*time.Second)
		t.Logf("%13d  %9s  %9s  %9s  %5.2f  %6.2f%%  %6.2f", subscriptions, s.makespan.Round(time.Second), arm,
			(time.Duration(s.steps) * scaleStep / (scaleReplicas * scaleSlots)).Round(time.Second),
			float64(s.hops)/float64(n), 100*float64(s.refused)/float64(s.calls), float64(s.broker)/float64(n))
		if s.ended != n {
			t.Errorf("%d subscriptions: %d of %d ended", subscriptions, s.ended, n)
		}
		if bound := max(arm, time.Duration(s.steps)*scaleStep/(scaleReplicas*scaleSlots)); s.makespan > 2*bound+10*time.Minute {
			t.Errorf("%d subscriptions: it took %s, and should take about %s", subscriptions, s.makespan, bound)
		}
		if s.refused > s.calls/10 {
			t.Errorf("%d subscriptions: %d of %d calls were refused", subscriptions, s.refused, s.calls)
		}
	}
}

const (
	scaleReplicas = 10
	scaleSlots    = 64
	scaleStep     = 120 * time.Millisecond // of ARM's answer and the broker's
)

// A scale is one run.
type scale struct {
	requests, subscriptions int
	rng                     *rand.Rand

	workers []*Worker
	free    int // slots, of all replicas
	due     dueHeap
	waiting []*scaleItem // due, and without a slot
	limits  map[string]*scaleLimit

	ended, hops, steps, calls, polls, refused, broker int
	makespan                                          time.Duration
}

// A scaleItem is a message, or a step under way.
type scaleItem struct {
	at     time.Time
	task   task
	worker int       // of a step: who takes it
	began  time.Time // of a step; zero: a message
	gone   time.Time // when ARM will be done with the connection; zero: not asked yet
}

type dueHeap []*scaleItem

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(*scaleItem)) }
func (h *dueHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// A scaleLimit is one of ARM's buckets.
type scaleLimit struct {
	left float64
	at   time.Time
}

func (s *scale) run() {
	began := time.Now()
	policy := Policy{DefaultRetryAfter: 15 * time.Second, MaxRetryAfter: time.Hour, GiveUpAfter: 100 * 24 * time.Hour, MaxDeliveries: 8, Backoff: Backoff, Spread: Spread}
	for range scaleReplicas {
		s.workers = append(s.workers, &Worker{policy: policy})
	}
	s.free, s.limits = scaleReplicas*scaleSlots, map[string]*scaleLimit{}
	delivery := queue.Peeked(&azservicebus.ReceivedMessage{}) // tells the time
	for i := range s.requests {
		pool := deletion.PoolID{SubscriptionID: fmt.Sprintf("%08d", i%s.subscriptions), ResourceGroup: "g", Name: fmt.Sprint("pool", i%1000)}
		s.waiting = append(s.waiting, &scaleItem{task: task{delivery: delivery, deliveries: 1,
			request: deletion.Request{Connection: deletion.ConnectionID{Pool: pool, Name: "c"}},
			attempt: newAttempt("r", int64(i), began, began, policy.GiveUpAfter)}})
		s.broker++ // sent
	}
	for s.ended < s.requests {
		for s.free > 0 && len(s.waiting) > 0 {
			item := s.waiting[0]
			s.waiting = s.waiting[1:]
			s.begin(item)
		}
		next := heap.Pop(&s.due).(*scaleItem)
		time.Sleep(time.Until(next.at))
		if next.began.IsZero() {
			s.waiting = append(s.waiting, next)
			continue
		}
		s.finish(next)
	}
	s.makespan = time.Since(began)
}

// begin takes a message into a slot. What needs no answer of ARM's leaves it at once.
func (s *scale) begin(item *scaleItem) {
	s.steps++
	s.broker++ // received
	item.worker = s.rng.IntN(scaleReplicas)
	w := s.workers[item.worker]
	if v, decided := admit(item.task, time.Now(), w.policy); decided {
		s.apply(item, v)
		return
	}
	if v, held := w.held(item.task); held {
		s.apply(item, v)
		return
	}
	s.free--
	item.began, item.at = time.Now(), time.Now().Add(scaleStep)
	heap.Push(&s.due, item)
}

func (s *scale) finish(item *scaleItem) {
	s.free++
	item.began = time.Time{}
	w, before := s.workers[item.worker], item.task
	out := s.answer(item)
	question := "poll"
	if item.task.attempt.Operation == nil {
		question = "DELETE"
		item.task.attempt.Deletes++
	}
	v := decide(item.task, out, time.Now(), w.policy)
	w.heard(before, exchange{question, out}, v)
	s.apply(item, v)
}

func (s *scale) apply(item *scaleItem, v Verdict) {
	s.broker += 2 // successor or event, and settled
	if v.End != nil {
		s.ended++
		return
	}
	s.hops++
	item.task.attempt, item.at = v.Next, v.Until
	heap.Push(&s.due, item)
}

// answer is ARM's: at a DELETE an operation of half a minute to some minutes begins, which is polled.
func (s *scale) answer(item *scaleItem) deletion.Outcome {
	s.calls++
	kind := kindOf(item.task, Policy{})
	limit := map[string]scaleLimit{deletes: {200, time.Time{}}, reads: {250, time.Time{}}}[kind]
	rate := map[string]float64{deletes: 10, reads: 25}[kind]
	b := s.limits[kind+item.task.request.Connection.Pool.SubscriptionID]
	if b == nil {
		b = &scaleLimit{left: limit.left, at: time.Now()}
		s.limits[kind+strings.Clone(item.task.request.Connection.Pool.SubscriptionID)] = b
	}
	b.left = min(limit.left, b.left+rate*time.Since(b.at).Seconds())
	b.at = time.Now()
	if b.left < 1 {
		s.refused++
		return deletion.Outcome{Kind: deletion.Throttled, HTTPStatus: 429, RetryAfter: time.Second}
	}
	b.left--
	left := int(b.left)
	if kind == reads {
		s.polls++
	}
	switch {
	case item.gone.IsZero():
		item.gone = time.Now().Add(time.Duration(float64(40*time.Second) * math.Exp(s.rng.NormFloat64()/2)))
		return deletion.Outcome{Kind: deletion.Accepted, HTTPStatus: 202, RetryAfter: 30 * time.Second, Operation: scaleOperation, Left: &left, Sent: 1}
	case time.Now().Before(item.gone):
		return deletion.Outcome{Kind: deletion.Running, HTTPStatus: 202, Operation: scaleOperation, Left: &left}
	}
	return deletion.Outcome{Kind: deletion.Deleted, HTTPStatus: 204, Left: &left}
}

var scaleOperation = deletion.Operation{URL: "https://management.azure.com/operation", Protocol: deletion.Location}
