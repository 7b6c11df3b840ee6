package worker

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"hsmsweep/deletion"
	"hsmsweep/queue"
)

const someTrace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func delivered(body string, properties map[string]any) *queue.Delivery {
	return &queue.Delivery{ReceivedMessage: &azservicebus.ReceivedMessage{
		Body: []byte(body), ApplicationProperties: properties, MessageID: "message-1", SequenceNumber: new(int64(42)),
		EnqueuedTime: new(noon.Add(-time.Minute)), DeliveryCount: 1,
	}}
}

func taken(body string, properties map[string]any) task {
	w := &Worker{policy: testPolicy()}
	return w.take(delivered(body, properties), noon)
}

// TestEnvelopes takes requests out of everything they may come in.
func TestEnvelopes(t *testing.T) {
	native := fmt.Sprintf(`{"connectionId":%q}`, sampleID)
	named := fmt.Sprintf(`{"connectionId":%q,"requestId":"mine"}`, sampleID)
	event := func(data, more string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":"event-1","source":"/tickets","type":"Contoso.Decommissioned"%s%s}`, data, more)
	}
	grid := func(more string) string {
		return fmt.Sprintf(`{"id":"grid-1","topic":"/t","eventType":"Contoso.Decommissioned","eventTime":"2026-01-31T12:00:00Z","dataVersion":"1"%s}`, more)
	}
	tests := []struct {
		name, body string
		properties map[string]any
		requestID  string
		fault      string // the code; empty: sampleID is asked for
		says       string
	}{
		{name: "native", body: native, requestID: "message-1"},
		{name: "native with its own id", body: named, requestID: "mine"},
		{name: "CloudEvent", body: event(`,"data":`+native, ""), requestID: "event-1"},
		{name: "CloudEvent with the request's own id", body: event(`,"data":`+named, ""), requestID: "mine"},
		{name: "CloudEvent, base64", body: event(`,"data_base64":"eyJjb25uZWN0aW9uSWQiOiJ4In0="`, ""), requestID: "event-1", fault: CodeInvalidRequest, says: "connectionId"},
		{name: "CloudEvent with a subject and no data", body: event("", fmt.Sprintf(`,"subject":%q`, sampleID)), requestID: "event-1"},
		{name: "CloudEvent with a subject and foreign data", body: event(`,"data":{"application":"payments"}`, fmt.Sprintf(`,"subject":%q`, sampleID)), requestID: "event-1"},
		{name: "CloudEvent with a subject and text", body: event(`,"data":"payments is gone"`, fmt.Sprintf(`,"subject":%q`, sampleID)), requestID: "event-1"},
		{name: "binary mode with a subject and text", body: "payments is gone", properties: map[string]any{"cloudEvents:specversion": "1.0", "cloudEvents:id": "binary-3", "cloudEvents:subject": sampleID.String()}, requestID: "binary-3"},
		{name: "CloudEvent whose data is a misspelt request", body: event(`,"data":{"connectionid":"x","Force":true}`, fmt.Sprintf(`,"subject":%q`, sampleID)), requestID: "event-1", fault: CodeInvalidRequest, says: "connectionid: no such field"},
		{name: "CloudEvent of something else", body: event(`,"data":{"application":"payments"}`, `,"subject":"/apps/payments"`), requestID: "event-1", fault: CodeUnsupportedEvent, says: "Contoso.Decommissioned"},
		{name: "CloudEvent of another version", body: strings.Replace(event(`,"data":`+native, ""), `"1.0"`, `"0.3"`, 1), requestID: "event-1", fault: CodeInvalidRequest, says: "specversion"},
		{name: "CloudEvent without a source", body: strings.Replace(event(`,"data":`+native, ""), `"source":"/tickets",`, "", 1), requestID: "message-1", fault: CodeInvalidRequest, says: "source"},
		{name: "binary mode", body: native, properties: map[string]any{"cloudEvents:specversion": "1.0", "cloudEvents:id": "binary-1", "cloudEvents:type": "Contoso.Decommissioned"}, requestID: "binary-1"},
		{name: "binary mode, the other prefix", body: "", properties: map[string]any{"cloudEvents_specversion": "1.0", "cloudEvents_id": "binary-2", "cloudEvents_subject": sampleID.String()}, requestID: "binary-2"},
		{name: "Event Grid", body: grid(`,"subject":"x","data":` + native), requestID: "grid-1"},
		{name: "Event Grid, an array of one", body: "[" + grid(`,"subject":"x","data":`+native) + "]", requestID: "grid-1"},
		{name: "Event Grid with a subject", body: grid(fmt.Sprintf(`,"subject":%q,"data":{}`, sampleID)), requestID: "grid-1"},
		{name: "an array of an array", body: "[[" + grid(`,"data":`+native) + "]]", requestID: "message-1", fault: CodeInvalidRequest, says: "element 1 of 1 is no JSON object"},
		{name: "an array with a number in it", body: "[" + grid(`,"data":`+native) + ",7]", requestID: "message-1", fault: CodeInvalidRequest, says: "element 2 of 2"},
		{name: "no events", body: "[]", requestID: "message-1", fault: CodeInvalidRequest, says: "empty array"},
		{name: "Azure's event of something else", body: azures(grid(`,"subject":"`+sampleID.Pool.String()+`","data":{}`), "ResourceDeleteSuccess"), requestID: "grid-1", fault: CodeUnsupportedEvent, says: "neither a private endpoint"},
		{name: "Azure's event of a write", body: azures(grid(fmt.Sprintf(`,"subject":%q,"data":{}`, someone)), "ResourceWriteSuccess"), requestID: "grid-1", fault: CodeUnsupportedEvent, says: "ResourceWriteSuccess"},
		{name: "repeated within an event", body: event(`,"data":`+strings.Replace(native, "{", `{"status":["Approved"],"status":["Rejected"],`, 1), ""), requestID: "message-1", fault: CodeInvalidRequest, says: "twice"},
		{name: "an event twice over", body: event(`,"id":"event-2","data":`+native, ""), requestID: "message-1", fault: CodeInvalidRequest, says: "twice"},
		{name: "empty", body: "", requestID: "message-1", fault: CodeInvalidRequest},
		{name: "an id of another's attempt", body: native, properties: map[string]any{attemptProperty: `{"version":1}`}, requestID: "message-1", fault: CodeInvalidRequest, says: attemptProperty},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := taken(tt.body, tt.properties)
			if got.attempt.RequestID != tt.requestID {
				t.Errorf("request id %q, want %q", got.attempt.RequestID, tt.requestID)
			}
			switch {
			case tt.fault == "" && (got.fault != nil || got.request.Connection != sampleID):
				t.Errorf("asks for %s (%+v), want %s", got.request.Connection, got.fault, sampleID)
			case tt.fault != "" && got.fault == nil:
				t.Errorf("asks for %s, want the fault %s", got.request.Connection, tt.fault)
			case tt.fault != "" && (got.fault.code != tt.fault || !strings.Contains(got.fault.message, tt.says)):
				t.Errorf("fault %+v, want %s that says %q", *got.fault, tt.fault, tt.says)
			}
		})
	}
}

