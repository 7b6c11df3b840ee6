package worker_test

import (
	"encoding/json"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/worker"
)

// TestAnotherVersion has a request whose state a later release has written meet this one, as it does while a release is rolled out, or
// back. It waits with all that it has, unasked and untold, until a worker that knows the version takes it further.
func TestAnotherVersion(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		r := s.work()
		sent := map[string]any{}
		s.send(forged(func(a map[string]any) {
			a["version"], a["operation"], a["plan"] = 2, []any{"of", "another", "shape"}, map[string]any{"steps": 7.0}
			maps.Copy(sent, a)
		}))
		<-time.After(20 * time.Minute)

		waiting := s.find(s.operator(), "r1")
		if err := waiting.Cancellable(true); waiting.Why != worker.WaitVersion || err == nil || !strings.Contains(err.Error(), "version 2") {
			t.Errorf("it waits for %q and is cancellable: %v; want version, and why not", waiting.Why, err)
		}
		if asked := s.ARM.Exchanges(); len(asked) > 0 {
			t.Errorf("ARM was asked %d times", len(asked))
		}
		m := s.peek("connection-deletes")
		state := stateOf(t, m)
		if hop := int(state["hop"].(float64)); hop < 5 || hop > 40 || m.MessageID != "r1@7/"+strconv.Itoa(hop) {
			t.Errorf("message %s after 20 minutes, in hop %d; want longer waits each time, and the hop's id", m.MessageID, hop)
		}
		for _, changes := range []string{"hop", "due", "why", "setbacks"} {
			delete(state, changes)
			delete(sent, changes)
		}
		if got, want := text(t, state), text(t, sent); got != want {
			t.Errorf("of its state is left\n%s\nwant\n%s", got, want)
		}
		r.stop()

		// A worker that knows version 2 hands it on in version 1.
		hop := stateOf(t, s.takeAway(0))["hop"].(float64)
		s.send(forged(func(a map[string]any) { a["hop"] = int(hop) + 1 }))
		s.work()
		if e := s.events(1)[0]; e.Data.Outcome != worker.EndDeleted || e.ID != "r1@7/end" {
			t.Errorf("ended as %s under %s, want deleted under r1@7/end", e.Data.Outcome, e.ID)
		}
		<-time.After(time.Hour)
		s.wantNoMoreEvents()
	})
}

func stateOf(t *testing.T, m *azservicebus.ReceivedMessage) map[string]any {
	t.Helper()
	var state map[string]any
	if err := json.Unmarshal([]byte(m.ApplicationProperties["hsmsweep-attempt"].(string)), &state); err != nil {
		t.Fatal(err)
	}
	return state
}

func text(t *testing.T, value any) string {
	t.Helper()
	written, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(written)
}
