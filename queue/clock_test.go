package queue

import (
	"testing"
	"time"
)

// TestClock reads the broker's time off messages of a queue with locks of a minute, by machines whose clocks are right or not.
func TestClock(t *testing.T) {
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	const lock = time.Minute
	for _, tt := range []struct {
		name   string
		waited []time.Duration // of each message in the queue; the last one is looked at
		ahead  time.Duration   // of the machine's clock before the broker's
		want   time.Duration   // of what is taken for the broker's time, before the broker's
	}{
		{"a clock that is right", []time.Duration{0}, 0, 0},
		{"half a second behind, as clocks are", []time.Duration{0}, -500 * time.Millisecond, -500 * time.Millisecond},
		{"half a minute ahead: cannot be told from a slow receipt", []time.Duration{0}, 30 * time.Second, 30 * time.Second},
		{"ten minutes ahead", []time.Duration{0}, 10 * time.Minute, 0},
		{"ten minutes behind", []time.Duration{0}, -10 * time.Minute, 0},
		{"years ahead", []time.Duration{0}, 100000 * time.Hour, 0},
		{"a message that waited, after one that did not", []time.Duration{0, time.Hour}, 10 * time.Minute, 0},
		{"a message that waited two minutes, and no other yet", []time.Duration{2 * time.Minute}, 10 * time.Minute, -2 * time.Minute},
		{"a backlog of an hour, and no other message yet", []time.Duration{time.Hour}, -2 * time.Hour, -4 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c clock
			var got time.Time
			for _, waited := range tt.waited {
				got = c.at(noon.Add(tt.ahead), noon.Add(-waited), noon.Add(lock))
			}
			if off := got.Sub(noon); off != tt.want {
				t.Errorf("the broker's time is taken to be %s before it, want %s", off, tt.want)
			}
		})
	}
}

// TestClockForgets has the queue's locks made longer, which ends the link.
func TestClockForgets(t *testing.T) {
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	var c clock
	c.at(noon, noon, noon.Add(time.Minute))
	c.forget()
	if got := c.at(noon, noon, noon.Add(5*time.Minute)); !got.Equal(noon) {
		t.Errorf("at noon it is taken to be %s", got)
	}
}