// azures makes one of Azure's own events of a custom one.
func azures(event, kind string) string {
	return strings.Replace(event, "Contoso.Decommissioned", "Microsoft.Resources."+kind, 1)
}

// TestSelectors takes what stands for several connections, or for none to delete, out of its envelopes.
func TestSelectors(t *testing.T) {
	grid := func(more string) string {
		return azures(`{"id":"grid-1","topic":"/t","eventType":"Contoso.Decommissioned","eventTime":"2026-01-31T12:00:00Z","dataVersion":"2",`+more+`}`, "ResourceDeleteSuccess")
	}
	native := fmt.Sprintf(`{"connectionId":%q}`, sampleID)
	for _, tt := range []struct {
		name, body string
		want       deletion.Request
		events     int
	}{
		{name: "a pool", body: fmt.Sprintf(`{"managedHsmId":%q,"status":["Disconnected"]}`, sampleID.Pool), want: deletion.Request{Pool: &sampleID.Pool, Statuses: []deletion.LinkStatus{"Disconnected"}}},
		{name: "an endpoint", body: fmt.Sprintf(`{"privateEndpointId":%q,"status":["rejected"]}`, someone), want: deletion.Request{Endpoint: someoneID, Statuses: []deletion.LinkStatus{"Rejected"}}},
		{name: "an endpoint's deletion", body: grid(fmt.Sprintf(`"subject":%q,"data":{"status":"Succeeded","operationName":"Microsoft.Network/privateEndpoints/delete"}`, someone)), want: deletion.Request{Endpoint: someoneID}},
		{name: "a connection's deletion", body: grid(fmt.Sprintf(`"subject":%q,"data":{}`, sampleID)), want: deletion.Request{Connection: sampleID, Reported: true}},
		{name: "two events", body: "[" + native + "," + grid(fmt.Sprintf(`"subject":%q`, someone)) + "]", events: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := taken(tt.body, nil)
			if got.fault != nil {
				t.Fatalf("fault %+v", *got.fault)
			}
			if diff := cmp.Diff(tt.want, got.request); diff != "" || len(got.events) != tt.events {
				t.Errorf("%d events, want %d; request (-want +got):\n%s", len(got.events), tt.events, diff)
			}
		})
	}
}

