package worker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"hsmsweep/deletion"
	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/worker"
)

const (
	otherPool = subscription + "/resourceGroups/other-group/providers/Microsoft.KeyVault/managedHSMs/other-mhsm"
	pe1       = subscription + "/resourceGroups/net/providers/Microsoft.Network/privateEndpoints/pe1"
	pe2       = subscription + "/resourceGroups/net/providers/Microsoft.Network/privateEndpoints/pe2"
)

// twoPools have connections of two endpoints, in several states, under names that repeat, and that look like what ids end in.
const twoPools = `{"pools":[
	{"id":"` + poolID + `","connections":[
		{"name":"same","status":"Disconnected","privateEndpointId":"` + pe1 + `"},
		{"name":"1","status":"Rejected","privateEndpointId":"` + pe1 + `"},
		{"name":"end","status":"Approved","privateEndpointId":"` + pe2 + `"}]},
	{"id":"` + otherPool + `","connections":[
		{"name":"same","status":"Approved","privateEndpointId":"` + pe1 + `"},
		{"name":"kept","status":"Approved","privateEndpointId":"` + pe2 + `"}]},
	{"id":"` + subscription + `/resourceGroups/other-group/providers/Microsoft.KeyVault/managedHSMs/empty-mhsm"}]}`

func searching(ids ...string) func(*options) {
	return func(o *options) {
		o.SearchScopes = nil
		for _, id := range ids {
			scope, err := deletion.ParseScope(id)
			if err != nil {
				panic(err)
			}
			o.SearchScopes = append(o.SearchScopes, scope)
		}
	}
}

