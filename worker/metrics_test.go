package worker_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"hsmsweep/internal/emulator/fault"
)

// measured is what a replica's instruments show: a number for each set of labels. Of a histogram that is how often it was recorded.
type measured map[string][]point

type point struct {
	labels attribute.Set
	n      float64
	sum    float64 // of a histogram
}

func (r *replica) collect(t *testing.T) measured {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := r.metrics.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	m := measured{}
	for _, scope := range all.ScopeMetrics {
		for _, metric := range scope.Metrics {
			m[metric.Name] = points(t, metric.Data)
		}
	}
	return m
}

func points(t *testing.T, data metricdata.Aggregation) (points []point) {
	t.Helper()
	switch data := data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			points = append(points, point{p.Attributes, float64(p.Value), 0})
		}
	case metricdata.Gauge[int64]:
		for _, p := range data.DataPoints {
			points = append(points, point{p.Attributes, float64(p.Value), 0})
		}
	case metricdata.Gauge[float64]:
		for _, p := range data.DataPoints {
			points = append(points, point{p.Attributes, p.Value, 0})
		}
	case metricdata.Histogram[int64]:
		for _, p := range data.DataPoints {
			points = append(points, point{p.Attributes, float64(p.Count), float64(p.Sum)})
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			points = append(points, point{p.Attributes, float64(p.Count), p.Sum})
		}
	default:
		t.Fatalf("a metric of type %T", data)
	}
	return points
}

// sum adds up what has these labels, each as name=value.
func (m measured) sum(name string, labels ...string) (n float64) {
	for _, p := range m.having(name, labels) {
		n += p.n
	}
	return n
}

// total adds up what a histogram recorded.
func (m measured) total(name string, labels ...string) (n float64) {
	for _, p := range m.having(name, labels) {
		n += p.sum
	}
	return n
}

func (m measured) having(name string, labels []string) []point {
	return slices.DeleteFunc(slices.Clone(m[name]), func(p point) bool {
		return slices.ContainsFunc(labels, func(label string) bool {
			key, value, _ := strings.Cut(label, "=")
			got, _ := p.labels.Value(attribute.Key(key))
			return got.String() != value
		})
	})
}

