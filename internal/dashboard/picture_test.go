package dashboard

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"hsmsweep/worker"
)

const poolID = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/g/providers/Microsoft.KeyVault/managedHSMs/hsm1"

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// message is one in the queue as a peek shows it.
func message(number int64, id string, state azservicebus.MessageState, enqueued, due time.Time, attempt map[string]any) *azservicebus.ReceivedMessage {
	m := &azservicebus.ReceivedMessage{MessageID: id, SequenceNumber: &number, State: state, EnqueuedTime: &enqueued,
		Body: []byte(`{"requestId":"` + id + `","connectionId":"` + poolID + `/privateEndpointConnections/` + id + `","ticket":{"id":"CHG1"}}`), ApplicationProperties: map[string]any{}}
	if !due.IsZero() {
		m.ScheduledEnqueueTime = &due
	}
	if attempt != nil {
		base := map[string]any{"version": 1, "requestId": id, "lineage": id + "@1", "requestedAt": noon.Add(-time.Hour), "giveUpAt": noon.Add(time.Hour)}
		for name, value := range attempt {
			base[name] = value
		}
		text, _ := json.Marshal(base)
		m.ApplicationProperties["hsmsweep-attempt"] = string(text)
		m.MessageID = fmt.Sprintf("%s@1/%v", id, attempt["hop"])
	}
	return m
}

func parked(number int64, id string, due time.Time, attempt map[string]any) worker.Waiting {
	return worker.NewWaiting(message(number, id, azservicebus.MessageStateScheduled, noon, due, attempt))
}

func active(number int64, id string, since time.Time, attempt map[string]any) worker.Waiting {
	return worker.NewWaiting(message(number, id, azservicebus.MessageStateActive, since, time.Time{}, attempt))
}

// TestWords has words for every reason: a new one must not come to the page as it stands in the code.
func TestWords(t *testing.T) {
	for _, why := range worker.WaitReasons {
		if words[why] == "" {
			t.Errorf("there are no words for %s", why)
		}
	}
	if len(words) != len(worker.WaitReasons) {
		t.Errorf("there are words for %d reasons, want %d", len(words), len(worker.WaitReasons))
	}
}

func TestWaitRow(t *testing.T) {
	operation := map[string]any{"url": "https://management.azure.com/op", "protocol": "Location"}
	const now, late = "it is being handled now", "too late"
	for name, c := range map[string]struct {
		request                    worker.Waiting
		why, words                 string
		notCancelled, notExpedited string // a part of it
		begun                      bool
	}{
		"active":    {request: active(1, "a", noon, nil), why: "due", words: dueWords, notCancelled: now, notExpedited: now},
		"conflict":  {request: parked(1, "a", noon, map[string]any{"hop": 3, "why": "conflict"}), why: "conflict", words: "pool busy with a change"},
		"operation": {request: parked(1, "a", noon, map[string]any{"hop": 3, "why": "operation", "operation": operation}), why: "operation", words: "ARM works on it", notExpedited: "until the time that ARM asked for", begun: true},
		"ended":     {request: parked(1, "a", noon, map[string]any{"hop": 3, "why": "publish", "end": map[string]any{"outcome": "deleted", "at": noon}}), why: "publish", words: "event still to be published", notCancelled: late},
		"scheduled": {request: parked(1, "a", noon, nil), why: "scheduled", words: "scheduled by its sender", notExpedited: "its sender scheduled it"},
		"forged":    {request: parked(1, "a", noon, map[string]any{"hop": 3, "why": "<b>"}), why: "<b>", words: "<b>"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newWaitRow(c.request)
			if r.Why != c.why || r.Words != c.words || r.Begun != c.begun || r.Ticket != "CHG1" || r.ConnectionID != poolID+"/privateEndpointConnections/a" {
				t.Errorf("got %+v", r)
			}
			for what, pair := range map[string][2]string{"cancelled": {r.NotCancelled, c.notCancelled}, "expedited": {r.NotExpedited, c.notExpedited}} {
				if (pair[0] == "") != (pair[1] == "") || !strings.Contains(pair[0], pair[1]) {
					t.Errorf("not %s because of %q, want %q in it", what, pair[0], pair[1])
				}
			}
		})
	}
}

// TestRowNumbers keeps numbers that JavaScript would round: those of a partitioned queue begin beyond 2^53.
func TestRowNumbers(t *testing.T) {
	text, err := json.Marshal(newWaitRow(active(1<<55+1, "a", noon, nil)))
	if err != nil || !strings.Contains(string(text), `"sequenceNumber":"36028797018963969"`) {
		t.Errorf("%s (%v)", text, err)
	}
}

