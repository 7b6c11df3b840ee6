package dashboard

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatchPace reads only while somebody looks, and rests in between unless there is a hurry.
func TestWatchPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		w := newWatch(nil, &ends{})
		began := time.Now()
		var rounds []time.Duration // since the beginning
		w.round = func(context.Context) time.Duration {
			rounds = append(rounds, time.Since(began))
			time.Sleep(time.Second)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.picture.Number++
			w.picture.waiting.rows = []byte("[]")
			close(w.changed)
			w.changed = make(chan struct{})
			return 9 * time.Second
		}
		ended := make(chan struct{})
		go func() { defer close(ended); w.run(ctx) }()
		want := func(what string, seconds ...time.Duration) {
			t.Helper()
			synctest.Wait()
			for i := range seconds {
				seconds[i] *= time.Second
			}
			if !slices.Equal(rounds, seconds) {
				t.Errorf("%s: rounds began at %v, want %v", what, rounds, seconds)
			}
		}

		time.Sleep(time.Hour - time.Second)
		want("nobody looks")
		time.Sleep(time.Second)
		p := w.look(ctx, 0)
		want("at the first look", 3600)
		if next := w.look(ctx, p.Number); next.Number != p.Number+1 || time.Since(began) != time.Hour+11*time.Second {
			t.Errorf("the next picture has number %d after %s, want %d", next.Number, time.Since(began), p.Number+1)
		}
		if again := w.look(ctx, 0); again.Number != p.Number+1 {
			t.Errorf("who has none gets number %d, want the one there is", again.Number)
		}
		time.Sleep(time.Hour)
		want("and for a while after the last look", 3600, 3610, 3620, 3630, 3640, 3650)

		rounds = nil
		again := (time.Since(began) / time.Second)
		w.look(ctx, 0)
		synctest.Wait()
		w.soon()
		time.Sleep(5 * time.Second)
		want("in a hurry", again, again+1)
		stop()
		<-ended
	})
}

// TestWatchEnd does not keep whoever waits for a picture.
func TestWatchEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(nil, &ends{})
		began := time.Now()
		w.look(t.Context(), w.picture.Number)
		if waited := time.Since(began); waited != lookTimeout {
			t.Errorf("it waited for %s, want %s", waited, lookTimeout)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w.look(ctx, w.picture.Number)
		if waited := time.Since(began); waited != lookTimeout {
			t.Errorf("it waited for %s after the end", waited-lookTimeout)
		}
	})
}
