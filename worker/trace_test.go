package worker_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"hsmsweep/internal/emulator/fault"
	"hsmsweep/worker"
)

const (
	producersTrace = "0af7651916cd43dd8448eb211c80319c"
	producersSpan  = "b7ad6b7169203331"
)

// inTrace is a message whose sender began a trace.
func inTrace(body string) *azservicebus.Message {
	return &azservicebus.Message{MessageID: new("m1"), Body: []byte(body),
		ApplicationProperties: map[string]any{"traceparent": "00-" + producersTrace + "-" + producersSpan + "-01", "tracestate": "vendor=x"}}
}

// steadily has waits last as long as they were asked for.
func steadily(o *options) {
	o.Spread = func(d time.Duration) time.Duration { return d }
	o.Backoff = func(setbacks int) time.Duration { return time.Duration(setbacks) * time.Second }
}

// TestTraceGolden has three replicas take a request over a throttled DELETE, an operation of two polls, and to its event, one after
// the other. The golden file is the trace that an operator sees.
func TestTraceGolden(t *testing.T) {
	inVirtualTime(t, seed(`{"deletes":[{"status":429,"retryAfter":"30"},{"status":202,"retryAfter":"60","operation":{"polls":1,"retryAfter":"60"}}]}`), func(t *testing.T, s *system) {
		s.send(inTrace(request("pec")))
		for range 2 {
			r := s.work(steadily)
			<-time.After(10 * time.Second) // it has parked the request by then
			r.stop()
			<-time.After(35 * time.Second)
		}
		r := s.work(steadily)
		e := s.events(1)[0]
		synctest.Wait()
		r.stop()

		spans := s.spans.GetSpans()
		worker.Golden(t, "testdata/trace.golden", render(spans))
		wantOneTrace(t, spans, producersTrace)
		hops := named(spans, "process connection-deletes")
		if len(hops) != 4 {
			t.Fatalf("%d hops, want 4", len(hops))
		}
		before := producersSpan
		for i, hop := range hops {
			if len(hop.Links) != 1 || hop.Links[0].SpanContext.SpanID().String() != before || hop.Parent.SpanID().String() != before {
				t.Errorf("hop %d has parent %s and links %v, want both to %s, which its message came from", i, hop.Parent.SpanID(), hop.Links, before)
			}
			if hop.EndTime.Sub(hop.StartTime) > time.Second {
				t.Errorf("hop %d took %s: a span was open while the request waited", i, hop.EndTime.Sub(hop.StartTime))
			}
			if scheduled := childOf(spans, hop, "schedule connection-deletes"); scheduled != nil {
				before = scheduled.SpanContext.SpanID().String()
			}
		}
		published := childOf(spans, hops[3], "send connection-events")
		if want := "00-" + producersTrace + "-" + published.SpanContext.SpanID().String() + "-01"; e.TraceParent != want {
			t.Errorf("the event has traceparent %s, want that of its sending, %s", e.TraceParent, want)
		}
		if got := e.received.ApplicationProperties["tracestate"]; got != "vendor=x" {
			t.Errorf("the event has tracestate %v, want the producer's", got)
		}
	})
}

// TestTraceOfSelector has the requests that come of a selector go on in its trace, each of them, and their events too.
func TestTraceOfSelector(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		s.send(inTrace(fmt.Sprintf(`{"managedHsmId":%q,"status":["Disconnected"]}`, poolID)))
		r := s.work()
		events := s.events(2)
		r.stop()
		wantOneTrace(t, s.spans.GetSpans(), producersTrace)
		for _, e := range events {
			if !strings.Contains(e.TraceParent, producersTrace) {
				t.Errorf("%s has traceparent %s, want the selector's trace", e.ID, e.TraceParent)
			}
		}
	})
}

// TestTraceBegins has a message that brings no trace: one begins with its first hop, and goes on.
func TestTraceBegins(t *testing.T) {
	inVirtualTime(t, seed(`{"deletes":[{"status":202,"operation":{}}]}`), func(t *testing.T, s *system) {
		s.submit("m1", request("pec"))
		r := s.work()
		e := s.events(1)[0]
		r.stop()
		spans := s.spans.GetSpans()
		first := named(spans, "process connection-deletes")[0]
		if first.Parent.IsValid() || len(first.Links) != 0 {
			t.Errorf("the first hop has parent %v and links %v, want neither", first.Parent, first.Links)
		}
		wantOneTrace(t, spans, first.SpanContext.TraceID().String())
		if !strings.Contains(e.TraceParent, first.SpanContext.TraceID().String()) {
			t.Errorf("the event has traceparent %s, want the trace of the first hop", e.TraceParent)
		}
	})
}