// TestSelectors sends what stands for several connections. Each that is found ends in an event of its own, the selector in one that
// lists them.
func TestSelectors(t *testing.T) {
	deleted := func(event string) string {
		return fmt.Sprintf(`{"id":"e-1","topic":"`+subscription+`","subject":"%s","eventType":"Microsoft.Resources.ResourceDeleteSuccess","eventTime":"2026-01-31T12:00:00Z","dataVersion":"2","metadataVersion":"1",
			"data":{"resourceUri":"%[1]s","operationName":"delete","status":"Succeeded","claims":{"upn":"jane@example.com"}}}`, event)
	}
	cloud := fmt.Sprintf(`{"id":"e-1","source":"`+subscription+`","subject":"%s","type":"Microsoft.Resources.ResourceDeleteSuccess","specversion":"1.0","time":"2026-01-31T12:00:00Z","data":{"resourceUri":"%[1]s"}}`, strings.ToUpper(pe1))
	for _, tt := range []struct {
		name, body string
		scopes     []string
		end        string   // of the selector, and what it lists or says
		ends       []string // of the others: request, connection's pool, outcome
		left       []string // connections
	}{
		{name: "a pool, by state", body: `{"managedHsmId":"` + poolID + `","status":["disconnected","Rejected"],"requestId":"sweep"}`,
			end:  "expanded sweep/1 sweep/same",
			ends: []string{"sweep/1 sample-mhsm deleted", "sweep/same sample-mhsm deleted"}, left: []string{"sample-mhsm/end", "other-mhsm/same", "other-mhsm/kept"}},
		{name: "an endpoint, in a subscription", body: `{"privateEndpointId":"` + pe1 + `","requestId":"sweep"}`, scopes: []string{subscription},
			end:  "expanded sweep/same sweep/1 sweep/same", // other-group comes before sample-group
			ends: []string{"sweep/1 sample-mhsm deleted", "sweep/same other-mhsm deleted", "sweep/same sample-mhsm deleted"}, left: []string{"sample-mhsm/end", "other-mhsm/kept"}},
		{name: "an endpoint, in one pool, with a guard", body: `{"privateEndpointId":"` + pe1 + `","requestId":"sweep","status":["Rejected"]}`, scopes: []string{poolID},
			end:  "expanded sweep/1 sweep/same",
			ends: []string{"sweep/1 sample-mhsm deleted", "sweep/same sample-mhsm statusMismatch"}, left: []string{"sample-mhsm/same", "sample-mhsm/end", "other-mhsm/same", "other-mhsm/kept"}},
		{name: "a dry run", body: `{"managedHsmId":"` + poolID + `","status":["Approved"],"requestId":"sweep","dryRun":true}`,
			end: "expanded sweep/end", ends: []string{"sweep/end sample-mhsm dryRun"}, left: []string{"sample-mhsm/same", "sample-mhsm/1", "sample-mhsm/end", "other-mhsm/same", "other-mhsm/kept"}},
		{name: "Event Grid: an endpoint is gone", body: deleted(pe2), scopes: []string{subscription + "/resourceGroups/other-group", poolID},
			end: "expanded e-1/kept e-1/end", ends: []string{"e-1/end sample-mhsm deleted", "e-1/kept other-mhsm deleted"}, left: []string{"sample-mhsm/same", "sample-mhsm/1", "other-mhsm/same"}},
		{name: "Event Grid as a CloudEvent, in capitals, an array of one", body: "[" + cloud + "]", scopes: []string{otherPool},
			end: "expanded e-1/same", ends: []string{"e-1/same other-mhsm deleted"}, left: []string{"sample-mhsm/same", "sample-mhsm/1", "sample-mhsm/end", "other-mhsm/kept"}},
		{name: "nothing in such a state", body: `{"managedHsmId":"` + poolID + `","status":["Pending"],"requestId":"sweep"}`, end: "noMatch none"},
		{name: "no such endpoint", body: deleted(strings.Replace(pe1, "pe1", "pe3", 1)), scopes: []string{subscription}, end: "noMatch none"},
		{name: "no such pool", body: `{"managedHsmId":"` + strings.Replace(poolID, "sample-mhsm", "gone-mhsm", 1) + `","status":["Pending"],"requestId":"sweep"}`, end: "noMatch none"},
		{name: "a scope that is not there", body: deleted(pe1), scopes: []string{"/subscriptions/99999999-9999-9999-9999-999999999999"}, end: "rejected SubscriptionNotFound"},
		{name: "nowhere to search", body: deleted(pe1), scopes: []string{}, end: "invalid NoSearchScope"},
		{name: "two events, one of them of nothing that is known", body: "[" + deleted(pe1) + `,{"id":"e-2","source":"s","type":"Contoso.Lunch","specversion":"1.0"}]`, scopes: []string{otherPool},
			end: "expanded m1/e-1 m1/e-2", ends: []string{"m1/e-1 expanded", "m1/e-1/same other-mhsm deleted", "m1/e-2 invalid"}, left: []string{"sample-mhsm/same", "other-mhsm/kept"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inVirtualTime(t, twoPools, func(t *testing.T, s *system) {
				r := s.work(searching(tt.scopes...))
				s.submit("m1", tt.body)
				events := s.events(1 + len(tt.ends))
				r.stop()
				var ends []string
				trace := events[0].TraceParent[:35]
				for _, e := range events {
					if e.TraceParent[:35] != trace {
						t.Errorf("%s is in trace %s, the first one in %s", e.ID, e.TraceParent, trace)
					}
					if parent, _, isChild := cutLast(e.Data.RequestID, "/"); isChild != (e.Data.ParentRequestID != "") || isChild && e.Data.ParentRequestID != parent {
						t.Errorf("%s has the parent %q", e.Data.RequestID, e.Data.ParentRequestID)
					}
					if end := s.described(e); e.Data.ParentRequestID == "" && end != tt.end {
						t.Errorf("the selector ended as %q, want %q", end, tt.end)
					} else if e.Data.ParentRequestID != "" {
						ends = append(ends, strings.Join(strings.Fields(fmt.Sprint(e.Data.RequestID, " ", poolName(e), " ", e.Data.Outcome)), " "))
					}
				}
				slices.Sort(ends)
				if diff := cmp.Diff(tt.ends, ends); diff != "" {
					t.Errorf("ends (-want +got):\n%s", diff)
				}
				for _, c := range tt.left {
					pool, name, _ := strings.Cut(c, "/")
					id := map[string]string{"sample-mhsm": poolID, "other-mhsm": otherPool}[pool] + "/privateEndpointConnections/" + name
					if !s.ARM.Exists(id) {
						t.Errorf("%s is gone", c)
					}
				}
				if c := s.counts(); c.Active != 0 || c.Scheduled != 0 {
					t.Errorf("left in the queue: %+v", c)
				}
			})
		})
	}
}

// described is a selector's end.
func (s *system) described(e event) string {
	words := []string{string(e.Data.Outcome)}
	words = append(words, e.Data.Children...)
	if e.Data.Found != "" {
		words = append(words, e.Data.Found)
	}
	if code := errorCode(e); code != "" {
		words = append(words, code)
	}
	if e.Data.Outcome == "expanded" && (e.Type != "Hsmsweep.RequestExpanded" || e.Data.ChildCount != len(e.Data.Children)) {
		s.t.Errorf("%s: type %s, %d children", e.ID, e.Type, e.Data.ChildCount)
	}
	return strings.Join(words, " ")
}