func TestEndRow(t *testing.T) {
	event := func(data string) *azservicebus.ReceivedMessage {
		return &azservicebus.ReceivedMessage{Body: []byte(`{"id":"r1@7/end","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","data":{"requestId":"r1",` + data + `}}`)}
	}
	for data, want := range map[string]endRow{
		`"outcome":"deleted"`: {Kind: "completed", Outcome: "deleted"},
		`"outcome":"statusMismatch","expected":"Pending","found":"Approved"`:  {Kind: "skipped", Outcome: "statusMismatch", Detail: "expected Pending, found Approved"},
		`"outcome":"expanded","childCount":1`:                                 {Kind: "expanded", Outcome: "expanded", Detail: "became 1 request"},
		`"outcome":"expanded","childCount":12`:                                {Kind: "expanded", Outcome: "expanded", Detail: "became 12 requests"},
		`"outcome":"rejected","error":{"code":"ScopeLocked","message":"no"}`:  {Kind: "failed", Outcome: "rejected", Detail: "ScopeLocked: no"},
		`"outcome":"cancelled","ticket":{"id":"CHG1"},"parentRequestId":"r0"`: {Kind: "skipped", Outcome: "cancelled", Ticket: "CHG1", ParentID: "r0"},
	} {
		want.ID, want.Lineage, want.RequestID, want.TraceID = "r1@7/end", "r1@7", "r1", "4bf92f3577b34da6a3ce929d0e0e4736"
		got, err := newEndRow(event(data))
		if err != nil {
			t.Errorf("%s: %v", data, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", data, diff)
		}
	}
	for _, data := range []string{`"outcome":"eaten"`, `"outcome":7`, `"x":1`} {
		if got, err := newEndRow(event(data)); err == nil {
			t.Errorf("%s gave %+v, want an error", data, got)
		}
	}
}

// TestMinutes counts by the minute, over gaps and late comers.
func TestMinutes(t *testing.T) {
	var m minutes
	m.add(noon.Add(-2*time.Hour), "completed") // long ago
	m.add(noon.Add(-59*time.Minute), "failed")
	m.add(noon, "completed")
	m.add(noon.Add(30*time.Second), "completed")
	m.add(noon.Add(-5*time.Minute), "skipped")     // late
	m.add(noon.Add(-60*time.Minute), "completed")  // too late
	m.add(noon.Add(-600*time.Minute), "completed") // much too late
	want := make([]minute, shownMinutes)
	want[0].Failed, want[54].Skipped, want[59].Completed = 1, 1, 2
	if diff := cmp.Diff(want, m.until(noon.Add(59*time.Second))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	shifted := m.until(noon.Add(10 * time.Minute))
	if want := append(slices.Clone(want[10:]), make([]minute, 10)...); !cmp.Equal(want, shifted) {
		t.Errorf("ten minutes later (-want +got):\n%s", cmp.Diff(want, shifted))
	}
	if later := m.until(noon.Add(100 * time.Hour)); !cmp.Equal(make([]minute, shownMinutes), later) {
		t.Errorf("days later there is %v", later)
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for _, d := range []time.Duration{-time.Hour, 0, 9 * time.Second, 10 * time.Second, time.Minute, time.Hour, 23 * time.Hour, 24 * time.Hour, 9000 * time.Hour} {
		h.add(d)
	}
	var counts []int
	for _, b := range h.bars() {
		counts = append(counts, b.Count)
	}
	if want := []int{3, 1, 1, 0, 1, 1, 2}; !slices.Equal(counts, want) {
		t.Errorf("got %v, want %v", counts, want)
	}
}

// TestSnapshot counts all and keeps the most urgent, in the order of their urgency.
func TestSnapshot(t *testing.T) {
	s := newSnapshot(noon, newTimelines())
	const many = 5 * mostShown
	for i := range many {
		s.add(parked(int64(i), fmt.Sprint("r", i), noon.Add(time.Duration(many-i)*time.Second), map[string]any{"hop": 1, "why": "conflict"}))
	}
	s.add(active(9001, "late", noon.Add(-time.Second), nil))
	s.add(active(9000, "later", noon.Add(-time.Minute), nil))
	s.add(parked(9002, "forged", noon.Add(-time.Second), map[string]any{"hop": 1, "why": "nonsense"}))
	rows := s.rows()
	if len(rows) != mostShown || s.parked != many+1 || s.active != 2 || !s.oldest.Equal(noon.Add(-time.Minute)) {
		t.Errorf("%d rows, %d parked, %d active since %s", len(rows), s.parked, s.active, s.oldest)
	}
	for i, want := range []string{"later", "late", "forged", fmt.Sprint("r", many-1), fmt.Sprint("r", many-2)} {
		if rows[i].RequestID != want {
			t.Errorf("row %d is %s, want %s", i, rows[i].RequestID, want)
		}
	}
	if diff := cmp.Diff([]whyCount{{"conflict", words[worker.WaitConflict], many}, {"other", "for a reason unknown here", 1}}, whyCounts(s.whys)); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	if len(s.urgent) > mostShown || len(s.timeline.ways) > mostShown {
		t.Errorf("%d requests and %d ways are kept, want at most %d", len(s.urgent), len(s.timeline.ways), mostShown)
	}
}

func TestDeadLetters(t *testing.T) {
	var l deadLetters
	for i := range 5 * mostShown {
		l.add(deadRow{RequestID: fmt.Sprint(i), DeadLetteredAt: noon.Add(time.Duration(i) * time.Second)})
	}
	rows := l.rows()
	if l.count != 5*mostShown || len(rows) != mostShown || rows[0].RequestID != fmt.Sprint(5*mostShown-1) || rows[mostShown-1].RequestID != fmt.Sprint(4*mostShown) {
		t.Errorf("%d counted, %d kept, from %s to %s", l.count, len(rows), rows[0].RequestID, rows[len(rows)-1].RequestID)
	}
}

// TestSection has a new version only where something else is said.
func TestSection(t *testing.T) {
	var s section
	for i, c := range []struct {
		rows []endRow
		want int64
	}{{nil, 1}, {[]endRow{}, 1}, {[]endRow{{ID: "a"}}, 3}, {[]endRow{{ID: "a"}}, 3}, {nil, 5}} {
		if err := s.set(c.rows, int64(i+1)); err != nil || s.version != c.want {
			t.Errorf("step %d: version %d (%v), want %d", i+1, s.version, err, c.want)
		}
	}
	if s.unless(5) != nil || s.unless(4) == nil || string(s.unless(0).Rows) != "[]" {
		t.Errorf("a section is %s", s.rows)
	}
}