// TestBodyThatIsNoData is what a producer sends that uses an AMQP value.
func TestBodyThatIsNoData(t *testing.T) {
	d := delivered("", nil)
	d.Body = nil
	got := (&Worker{policy: testPolicy()}).take(d, noon)
	if got.fault == nil || !strings.Contains(got.fault.message, "data section") {
		t.Errorf("fault %+v, want one that says what to send instead", got.fault)
	}
}

func TestTraceOfAMessage(t *testing.T) {
	body := fmt.Sprintf(`{"specversion":"1.0","id":"1","source":"s","type":"t","subject":%q,"traceparent":%q}`, sampleID, someTrace)
	for name, properties := range map[string]map[string]any{
		"CloudEvent's extension": nil,
		"traceparent":            {"traceparent": someTrace, "Diagnostic-Id": "00-11111111111111111111111111111111-1111111111111111-01"},
		"Diagnostic-Id":          {"Diagnostic-Id": someTrace},
	} {
		if got := taken(body, properties).trace["traceparent"]; got != someTrace {
			t.Errorf("%s: trace %q, want %q", name, got, someTrace)
		}
	}
}

// TestLineage has the ids that duplicate detection lives on.
func TestLineage(t *testing.T) {
	long := strings.Repeat("é", 128)
	for _, requestID := range []string{"CHG7", long, long[:len(long)-2] + "x", strings.Repeat("\U0001F600", 128), "x" + strings.Repeat("\U0001F600", 127)} {
		a := newAttempt(requestID, 1<<62, noon, noon, time.Hour)
		a.Hop = 100_000
		for _, id := range []string{a.messageID(), a.eventID()} {
			if n := len(utf16.Encode([]rune(id))); n > 128 {
				t.Errorf("%q has %d characters, Service Bus takes 128", id, n)
			}
		}
		if a.RequestID != requestID {
			t.Errorf("request id %q became %q", requestID, a.RequestID)
		}
	}
	if compact(long, 80) == compact(long[:len(long)-2]+"x", 80) {
		t.Error("two long ids became one")
	}
}

func TestAttemptSurvivesItsTravel(t *testing.T) {
	a := polling().attempt
	a.End = &End{Outcome: EndRejected, At: noon, Code: "ScopeLocked", Message: "a lock"}
	a.Due, a.Why, a.Setbacks, a.Panics, a.DeniedSince, a.LastError = noon.Add(time.Minute), WaitPublish, 2, 1, noon, "x"
	a.Unknown = jsontext.Value(`{"later":[1,{"x":"y"}]}`)
	text := encoded(t, a)
	got, err := decodeAttempt(text)
	if err != nil {
		t.Fatal(err)
	}
	if again := encoded(t, got); again != text || !strings.Contains(text, `"later":[1,`) {
		t.Errorf("came back as\n%s\nwent as\n%s", again, text)
	}
}