func poolName(e event) string {
	name, _ := e.received.ApplicationProperties["managedHsm"].(string)
	return name
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// TestReportedDeletion: Azure's event of a connection that is gone is read back, and never leads to a DELETE, although this program's own
// deletions raise it.
func TestReportedDeletion(t *testing.T) {
	for _, tt := range []struct {
		connection string
		outcome    worker.Reason
		verified   bool
		found      string
	}{{"gone", "absent", true, ""}, {"same", "statusMismatch", false, "Disconnected"}} {
		inVirtualTime(t, twoPools, func(t *testing.T, s *system) {
			r := s.work()
			s.submit("m1", fmt.Sprintf(`{"id":"e-1","eventType":"Microsoft.Resources.ResourceDeleteSuccess","subject":"%s/privateEndpointConnections/%s","eventTime":"2026-01-31T12:00:00Z","data":{"status":"Succeeded"}}`, poolID, tt.connection))
			e := s.events(1)[0]
			r.stop()
			if e.Data.Outcome != tt.outcome || e.Data.Verified != tt.verified || e.Data.Found != tt.found || e.Data.Error != nil {
				t.Errorf("%s: %+v, want %s, found %q", tt.connection, e.Data, tt.outcome, tt.found)
			}
			for _, x := range s.ARM.Exchanges() {
				if x.Method != "GET" {
					t.Errorf("ARM was asked to %s %s", x.Method, x.Connection)
				}
			}
		})
	}
}

// TestThousandsSelected sweeps a pool with thousands of connections, whose names fit into one message's state, or do not.
func TestThousandsSelected(t *testing.T) {
	for _, tt := range []struct {
		name   string
		n      int
		naming func(i int) string
		listed int // in the event, at the least
	}{
		{"names in a row", 3000, func(i int) string { return fmt.Sprintf("connection-%04d", i) }, 3000},
		{"names by chance", 1600, func(int) string { return "pe." + uuid.NewString() }, 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := tt.n
			var connections []string
			for i := range n {
				connections = append(connections, fmt.Sprintf(`{"name":%q,"status":"Disconnected"}`, tt.naming(i)))
			}
			seed := fmt.Sprintf(`{"pools":[{"id":%q,"connections":[%s]}]}`, poolID, strings.Join(connections, ","))
			inVirtualTime(t, seed, func(t *testing.T, s *system) {
				r := s.work()
				s.submit("m1", `{"managedHsmId":"`+poolID+`","status":["Disconnected"],"requestId":"sweep"}`)
				ends := map[worker.Reason]int{}
				for _, e := range s.events(n + 1) {
					ends[e.Data.Outcome]++
					if e.Data.Outcome == "expanded" && (e.Data.ChildCount != n || len(e.Data.Children) < tt.listed) {
						t.Errorf("the event counts %d requests and lists %d, want %d and at least %d", e.Data.ChildCount, len(e.Data.Children), n, tt.listed)
					}
				}
				r.stop()
				if diff := cmp.Diff(map[worker.Reason]int{"expanded": 1, "deleted": n}, ends); diff != "" {
					t.Errorf("ends (-want +got):\n%s", diff)
				}
				if c := s.counts(); c != (broker.Counts{}) {
					t.Errorf("left in the queue: %+v", c)
				}
			})
		})
	}
}

// TestExpandedLater: what was found is written down, so that a publication that fails for an hour, in which all the connections
// go, does not change what the event says.
func TestExpandedLater(t *testing.T) {
	inVirtualTime(t, twoPools, func(t *testing.T, s *system) {
		s.inject(func(op fault.Operation) fault.Fault {
			if op.Name == "send" && strings.HasSuffix(op.MessageID, "@1/end") && time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) < time.Hour {
				return fault.Fault{Kind: fault.Refused}
			}
			return fault.Fault{}
		})
		r := s.work()
		s.submit("m1", `{"managedHsmId":"`+poolID+`","status":["Disconnected","Rejected"],"requestId":"sweep"}`)
		events := s.events(3)
		r.stop()
		if end := s.described(events[2]); end != "expanded sweep/1 sweep/same" {
			t.Errorf("ended as %q", end)
		}
	})
}

// TestSelectorNotBefore waits before it searches: what is to be deleted is what is there then.
func TestSelectorNotBefore(t *testing.T) {
	inVirtualTime(t, twoPools, func(t *testing.T, s *system) {
		r := s.work()
		s.submit("m1", `{"managedHsmId":"`+poolID+`","status":["Rejected"],"requestId":"sweep","notBefore":"2000-01-01T12:00:00Z"}`)
		<-time.After(time.Hour)
		synctest.Wait()
		if n := len(s.ARM.Exchanges()); n > 0 {
			t.Errorf("ARM was asked %d times an hour before the time", n)
		}
		if m := s.peek("connection-deletes"); m.State != azservicebus.MessageStateScheduled {
			t.Errorf("waits as %v", m.State)
		}
		if events := s.events(2); time.Since(time.Date(2000, 1, 1, 12, 0, 0, 0, time.UTC)) > time.Second {
			t.Errorf("%d events only at %s", len(events), time.Now())
		}
		r.stop()
	})
}
