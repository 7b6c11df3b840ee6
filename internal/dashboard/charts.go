package dashboard

import (
	"time"

	"hsmsweep/worker"
)

// shownMinutes is how far back the chart of ends goes.
const shownMinutes = 60

// A minute has how many requests ended in it, by kind.
type minute struct {
	Completed int `json:"completed"`
	Skipped   int `json:"skipped"`
	Expanded  int `json:"expanded"`
	Failed    int `json:"failed"`
}

func (m *minute) add(kind string) {
	switch kind {
	case "completed":
		m.Completed++
	case "skipped":
		m.Skipped++
	case "expanded":
		m.Expanded++
	case "failed":
		m.Failed++
	}
}

// minutes counts ends by the minute. It holds shownMinutes of them, of which the newest is the newest that it was told of.
type minutes struct {
	newest  int64 // minutes since 1970
	buckets [shownMinutes]minute
}

// add counts an end. One that is too old is not counted; one from the future, where clocks differ, moves everything on.
func (m *minutes) add(at time.Time, kind string) {
	n := at.Unix() / 60
	m.advance(n)
	if n > m.newest-shownMinutes {
		m.buckets[n%shownMinutes].add(kind)
	}
}

// advance empties the buckets of the minutes that began since.
func (m *minutes) advance(n int64) {
	for i := max(m.newest+1, n-shownMinutes+1); i <= n; i++ {
		m.buckets[i%shownMinutes] = minute{}
	}
	m.newest = max(m.newest, n)
}

// until gives the last shownMinutes, oldest first.
func (m *minutes) until(now time.Time) []minute {
	m.advance(now.Unix() / 60)
	shown := make([]minute, shownMinutes)
	for i := range shown {
		shown[i] = m.buckets[(m.newest-shownMinutes+1+int64(i))%shownMinutes]
	}
	return shown
}

// A bar is one of a histogram: how many are below its limit, and not below that of the bar before.
type bar struct {
	Label string `json:"label"`
	Count int    `json:"count"`
}

// limits are where the bars of both histograms end; the last one takes the rest.
var limits = []struct {
	below time.Duration
	label string
}{{10 * time.Second, "10 s"}, {time.Minute, "1 min"}, {10 * time.Minute, "10 min"}, {time.Hour, "1 h"}, {6 * time.Hour, "6 h"}, {24 * time.Hour, "1 d"}}

// A histogram counts times by their length.
type histogram [7]int

func (h *histogram) add(d time.Duration) {
	for i, limit := range limits {
		if d < limit.below {
			h[i]++
			return
		}
	}
	h[len(limits)]++
}

func (h *histogram) bars() []bar {
	bars := make([]bar, len(h))
	for i, n := range h {
		bars[i] = bar{Label: "longer", Count: n}
		if i < len(limits) {
			bars[i].Label = limits[i].label
		}
	}
	return bars
}

// A whyCount is how many requests wait for one reason.
type whyCount struct {
	Why   string `json:"why"`
	Words string `json:"words"`
	Count int    `json:"count"`
}

// whyCounts has the reasons for which anything waits, in the order in which worker lists them.
func whyCounts(n map[worker.Reason]int) []whyCount {
	var counts []whyCount
	rest := 0
	for _, count := range n {
		rest += count
	}
	for _, why := range worker.WaitReasons {
		if n[why] > 0 {
			counts = append(counts, whyCount{string(why), words[why], n[why]})
			rest -= n[why]
		}
	}
	if rest > 0 { // a forged state may have any text there
		counts = append(counts, whyCount{"other", "for a reason unknown here", rest})
	}
	return counts
}