// TestForeignState has the state of another version read: what is shared is understood, and nothing else, whatever it is.
func TestForeignState(t *testing.T) {
	a := polling().attempt
	a.Version, a.Setbacks = 2, 3
	text := strings.Replace(encoded(t, a), `"operation":{`, `"later":{},"operation":{"of":7,`, 1)
	got, err := decodeAttempt(text)
	if err != nil {
		t.Fatal(err)
	}
	want := a
	want.Operation, want.Unknown = nil, got.Unknown
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("understood differs (-want +got):\n%s", diff)
	}
	if unknown := string(got.Unknown); !strings.Contains(unknown, `"later"`) || !strings.Contains(unknown, `"of":7`) || strings.Contains(unknown, `"deletes"`) {
		t.Errorf("not understood: %s", unknown)
	}
}

func encoded(t testing.TB, a Attempt) string {
	t.Helper()
	text, err := a.encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestResumed has what tools make of a message that was parked or dead-lettered, and send again.
func TestResumed(t *testing.T) {
	body := fmt.Sprintf(`{"connectionId":%q}`, sampleID)
	a := polling().attempt
	travelling := func(messageID string, more map[string]any) task {
		d := delivered(body, map[string]any{attemptProperty: encoded(t, a)})
		d.MessageID = messageID
		for name, value := range more {
			d.ApplicationProperties[name] = value
		}
		return (&Worker{policy: testPolicy()}).take(d, noon)
	}
	if got := travelling(a.messageID(), nil); got.attempt.Hop != a.Hop || got.attempt.Lineage != a.Lineage {
		t.Errorf("as it was sent: hop %d of %s, want hop %d of %s", got.attempt.Hop, got.attempt.Lineage, a.Hop, a.Lineage)
	}
	for name, got := range map[string]task{
		"resubmitted with its dead-letter reason": travelling(a.messageID(), map[string]any{"DeadLetterReason": "ScopeLocked"}),
		"resubmitted under another id":            travelling("another", nil),
	} {
		if got.attempt.Hop != 0 || got.attempt.Lineage == a.Lineage || got.fault != nil {
			t.Errorf("%s: hop %d of %s, fault %v; want a new lineage", name, got.attempt.Hop, got.attempt.Lineage, got.fault)
		}
	}
}

// TestForgedTimes has times that no clock shows and no event could carry.
func TestForgedTimes(t *testing.T) {
	late := time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -23*3600))
	for name, forge := range map[string]func(*Attempt){
		"requestedAt": func(a *Attempt) { a.RequestedAt = late },
		"giveUpAt":    func(a *Attempt) { a.GiveUpAt = late },
		"due":         func(a *Attempt) { a.Due = late },
		"end":         func(a *Attempt) { a.End = &End{Outcome: EndDeleted, At: late} },
	} {
		a := polling().attempt
		forge(&a)
		text := encoded(t, a)
		if _, err := decodeAttempt(text); err == nil || !strings.Contains(err.Error(), "year") {
			t.Errorf("%s: %v, want a fault about the year", name, err)
		}
	}
}

// TestGuardsAreNotLost has events whose subject is a connection and whose data may have been meant as a request.
func TestGuardsAreNotLost(t *testing.T) {
	binary := map[string]any{"cloudEvents:specversion": "1.0", "cloudEvents:id": "1", "cloudEvents:subject": sampleID.String()}
	structured := func(data string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":"1","source":"s","type":"t","subject":%q,"data":%s}`, sampleID, data)
	}
	for name, got := range map[string]task{
		"binary, truncated":            taken(`{"dryRun":true`, binary),
		"binary, trailing text":        taken(`{"dryRun":true} x`, binary),
		"binary, a byte order mark":    taken("\xef\xbb\xbf{\"dryRun\":true}", binary),
		"binary, invalid UTF-8":        taken("{\"dryRun\":true,\"a\":\"\xff\"}", binary),
		"binary, an array":             taken(`[{"dryRun":true}]`, binary),
		"binary, another version":      taken(`{}`, map[string]any{"cloudEvents:specversion": "9.9", "cloudEvents:subject": sampleID.String()}),
		"structured, status alone":     taken(structured(`{"status":["Rejected"]}`), nil),
		"structured, an array":         taken(structured(`[{"dryRun":true}]`), nil),
		"structured, a string of JSON": taken(structured(`"{\"dryRun\":true}"`), nil),
	} {
		if got.fault == nil || got.fault.code != CodeInvalidRequest {
			t.Errorf("%s: fault %+v, want %s", name, got.fault, CodeInvalidRequest)
		}
	}
}

