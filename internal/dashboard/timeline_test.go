package dashboard

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestTimeline follows a request over its hops, of which some passed unseen, to its end.
func TestTimeline(t *testing.T) {
	ways := newTimelines()
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	if got := ways.steps("r@1"); got != nil {
		t.Errorf("before anything was seen: %v", got)
	}
	ways.note(parked(1, "r", at(60), map[string]any{"hop": 1, "why": "operation", "deletes": 1}), at(0))
	ways.note(parked(1, "r", at(60), map[string]any{"hop": 1, "why": "operation", "deletes": 1}), at(10)) // the same
	ways.note(active(2, "r", at(60), map[string]any{"hop": 1, "why": "operation", "deletes": 1}), at(61))
	ways.note(parked(3, "r", at(200), map[string]any{"hop": 4, "why": "unavailable", "deletes": 1, "polls": 3, "lastError": "503"}), at(150))
	ways.ended(endRow{Lineage: "r@1", RequestID: "r", RequestedAt: noon.Add(-time.Hour), StartedAt: at(-5), FinishedAt: at(201), Outcome: "failed", Detail: "Busy: no"})
	want := []step{
		{At: noon.Add(-time.Hour), Kind: "sent", Text: "sent to the queue"},
		{At: at(-5), Kind: "asked", Text: "first DELETE sent to ARM"},
		{At: at(0), Kind: "gap", Text: "hop 0 passed between two looks"},
		{At: at(0), Kind: "parked", Text: "hop 1: parked, ARM works on it", Note: "1 DELETE, 0 polls so far", DueAt: at(60)},
		{At: at(61), Kind: "due", Text: "hop 1: queued or in hand"},
		{At: at(150), Kind: "gap", Text: "hops 2 to 3 passed between two looks"},
		{At: at(150), Kind: "parked", Text: "hop 4: parked, ARM gave no answer", Note: "1 DELETE, 3 polls so far; 503", DueAt: at(200)},
		{At: at(201), Kind: "end", Text: "failed", Note: "Busy: no"},
	}
	if diff := cmp.Diff(want, ways.steps("r@1")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTimelineBounds forgets what was touched longest ago, and the middle of what is very long.
func TestTimelineBounds(t *testing.T) {
	ways := newTimelines()
	for i := range 3 * mostStops {
		ways.note(parked(int64(i), "long", noon, map[string]any{"hop": i + 1, "why": "conflict"}), noon.Add(time.Duration(i)*time.Second))
	}
	steps := ways.steps("long@1")
	if first, last := steps[2].Text, steps[len(steps)-1].Text; first != "hop 1: parked, pool busy with a change" || last != fmt.Sprintf("hop %d: parked, pool busy with a change", 3*mostStops) {
		t.Errorf("it begins with %q and ends with %q", first, last)
	}
	if gap, want := steps[mostStops/2+2].Text, "hops 31 to 150 are not kept"; gap != want {
		t.Errorf("in the middle it says %q, want %q", gap, want)
	}
	if len(steps) > mostStops+3 {
		t.Errorf("%d steps, want about %d", len(steps), mostStops)
	}
	for i := range mostFollowed {
		ways.ended(endRow{Lineage: fmt.Sprint(i)})
		ways.follow(parked(1, "long", noon, map[string]any{"hop": 1, "why": "conflict"}), noon) // is touched
	}
	if len(ways.ways) != mostFollowed || ways.used.Len() != mostFollowed || ways.steps("0") != nil || ways.steps("1") == nil || ways.steps("long@1") == nil {
		t.Errorf("%d ways are kept, want %d, and the right ones", len(ways.ways), mostFollowed)
	}
}
