package worker_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/internal/emulator/servicebus/broker"
)

// forged is a message with a state on it that somebody else than a worker wrote: change works on that of an operation under way.
func forged(change func(attempt map[string]any)) *azservicebus.Message {
	attempt := map[string]any{
		"version": 1, "requestId": "r1", "lineage": "r1@7", "hop": 3, "deletes": 1, "polls": 2,
		"requestedAt": "2000-01-01T00:00:00Z", "startedAt": "2000-01-01T00:00:00Z", "giveUpAt": "2000-01-02T00:00:00Z", "why": "operation",
		"operation": map[string]any{"url": "https://" + armHost + poolID + "/privateEndpointConnections/pec?api-version=2021-10-01&kv-operation=x", "protocol": "Location"},
	}
	change(attempt)
	text, _ := json.Marshal(attempt)
	return &azservicebus.Message{MessageID: new(fmt.Sprint(attempt["lineage"], "/", attempt["hop"])), Body: []byte(request("pec")),
		ApplicationProperties: map[string]any{"hsmsweep-attempt": string(text)}}
}

// TestForgedState has a state in the properties that no worker wrote. Whatever it says, the request ends, once, within a day; the
// token goes nowhere else; and nobody is told that a connection is gone that is there.
func TestForgedState(t *testing.T) {
	at := func(name string, value any) func(map[string]any) {
		return func(a map[string]any) { a[name] = value }
	}
	operation := func(url, protocol string) func(map[string]any) {
		return at("operation", map[string]any{"url": url, "protocol": protocol})
	}
	ended := func(outcome string) func(map[string]any) {
		return at("end", map[string]any{"outcome": outcome, "at": "2000-01-01T00:00:00Z", "httpStatus": 200})
	}
	for _, tt := range []struct {
		name   string
		change func(map[string]any)
		end    string // and its error code
	}{
		{"an operation that ARM does not know", func(map[string]any) {}, "deleted"}, // it is still there, so it is deleted after all
		{"another host", operation("https://stranger.example/x", "Location"), "failed UntrustedOperationUrl"},
		{"a host that looks like ARM's", operation("https://management.azure.com.stranger.example/x", "Location"), "failed UntrustedOperationUrl"},
		{"a host in the user's place", operation("https://management.azure.com@stranger.example/x", "Location"), "failed UntrustedOperationUrl"},
		{"a look-alike letter", operation("https://m\u0430nagement.azure.com/x", "Location"), "failed UntrustedOperationUrl"},
		{"a full stop of another script", operation("https://stranger.example\u3002management.azure.com/x", "Location"), "failed UntrustedOperationUrl"},
		{"not https", operation("http://management.azure.com/x", "Location"), "failed UntrustedOperationUrl"},
		{"another port", operation("https://management.azure.com:444/x", "Location"), "failed UntrustedOperationUrl"},
		{"no URL at all", operation("://", "Location"), "failed UntrustedOperationUrl"},
		{"a file", operation("file:///etc/passwd", "Location"), "failed UntrustedOperationUrl"},
		{"an unknown protocol", operation("https://management.azure.com/x", "Gopher"), "invalid InvalidRequest"},
		{"no protocol", at("operation", map[string]any{"url": "https://management.azure.com/x"}), "invalid InvalidRequest"},
		{"said to be deleted", ended("deleted"), "failed ConnectionStillPresent"},
		{"said to be absent", ended("absent"), "failed ConnectionStillPresent"},
		{"an end that does not exist", ended("cancelledd"), "invalid InvalidRequest"},
		{"said to be verified soon", at("verifying", map[string]any{"outcome": "deleted", "at": "2000-01-01T00:00:00Z"}), "failed ConnectionStillPresent"},
		{"a failure to be verified", at("verifying", map[string]any{"outcome": "rejected", "at": "2000-01-01T00:00:00Z"}), "invalid InvalidRequest"},
		{"a selection of what is no selector", at("selection", map[string]any{"last": true}), "deleted"},
		{"a selection of fewer than it found", at("selection", map[string]any{"found": "SsxVyE3NLUgtTk0uLQYEAAD//w", "made": -1}), "invalid InvalidRequest"},
		{"a selection that cannot be unpacked", at("selection", map[string]any{"found": "eA==", "made": 1}), "invalid InvalidRequest"},
		{"hop 0", at("hop", 0), "invalid InvalidRequest"},
		{"a negative hop", at("hop", -1), "invalid InvalidRequest"},
		{"the last hop of all", at("hop", int64(1)<<62), "invalid InvalidRequest"},
		{"a hop that is none", at("hop", 1.5), "invalid InvalidRequest"},
		{"more panics than there are", at("panics", 1<<31), "invalid InvalidRequest"},
		{"never to be given up", at("giveUpAt", "8999-01-01T00:00:00Z"), "deleted"},
		{"never due", func(a map[string]any) { a["giveUpAt"], a["due"] = "8999-01-01T00:00:00Z", "8998-01-01T00:00:00Z" }, "timedOut TimedOut"},
		{"given up long ago", at("giveUpAt", "1990-01-01T00:00:00Z"), "timedOut TimedOut"}, // after asking once more
		{"a time beyond all", at("giveUpAt", "9999-12-31T23:59:59Z"), "invalid InvalidRequest"},
		{"no time to give up", at("giveUpAt", "0001-01-01T00:00:00Z"), "invalid InvalidRequest"},
		{"another version", at("version", 2), "timedOut TimedOut"}, // no worker came that knows it
		{"another version, and no hop", func(a map[string]any) { a["version"], a["hop"] = 2, 0 }, "invalid InvalidRequest"},
		{"no version", at("version", 0), "invalid InvalidRequest"},
		{"no request", at("requestId", ""), "invalid InvalidRequest"},
		{"a lineage of a thousand characters", at("lineage", strings.Repeat("x", 120)), "invalid InvalidRequest"},
		{"another request's lineage", at("lineage", "somebody-else@1"), "deleted"},
		{"denied for ever", at("deniedSince", "1990-01-01T00:00:00Z"), "deleted"},
		{"out of setbacks", at("setbacks", 1<<29), "deleted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
				r := s.work()
				began := time.Now()
				s.send(forged(tt.change))
				e := s.events(1)[0]
				if end := strings.TrimSpace(string(e.Data.Outcome) + " " + errorCode(e)); end != tt.end {
					t.Errorf("ended as %s %+v, want %s", end, e.Data.Error, tt.end)
				}
				if took := time.Since(began); took > 25*time.Hour {
					t.Errorf("it took %s, want a day at most", took)
				}
				if gone := e.Data.Outcome == "deleted"; gone == s.ARM.Exists(poolID+"/privateEndpointConnections/pec") {
					t.Errorf("ended as %s, and the connection is there: %v", e.Data.Outcome, !gone)
				}
				<-time.After(26 * time.Hour)
				r.stop()
				s.wantHealthy()
				s.wantNoMoreEvents()
			})
		})
	}
}