// TestMetrics takes requests to their ends and looks at every instrument.
func TestMetrics(t *testing.T) {
	inVirtualTime(t, seed(`{"deletes":[{"status":429,"retryAfter":"30"},{"status":202,"retryAfter":"60","operation":{"polls":1,"retryAfter":"60"}}]}`), func(t *testing.T, s *system) {
		s.submit("m1", request("pec"))
		<-time.After(10 * time.Second)
		r := s.work(steadily)
		<-time.After(5 * time.Second) // throttled
		during := r.collect(t)
		s.events(1)
		s.submit("m2", "no JSON")
		s.events(1)
		s.submit("m3", fmt.Sprintf(`{"managedHsmId":%q,"status":["Disconnected"]}`, poolID))
		s.events(1)
		s.counts()
		after := r.collect(t)

		want := func(m measured, n float64, name string, labels ...string) {
			t.Helper()
			if got := m.sum(name, labels...); got != n {
				t.Errorf("%s%v is %g, want %g", name, labels, got, n)
			}
		}
		want(during, 1, "hsmsweep.gates.closed", "gate=subscription")
		want(during, 0, "hsmsweep.gates.closed", "gate=pool")
		want(during, 1, "hsmsweep.ready")
		want(during, 0, "hsmsweep.steps.in_hand")
		if silent := during.sum("hsmsweep.receiver.silence"); silent < 4 || silent > 5 {
			t.Errorf("the receiver is said to have waited %g s, want nearly 5", silent)
		}
		want(after, 0, "hsmsweep.gates.closed")
		want(after, 0, "hsmsweep.receiver.deaf")
		want(after, 0, "hsmsweep.queue.stalled")
		want(after, 0, "hsmsweep.turns.ahead")

		want(after, 3, "hsmsweep.requests.ended")
		want(after, 1, "hsmsweep.requests.ended", "end=completed", "outcome=deleted", "code=none")
		want(after, 1, "hsmsweep.requests.ended", "end=failed", "outcome=invalid", "code=InvalidRequest")
		want(after, 1, "hsmsweep.requests.ended", "end=skipped", "outcome=noMatch", "code=none")
		want(after, 1, "hsmsweep.requests.parked", "why=throttle")
		want(after, 2, "hsmsweep.requests.parked", "why=operation")
		want(after, 1, "hsmsweep.requests.parked", "why=expand")
		want(after, 1, "hsmsweep.arm.answers", "asked=DELETE", "answer=throttled")
		want(after, 1, "hsmsweep.arm.answers", "asked=DELETE", "answer=accepted")
		want(after, 1, "hsmsweep.arm.answers", "asked=poll", "answer=running")
		want(after, 1, "hsmsweep.arm.answers", "asked=poll", "answer=deleted")
		want(after, 1, "hsmsweep.arm.answers", "asked=search", "answer=present")
		if hops, polls := after.total("hsmsweep.request.hops", "end=completed"), after.total("hsmsweep.request.polls", "end=completed"); hops != 4 || polls != 2 {
			t.Errorf("%g hops and %g polls of the deletion, want 4 and 2", hops, polls)
		}
		if took := after.total("hsmsweep.request.duration", "end=completed"); took < 160 || took > 165 {
			t.Errorf("the deletion took %g s, want 160 s and a little", took)
		}
		if late := after.total("hsmsweep.pickup.delay", "message=new"); late < 10 || late > 10.5 {
			t.Errorf("new messages were picked up %g s late, want the 10 s of the first", late)
		}
		want(after, 4, "hsmsweep.pickup.delay", "message=parked")

		want(after, 7, "messaging.client.consumed.messages", "messaging.destination.name=connection-deletes")
		want(after, 7, "messaging.process.duration", "messaging.operation.name=process")
		want(after, 4, "messaging.client.sent.messages", "messaging.operation.name=schedule")
		want(after, 3, "messaging.client.sent.messages", "messaging.destination.name=connection-events")
		want(after, 6, "messaging.client.operation.duration", "messaging.operation.name=complete")
		want(after, 1, "messaging.client.operation.duration", "messaging.operation.name=dead_letter")
		want(after, 2, "http.client.request.duration", "http.request.method=DELETE", "server.address="+armHost, "server.port=443")
		want(after, 1, "http.client.request.duration", "http.response.status_code=429", "error.type=429")
		if left := after.sum("hsmsweep.arm.remaining", "kind=reads"); left <= 0 {
			t.Errorf("%g reads are left at ARM, want what it said", left)
		}
		<-time.After(5 * time.Minute)
		if m := r.collect(t); len(m["hsmsweep.arm.remaining"]) != 0 {
			t.Errorf("ARM said nothing for five minutes, and %v is shown", m["hsmsweep.arm.remaining"])
		}
		r.stop()
		want(r.collect(t), 1, "hsmsweep.drain.duration")
	})
}

// TestMetricsOfTrouble loses locks, has settlements refused, and a message delivered again.
func TestMetricsOfTrouble(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		s.inject(func(op fault.Operation) fault.Fault {
			if op.Name == "settle" {
				return fault.Fault{Kind: fault.Refused, Condition: "com.microsoft:message-lock-lost"}
			}
			return fault.Fault{}
		})
		r := s.work(steadily)
		s.submit("m1", request("pec"))
		<-time.After(30 * time.Second)
		s.inject(nil)
		<-time.After(5 * time.Minute)
		m := r.collect(t)
		if n := m.sum("hsmsweep.locks.lost"); n < 1 {
			t.Errorf("%g locks lost, want some", n)
		}
		if n := m.sum("hsmsweep.effects.failed"); n != 0 {
			t.Errorf("%g failed effects, want none: a lost lock is none", n)
		}
		if n := m.sum("hsmsweep.redelivered", "cause=unsettled"); n < 1 {
			t.Errorf("%g redelivered, want some", n)
		}
		if n := m.sum("messaging.client.operation.duration", "error.type=locklost"); n < 1 {
			t.Errorf("%g settlements with a lost lock, want some", n)
		}
		if n := m.sum("hsmsweep.requests.ended"); n != 1 {
			t.Errorf("%g ends, want 1: only what was settled counts", n)
		}
		r.stop()
	})
}