// TestIDsOfEnvelopes are kept short and printable, whatever they were.
func TestIDsOfEnvelopes(t *testing.T) {
	for _, id := range []string{strings.Repeat("x", 200_000), strings.Repeat("\U0001F600", 128), "a\x00b\nc", "\u0007"} {
		got := taken(fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"s","type":"t","subject":%q}`, strings.ReplaceAll(id, "\x00", ""), sampleID), nil)
		if n := len(utf16.Encode([]rune(got.attempt.RequestID))); n < 1 || n > 128 || strings.ContainsAny(got.attempt.RequestID, "\n\a") {
			t.Errorf("id of %d bytes became %q, with %d characters", len(id), got.attempt.RequestID, n)
		}
	}
}

func FuzzTake(f *testing.F) {
	for _, body := range []string{"", "{}", "[]", "[{}]", `{"connectionId":"` + sampleID.String() + `"}`, `{"specversion":"1.0","id":"1","source":"s","type":"t","data":{}}`,
		`{"eventType":"t","data":null,"subject":"/x"}`, `{"status":[1]}`, `"x"`, "\xff", `{"privateEndpointId":"` + someone + `"}`,
		`{"managedHsmId":"` + sampleID.Pool.String() + `","status":["Approved"]}`, `[{"specversion":"1.0"},{"eventType":"Microsoft.Resources.ResourceDeleteSuccess","subject":"` + someone + `"}]`} {
		f.Add(body, encoded(f, polling().attempt), someTrace)
		f.Add(body, encoded(f, sweeping()), someTrace)
	}
	f.Fuzz(func(t *testing.T, body, attempt, trace string) {
		got := taken(body, map[string]any{attemptProperty: attempt, "traceparent": trace})
		switch {
		case got.fault != nil || len(got.events) > 0:
		case got.request.Selects():
			if got.request.Endpoint == nil && got.request.Pool == nil {
				t.Errorf("%q selects by nothing", body)
			}
		case mustConnection(got.request.Connection.String()) != got.request.Connection:
			t.Errorf("%q asks for %+v, which is no connection", body, got.request.Connection)
		}
		for _, c := range got.children(noon, testPolicy()) {
			if _, err := decodeAttempt(encoded(t, c.attempt)); err != nil {
				t.Errorf("%q has a child that cannot be read: %v", body, err)
			}
			if err := Check(c.body); err != nil && len(got.events) == 0 {
				t.Errorf("%q has a child that is no request: %s: %v", body, c.body, err)
			}
		}
		if got.fault != nil && (got.fault.code == "" || got.fault.message == "") {
			t.Errorf("%q has a fault without words: %+v", body, got.fault)
		}
		if n := len(utf16.Encode([]rune(got.attempt.messageID()))); n > 128 {
			t.Errorf("message id %q has %d characters", got.attempt.messageID(), n)
		}
	})
}

// sweeping is the state of a selector that has found something.
func sweeping() Attempt {
	a := fresh().attempt
	a.Hop, a.Selection = 1, &Selection{Found: found{sampleID, sampleID}, After: "/subscriptions/a", Made: 7}
	return a
}

func FuzzAttempt(f *testing.F) {
	f.Add(encoded(f, polling().attempt))
	f.Add(encoded(f, sweeping()))
	f.Add(`{"version":1,"hop":1}`)
	f.Add(strings.Replace(encoded(f, polling().attempt), `"version":1`, `"version":7,"later":{}`, 1))
	f.Fuzz(func(t *testing.T, text string) {
		a, err := decodeAttempt(text)
		if err != nil {
			return
		}
		once := encoded(t, a)
		again, err := decodeAttempt(once)
		if err != nil || encoded(t, again) != once {
			t.Errorf("%s came back as %+v, %v", once, again, err)
		}
	})
}
