package arm

import (
	"net/http"
	"slices"
	"time"
)

// maxExchanges bounds the record; older exchanges are forgotten.
const maxExchanges = 10_000

// Exchange is a request as received and the status it was answered with.
type Exchange struct {
	Time   time.Time
	Method string
	// URL is the path and raw query, as received.
	URL string
	// Status is zero where no answer was given.
	Status int
	// RetryAfter is the header as sent.
	RetryAfter string
	// Connection is the connection's ARM id in lower case; empty when the URL names none.
	Connection string
}

type record struct {
	exchanges []Exchange
	oldest    int            // index in exchanges, once they are full
	deletes   map[string]int // by connection
}

func newRecord() record {
	return record{deletes: map[string]int{}}
}

// Exchanges returns the last 10,000 exchanges, oldest first, in the order in which they took effect.
func (s *Simulator) Exchanges() []Exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(s.record.exchanges[s.record.oldest:], s.record.exchanges[:s.record.oldest])
}

// Deletes counts the DELETEs received for the connection with this ARM id, whatever was answered.
func (s *Simulator) Deletes(connectionID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.deletes[parseRoute(connectionID).connectionKey()]
}

// ResetRecord forgets all exchanges and counts; pools and connections stay as they are.
func (s *Simulator) ResetRecord() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record = newRecord()
}

func (r *record) add(q request, answer *reply) {
	key := q.target.connectionKey()
	if q.Method == http.MethodDelete && key != "" {
		r.deletes[key]++
	}
	exchange := Exchange{Time: q.now, Method: q.Method, URL: q.RequestURI, Status: answer.status, RetryAfter: answer.header.Get("Retry-After"), Connection: key}
	if len(r.exchanges) < maxExchanges {
		r.exchanges = append(r.exchanges, exchange)
		return
	}
	r.exchanges[r.oldest] = exchange
	r.oldest = (r.oldest + 1) % maxExchanges
}