// labelValues are what each label may be, for all metrics together.
var labelValues = map[string]string{
	"end":     "completed skipped expanded failed",
	"outcome": "deleted absent dryRun statusMismatch endpointMismatch protected noMatch cancelled expanded rejected failed timedOut invalid outOfScope",
	"code": "none other InvalidRequest UnsupportedEvent NoSearchScope RequestTooLarge OutOfScope TimedOut TooManyDeliveries MessageExpired ConnectionStillPresent " +
		"ConnectionMayBeDeleted InternalError UntrustedOperationUrl NoAnswer NoToken ScopeLocked AuthorizationFailed RequestDisallowedByPolicy " +
		"MissingSubscriptionRegistration ReadOnlyDisabledSubscription SubscriptionNotFound InvalidSubscriptionId InvalidResourceType NoRegisteredProviderFound " +
		"ResourceNotFound ParentResourceNotFound ResourceGroupNotFound OperationFailed OperationCanceled BadRequest Unauthorized Forbidden NotFound Conflict TooManyRequests",
	"why":                        "operation throttle conflict denied unavailable restart notBefore verify expand publish panic redelivered other",
	"message":                    "new parked",
	"cause":                      "unsettled givenBack",
	"asked":                      "DELETE poll read search",
	"answer":                     "deleted absent present accepted running throttled conflict denied rejected failed unavailable expired untrusted",
	"kind":                       "deletes reads",
	"gate":                       "subscription pool",
	"effect":                     "schedule publish complete abandon dead_letter",
	"reason":                     "deliveries expired",
	"messaging.system":           "servicebus",
	"messaging.destination.name": "connection-deletes connection-events",
	"messaging.operation.name":   "receive process schedule send complete abandon dead_letter",
	"messaging.operation.type":   "send settle",
	"http.request.method":        "DELETE GET",
	"server.address":             armHost + " *." + armHost,
	"server.port":                "443",
	"http.response.status_code":  "200 202 204 400 401 403 404 409 429 500 503",
}

// TestLabels sends hostile bodies and forged states, and has ARM answer with codes that nobody knows. Whatever comes, a label is a word
// of its set, so that nobody can make series without number.
func TestLabels(t *testing.T) {
	inVirtualTime(t, seed(`{"deletes":[{"status":409,"code":"Nobody knows \u0000 this"},{"status":400,"code":"or <that>"}]}`), func(t *testing.T, s *system) {
		r := s.work()
		n := 0
		send := func(m *azservicebus.Message) { n++; s.send(m) }
		for name, body := range hostileBodies(t) {
			send(&azservicebus.Message{MessageID: new(fmt.Sprint("h", n)), Body: []byte(body), ApplicationProperties: map[string]any{"name": cut(name)}})
		}
		states := 0
		forge := func(change func(map[string]any)) {
			states++
			send(forged(func(a map[string]any) {
				a["lineage"] = fmt.Sprintf("r%d@7", states)
				change(a)
			}))
		}
		soon := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
		forge(func(a map[string]any) { a["why"], a["due"] = "any text", soon })
		forge(func(a map[string]any) {
			a["end"] = map[string]any{"outcome": "rejected", "at": soon, "code": "any code"}
		})
		forge(func(a map[string]any) {
			a["end"] = map[string]any{"outcome": "deleted", "at": soon, "code": "any code"}
		})
		for _, host := range []string{"a", "b", "eastus"} {
			forge(func(a map[string]any) {
				a["operation"] = map[string]any{"url": "https://" + host + "." + armHost + "/any/path?secret=1", "protocol": "Location"}
			})
		}
		s.send(&azservicebus.Message{MessageID: new("last"), Body: []byte(request("pec"))})
		s.events(n + 1)
		s.counts()
		m := r.collect(t)
		r.stop()
		failures := labelValues["code"] + " givenBack timeout canceled locklost connlost unauthorized notfound closed _OTHER 400 401 403 404 409 429 500 503"
		series := 0
		for name, points := range m {
			series += len(points)
			for _, p := range points {
				for _, label := range p.labels.ToSlice() {
					known := labelValues[string(label.Key)]
					if label.Key == "error.type" {
						known = failures
					}
					if !slices.Contains(strings.Fields(known), label.Value.String()) {
						t.Errorf("%s has %s=%q, which is none of %s", name, label.Key, label.Value.String(), known)
					}
				}
			}
		}
		if m.sum("hsmsweep.requests.ended", "code=other") == 0 || m.sum("hsmsweep.requests.parked", "why=other") == 0 || m.sum("http.client.request.duration", "server.address=*."+armHost) == 0 {
			t.Errorf("the corpus has nothing that is another word: %v", slices.Sorted(maps.Keys(m)))
		}
		const most = 150
		if series > most {
			t.Errorf("%d series, want %d at most", series, most)
		}
	})
}

// cut keeps a test's own property small.
func cut(s string) string { return s[:min(len(s), 100)] }