// TestSecrets greps everything that leaves a worker, but for the wire, for what nobody may read: tokens, signatures, the
// identity endpoint's secret, and the query of an operation's URL.
func TestSecrets(t *testing.T) {
	plans := []plan{planned(kinds[2], "r0"), planned(kinds[4], "r1"), planned(kinds[9], "r2"), planned(kinds[13], "r3"), planned(kinds[11], "r4")}
	inVirtualTimeWith(t, broker.DefaultConfig(), seedOf(plans), func(t *testing.T, s *system) {
		r := s.work()
		for _, p := range plans {
			s.submit(p.name, p.text())
		}
		var out bytes.Buffer
		for _, e := range s.events(len(plans)) {
			out.Write(e.received.Body)
			fmt.Fprintln(&out, e.received.ApplicationProperties)
		}
		s.ServiceBus.CloseConnections()
		s.Identity.FailNext(1, 500)
		for _, m := range s.deadLetters() {
			fmt.Fprintln(&out, deref(m.DeadLetterReason), deref(m.DeadLetterErrorDescription))
		}
		r.stop()
		for _, span := range s.spans.GetSpans() {
			fmt.Fprintln(&out, span.Name, span.Attributes, span.Events, span.Status)
		}
		fmt.Fprintln(&out, r.collect(t))
		out.Write(s.logged.Bytes())
		for _, secret := range []string{"Bearer", "kv-operation=", "sig=", s.Identity.Header(), "SharedAccessSignature"} {
			if i := strings.Index(out.String(), secret); i >= 0 {
				t.Errorf("%q is in %q", secret, out.String()[max(0, i-100):min(out.Len(), i+100)])
			}
		}
		for _, x := range s.ARM.Exchanges() {
			if _, query, ok := strings.Cut(x.URL, "kv-operation="); ok && strings.Contains(out.String(), query) {
				t.Errorf("the query of an operation is told: %s", query)
			}
		}
		for _, seen := range []string{"GET [", armHost, "ScopeLocked"} {
			if !strings.Contains(out.String(), seen) {
				t.Errorf("what was looked at has no %q", seen)
			}
		}
	})
}

