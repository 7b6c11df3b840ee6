package worker

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLive has the loops stop in every place, and looks after a while at what /healthz would say.
func TestLive(t *testing.T) {
	for _, tt := range []struct {
		name  string
		loops func(*pulse)
		after time.Duration
		stuck string // part of what is said; empty: all is well
	}{
		{"before it runs", func(*pulse) {}, time.Hour, ""},
		{"all moves", func(p *pulse) { p.moved(); p.kept() }, time.Minute, ""},
		{"an empty queue for a while", func(p *pulse) { p.moved(); p.kept(); p.listening() }, longestRound, ""},
		{"the steps in hand take their time", func(p *pulse) { p.kept(); p.moved() }, longestRound, ""},
		{"the loop is stuck", func(p *pulse) { p.moved(); time.Sleep(longestTurn); p.kept() }, time.Minute, "receiving loop"},
		{"the housekeeping is stuck", func(p *pulse) { p.kept(); p.listening() }, longestRound + time.Minute, "housekeeping"},
		{"a new connection does not wake it", func(p *pulse) { p.kept(); p.listening(); p.disturbed() }, longestWake + time.Second, "connection was replaced"},
		{"a new connection wakes it", func(p *pulse) { p.kept(); p.listening(); p.disturbed(); p.moved(); p.listening() }, longestWake + time.Second, ""},
		{"a long drain", func(p *pulse) { p.moved(); p.kept(); p.draining() }, 24 * time.Hour, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var w Worker
				tt.loops(&w.pulse)
				time.Sleep(tt.after)
				err := w.Live()
				if tt.stuck == "" && err != nil || tt.stuck != "" && (err == nil || !strings.Contains(err.Error(), tt.stuck)) {
					t.Errorf("after %s: %v, want %q", tt.after, err, tt.stuck)
				}
			})
		})
	}
}
