package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/arm"
	"hsmsweep/worker"
)

// deaden makes dead letters of n requests: a worker refuses them, because they are outside its scopes.
func (a *azure) deaden(t *testing.T, n int) {
	t.Helper()
	w := a.worker(t, "--allow-scope=/subscriptions/00000000-0000-0000-0000-00000000000f")
	sender := a.sender(t)
	for i := range n {
		put(t, sender, fmt.Sprint("r", i), fmt.Sprintf(`{"connectionId":%q,"requestId":"r%d"}`, connectionID(i), i))
	}
	queue, err := a.Broker.Entity(defaultQueue)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are dead letters", func() bool { return queue.Counts().DeadLetter == n })
	w.terminate(t)
	w.wantExit(t, 0, 10*time.Second)
}

// put puts a message on the queue as a client would.
func put(t *testing.T, sender *azservicebus.Sender, id, body string) {
	t.Helper()
	if err := sender.SendMessage(t.Context(), &azservicebus.Message{MessageID: &id, Body: []byte(body)}, nil); err != nil {
		t.Fatal(err)
	}
}

// TestResubmitKilled has the command die again and again in the middle of its work, and repeats it: every request ends once more, once.
func TestResubmitKilled(t *testing.T) {
	t.Parallel()
	const n, kills = 120, 4
	a := startAzure(t, n, arm.Script{})
	a.deaden(t, n)
	for i := range kills {
		p := launch(t, a.env, "deadletter", "resubmit", "--yes", "--rate=500", "--reason=OutOfScope")
		if err := p.wait(&p.out, func(text string) bool { return strings.Count(text, "\n") >= 5*(i+1) }); err != nil {
			t.Fatal(err)
		}
		p.kill()
	}
	queue, err := a.Broker.Entity(defaultQueue)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rest is resubmitted, too", func() bool { // what a killed process had locked comes back when its lock runs out
		p := launch(t, a.env, "deadletter", "resubmit", "--yes")
		<-p.exited
		return queue.Counts().DeadLetter == 0
	})
	w := a.worker(t)
	eventually(t, "all are deleted", func() bool { return queue.Counts().Active == 0 && !a.anyExists(n) })
	w.terminate(t)
	w.wantExit(t, 0, 10*time.Second)
	lines := call(t, a.env, "events", "--json", "--count", fmt.Sprint(2*n), "--timeout", patience.String())
	ends := map[string]int{}
	for line := range strings.Lines(lines) {
		var e ending
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		ends[e.Data.RequestID+" "+string(e.Data.Outcome)]++
	}
	for i := range n {
		for _, outcome := range []worker.Reason{worker.EndOutOfScope, worker.EndDeleted} {
			if key := fmt.Sprintf("r%d %s", i, outcome); ends[key] != 1 {
				t.Errorf("%s: %d events, want 1", key, ends[key])
			}
		}
	}
	a.wantNothingLeft(t, 2*n)
}

func (a *azure) anyExists(n int) bool {
	for i := range n {
		if a.ARM.Exists(connectionID(i)) {
			return true
		}
	}
	return false
}

// TestDeadLettersOfManyMinds has a reader who means it ill look at what a sender who means it ill has sent.
func TestDeadLettersOfManyMinds(t *testing.T) {
	t.Parallel()
	a := startAzure(t, 1, arm.Script{})
	w := a.worker(t)
	put(t, a.sender(t), "evil\x1b[2J", "{\"connectionId\":\"\x1b[31m\xff\"}")
	queue, err := a.Broker.Entity(defaultQueue)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is a dead letter", func() bool { return queue.Counts().DeadLetter == 1 })
	w.terminate(t)
	w.wantExit(t, 0, 10*time.Second)
	for _, args := range [][]string{{"list"}, {"show"}, {"resubmit", "--dry-run"}} {
		if out := call(t, a.env, append([]string{"deadletter"}, args...)...); strings.ContainsAny(out, "\x1b") || !strings.Contains(out, "evil") {
			t.Errorf("deadletter %v printed %q, want it printable", args, out)
		}
	}
	var shown struct {
		RequestID, Reason string
		BodyBase64        []byte
		Attempt           worker.Attempt
	}
	if err := json.Unmarshal([]byte(call(t, a.env, "deadletter", "show", "--json")), &shown); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(shown.BodyBase64), "{\"connectionId\":\"\x1b") || shown.Reason != "InvalidRequest" || shown.Attempt.End == nil || shown.Attempt.RequestID != shown.RequestID {
		t.Errorf("show --json printed %+v", shown)
	}
}

// TestDeadLetterTable has a terminal of 80 and of 120 columns.
func TestDeadLetterTable(t *testing.T) {
	t.Parallel()
	now := time.Now()
	letters := []worker.DeadLetter{
		{RequestID: "CHG0012345-1", ConnectionID: connectionID(7), Reason: "ScopeLocked", Description: "The scope '" + connectionID(7) + "' cannot perform delete operation",
			DeadLetteredAt: now.Add(-90 * time.Minute), RequestedAt: now.Add(-50 * time.Hour), Resubmits: 2},
		{RequestID: "r2", Selector: samplePool, Reason: "", DeadLetteredAt: now.Add(time.Hour), RequestedAt: now.Add(time.Hour)},
	}
	for width, want := range map[int]string{
		80: `REQUEST       CONNECTION  REASON       DEAD  SENT  AGAIN  TICKET  DESCRIPTION
CHG0012345-1  …e-mhsm/c7  ScopeLocked  90m   2d    2      -       The scope '/s…
r2            …mple-mhsm  -            now   now   0      -       -
2 dead letters.
`,
		120: `REQUEST       CONNECTION               REASON       DEAD  SENT  AGAIN  TICKET  DESCRIPTION
CHG0012345-1  sample-mhsm/c7           ScopeLocked  90m   2d    2      -       The scope '/subscriptions/00000000-0000-…
r2            managedHSMs/sample-mhsm  -            now   now   0      -       -
2 dead letters.
`} {
		var out strings.Builder
		view := new(deadletterListCmd).newView(&out, width)
		if err := view.print(letters); err != nil {
			t.Fatal(err)
		}
		view.close()
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("width %d (-want +got):\n%s", width, diff)
		}
	}
}
