package arm

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Rate is a token bucket: Bucket requests at once, PerSecond more every second. It limits nothing unless both are
// positive.
type Rate struct {
	Bucket    int
	PerSecond float64
}

func (r Rate) limits() bool { return r.Bucket > 0 && r.PerSecond > 0 }

// throttle is the state of one subscription's deletes or reads.
type throttle struct {
	used float64 // tokens taken and not yet refilled
	at   time.Time
}

// limit refuses a request for which its subscription has no token left, and otherwise takes one.
func (s *Simulator) limit(q request) *reply {
	class, rate := s.rate(q)
	if !rate.limits() {
		return nil
	}
	key := class + strings.ToLower(q.target.subscription)
	if s.throttles[key] == nil {
		s.throttles[key] = &throttle{at: q.now}
	}
	wait := s.throttles[key].take(rate, q.now)
	if wait == 0 {
		return nil
	}
	seconds := strconv.Itoa(int(math.Ceil(wait.Seconds())))
	answer := refuse(http.StatusTooManyRequests, "SubscriptionRequestsThrottled",
		"Number of '%s' requests for subscription '%s' exceeded. Please try again after '%s' seconds.", class, q.target.subscription, seconds)
	answer.header.Set("Retry-After", seconds)
	return answer
}

// remaining is the name and value of the header that tells how many tokens are left; without a limit, what recorded traffic
// had when the limits were by the hour: more than anybody waits for.
func (s *Simulator) remaining(q request) (string, string) {
	class, rate := s.rate(q)
	left := rate.Bucket
	if state := s.throttles[class+strings.ToLower(q.target.subscription)]; state != nil {
		left = int(float64(rate.Bucket) - state.used)
	}
	if !rate.limits() {
		left = map[string]int{"deletes": 14999, "reads": 11999}[class]
	}
	return "x-ms-ratelimit-remaining-subscription-" + class, strconv.Itoa(left)
}

func (s *Simulator) rate(q request) (class string, rate Rate) {
	if q.Method == http.MethodDelete {
		return "deletes", s.options.Deletes
	}
	return "reads", s.options.Reads
}

// take returns how long to wait for a token; zero when it took one.
func (t *throttle) take(rate Rate, now time.Time) time.Duration {
	t.used = max(0, t.used-now.Sub(t.at).Seconds()*rate.PerSecond)
	t.at = now
	if missing := t.used + 1 - float64(rate.Bucket); missing > 0 {
		return max(1, time.Duration(missing/rate.PerSecond*float64(time.Second)))
	}
	t.used++
	return 0
}