// TestTraceOfFailures has sends that fail: their spans say so, and so does what is measured.
func TestTraceOfFailures(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		s.inject(func(op fault.Operation) fault.Fault {
			if op.Name == "send" && op.Target == "connection-events" {
				return fault.Fault{Kind: fault.Refused, Condition: "amqp:unauthorized-access"}
			}
			return fault.Fault{}
		})
		r := s.work(steadily)
		s.submit("m1", request("pec"))
		<-time.After(time.Minute)
		s.inject(nil)
		s.events(1)
		failed := named(s.spans.GetSpans(), "send connection-events")[0]
		if failed.Status.Code != codes.Error || failed.SpanKind != trace.SpanKindProducer {
			t.Errorf("the span of an event that could not be sent has status %v and kind %v", failed.Status, failed.SpanKind)
		}
		measured := r.collect(t)
		if n := measured.sum("hsmsweep.effects.failed", "effect=publish"); n < 1 {
			t.Errorf("%g failed publications counted, want some", n)
		}
		if n := measured.sum("hsmsweep.requests.parked", "why=publish"); n < 1 {
			t.Errorf("%g requests counted that wait for their event, want some", n)
		}
		r.stop()
	})
}

func wantOneTrace(t *testing.T, spans tracetest.SpanStubs, traceID string) {
	t.Helper()
	for _, span := range spans {
		if got := span.SpanContext.TraceID().String(); got != traceID {
			t.Errorf("span %q is in trace %s, want %s", span.Name, got, traceID)
		}
	}
}

// named are the spans of a name, in the order of their beginnings.
func named(spans tracetest.SpanStubs, name string) tracetest.SpanStubs {
	found := slices.DeleteFunc(slices.Clone(spans), func(s tracetest.SpanStub) bool { return s.Name != name })
	slices.SortStableFunc(found, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
	return found
}

func childOf(spans tracetest.SpanStubs, parent tracetest.SpanStub, name string) *tracetest.SpanStub {
	for _, s := range named(spans, name) {
		if s.Parent.SpanID() == parent.SpanContext.SpanID() {
			return &s
		}
	}
	return nil
}

// render draws a trace as a tree. What differs from run to run is left out, and what every span of its kind has.
func render(spans tracetest.SpanStubs) []byte {
	var out bytes.Buffer
	known := map[trace.SpanID]bool{}
	children := map[trace.SpanID]tracetest.SpanStubs{}
	for _, s := range spans {
		known[s.SpanContext.SpanID()] = true
		children[s.Parent.SpanID()] = append(children[s.Parent.SpanID()], s)
	}
	var draw func(parent trace.SpanID, indent string)
	draw = func(parent trace.SpanID, indent string) {
		below := children[parent]
		// Spans end, and so are exported, in the order of their beginnings, but for those that have others inside.
		slices.SortStableFunc(below, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
		for _, s := range below {
			fmt.Fprintf(&out, "%s%s (%s)\n", indent, s.Name, s.SpanKind)
			for _, line := range told(s) {
				fmt.Fprintf(&out, "%s      %s\n", indent, line)
			}
			draw(s.SpanContext.SpanID(), indent+"  ")
		}
	}
	for parent := range children {
		if !known[parent] {
			draw(parent, "")
		}
	}
	return out.Bytes()
}

// told is what a span tells by its attributes, its status and its links.
func told(s tracetest.SpanStub) []string {
	implied := []attribute.Key{"messaging.system", "messaging.operation.name", "messaging.destination.name", "server.port", "http.request.method"}
	var lines []string
	for _, a := range s.Attributes {
		value := a.Value.String()
		if a.Key == "azure.service.request.id" {
			value = "(ARM's id)"
		}
		if !slices.Contains(implied, a.Key) {
			lines = append(lines, fmt.Sprintf("%s: %s", a.Key, strings.ReplaceAll(value, poolID, "(pool)")))
		}
	}
	if s.Status.Code == codes.Error {
		lines = append(lines, strings.TrimSpace("status: error "+s.Status.Description))
	}
	if s.SpanKind == trace.SpanKindConsumer {
		instance, _ := s.Resource.Set().Value("service.instance.id")
		lines = append(lines, fmt.Sprintf("replica: %d, links: %d", instance.AsInt64(), len(s.Links)))
	}
	slices.Sort(lines)
	return lines
}