// TestClocks has the broker's clock differ from the worker's. Requests take the time that they would take with one clock.
func TestClocks(t *testing.T) {
	for _, ahead := range []time.Duration{-26 * time.Hour, -10 * time.Minute, -20 * time.Second, 20 * time.Second, 10 * time.Minute, 26 * time.Hour} {
		t.Run(ahead.String(), func(t *testing.T) {
			inVirtualTime(t, seed(`{"deletes":[{"status":409,"code":"ConflictError"},{"hang":true},{"status":202,"retryAfter":"60","operation":{"polls":3,"retryAfter":"60"}}]}`), func(t *testing.T, s *system) {
				r := s.work()
				<-time.After(time.Minute)
				s.Broker.SetClock(ahead) // it jumps while the worker runs
				began := time.Now()
				s.submit("m1", request("pec"))
				e := s.events(1)[0]
				if took := time.Since(began); took < 4*time.Minute || took > 7*time.Minute {
					t.Errorf("it took %s, want the four minutes that ARM asks for, and some delays", took)
				}
				r.stop()
				if e.Data.Outcome != "deleted" || e.Data.Polls != 4 || e.Data.Attempts != 3 {
					t.Errorf("ended as %s after %d DELETEs and %d polls, want deleted after 3 and 4", e.Data.Outcome, e.Data.Attempts, e.Data.Polls)
				}
				if lag := e.Data.FinishedAt.Sub(began.Add(ahead)); lag < 0 || lag > 8*time.Minute {
					t.Errorf("finished %s after the request, by the broker's clock", lag)
				}
				s.wantHealthy()
			})
		})
	}
}

// TestPoison has one request that kills the process whenever ARM is asked about it, with whatever is in hand. It ends with an
// event, and the others are deleted.
func TestPoison(t *testing.T) {
	const requests = 60
	inVirtualTime(t, manyConnections(requests), func(t *testing.T, s *system) {
		for i := range requests {
			s.submit(fmt.Sprint("m", i), request(fmt.Sprint("c", i)))
		}
		kills := 0
		for range 20 {
			r := s.work(slowly(200*time.Millisecond), killedBy("/c7"))
			select {
			case <-r.crashed:
				kills++
			case <-time.After(10 * time.Minute):
			}
			r.drain()
			if c := s.counts(); c.Active+c.Scheduled == 0 {
				break
			}
			<-time.After(2 * time.Second)
		}
		last := s.work()
		ends := map[string]int{}
		for _, e := range s.events(requests) {
			poison := strings.HasSuffix(e.Subject, "/c7")
			if end := string(e.Data.Outcome) + errorCode(e); poison != (end == "failedTooManyDeliveries") {
				t.Errorf("%s ended as %s", e.Subject, end)
			}
			ends[string(e.Data.Outcome)]++
		}
		last.stop()
		if kills != 8 {
			t.Errorf("%d kills, want the 8 of --max-deliveries", kills)
		}
		t.Logf("%d kills; ends: %v", kills, ends)
	})
}
