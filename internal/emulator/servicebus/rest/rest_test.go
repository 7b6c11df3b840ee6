package rest_test

import (
	"crypto/tls"
	"encoding/xml"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hsmsweep/internal/emulator"
	"hsmsweep/internal/emulator/servicebus/broker"
)

// A namespace is Service Bus on one port, a client that posts to it over https, and the SDK beside it.
type namespace struct {
	broker *broker.Broker
	https  *http.Client
	url    string
	sdk    *azservicebus.Client
}

func start(t *testing.T, c broker.Config) namespace {
	t.Helper()
	azure, err := emulator.New(emulator.Options{Entities: c})
	if err != nil {
		t.Fatal(err)
	}
	listeners, err := emulator.Loopback()
	if err != nil {
		t.Fatal(err)
	}
	azure.Serve(listeners[0], listeners[1], listeners[2])
	t.Cleanup(func() { _ = azure.Close() })
	address := listeners[0].Addr().String()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: azure.Authority.Pool()}}
	t.Cleanup(transport.CloseIdleConnections)
	sdk, err := azservicebus.NewClientFromConnectionString(emulator.ConnectionString(address), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sdk.Close(t.Context()) })
	return namespace{azure.Broker, &http.Client{Transport: transport, Timeout: 10 * time.Second}, "https://" + address, sdk}
}

// post sends a body with headers, which are lines, and returns the status and the detail of an error.
func (n namespace) post(t *testing.T, path, headers, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(headers) {
		name, value, _ := strings.Cut(line, ":")
		request.Header.Set(name, strings.TrimSpace(value))
	}
	response, err := n.https.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var failure struct{ Code, Detail string }
	if len(text) > 0 {
		if err := xml.Unmarshal(text, &failure); err != nil {
			t.Fatalf("%d %q: %v", response.StatusCode, text, err)
		}
	}
	return response.StatusCode, failure.Detail
}

// received is what the SDK gets of the one message in a queue.
func (n namespace) received(t *testing.T, queue string) *azservicebus.ReceivedMessage {
	t.Helper()
	receiver, err := n.sdk.NewReceiverForQueue(queue, nil)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := receiver.ReceiveMessages(t.Context(), 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	return messages[0]
}

const token = "Authorization: SharedAccessSignature sr=any\n"

// TestSend posts everything that a message can have, and receives it with the SDK.
func TestSend(t *testing.T) {
	n := start(t, broker.Config{Queues: []broker.QueueConfig{{Name: "team/requests"}}})
	const body = "{\"text\": \"\u00e9 \U0001f525\"}\n"
	status, detail := n.post(t, "/team/requests/messages?timeout=60&api-version=2015-01", token+
		`Content-Type: application/json; charset=utf-8
User-Agent: a ticket system
Accept: */*
Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
Priority: "high \"A\" \u00e9"
Attempt: 3
Ratio: 0.5
Urgent: true
X-Empty:
BrokerProperties: {"MessageId":"CHG1","CorrelationId":"c","Label":"l","To":"t","ReplyTo":"r","ReplyToSessionId":"rs","SessionId":"s",`+
		`"PartitionKey":"s","TimeToLive":90.5,"SequenceNumber":4,"Unknown":{}}
`, body)
	if status != http.StatusCreated {
		t.Fatalf("%d %s, want 201", status, detail)
	}
	got := n.received(t, "team/requests")
	want := &azservicebus.ReceivedMessage{
		Body: []byte(body), DeliveryCount: 1, MessageID: "CHG1", CorrelationID: new("c"), Subject: new("l"), To: new("t"), ReplyTo: new("r"), ReplyToSessionID: new("rs"),
		SessionID: new("s"), PartitionKey: new("s"), TimeToLive: new(90500 * time.Millisecond), ContentType: new("application/json; charset=utf-8"),
		ApplicationProperties: map[string]any{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "priority": `high "A" é`,
			"attempt": int64(3), "ratio": 0.5, "urgent": true, "x-empty": ""},
	}
	ofBroker := cmpopts.IgnoreFields(azservicebus.ReceivedMessage{}, "SequenceNumber", "EnqueuedTime", "LockedUntil", "LockToken", "ExpiresAt", "RawAMQPMessage")
	if diff := cmp.Diff(want, got, ofBroker, cmpopts.IgnoreUnexported(azservicebus.ReceivedMessage{})); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

// TestBare posts a body and nothing else: the broker gives the message an id, and the rest is absent.
func TestBare(t *testing.T) {
	n := start(t, broker.DefaultConfig())
	if status, detail := n.post(t, "/connection-deletes/messages", token, ""); status != http.StatusCreated {
		t.Fatalf("%d %s, want 201", status, detail)
	}
	got := n.received(t, "connection-deletes")
	if got.MessageID == "" || len(got.Body) > 0 || got.CorrelationID != nil || len(got.ApplicationProperties) != 0 {
		t.Errorf("message %+v, want an id and nothing else", got)
	}
}

// TestDuplicate posts one message id twice: both are taken, one is there.
func TestDuplicate(t *testing.T) {
	n := start(t, broker.DefaultConfig())
	for range 2 {
		if status, detail := n.post(t, "/connection-deletes/messages", token+`BrokerProperties: {"MessageId":"CHG1"}`, "{}"); status != http.StatusCreated {
			t.Fatalf("%d %s, want 201", status, detail)
		}
	}
	n.wantCounts(t, "connection-deletes", broker.Counts{Active: 1})
}

// TestSchedule posts a message for the year 2999, and one for 1994, which is there at once.
func TestSchedule(t *testing.T) {
	n := start(t, broker.DefaultConfig())
	for _, date := range []string{"Tue, 01 Jan 2999 00:00:00 GMT", " Sun, 06 Nov 1994 08:49:37 GMT"} {
		headers := token + `BrokerProperties: {"ScheduledEnqueueTimeUtc":"` + date + `"}`
		if status, detail := n.post(t, "/connection-deletes/messages", headers, "{}"); status != http.StatusCreated {
			t.Fatalf("%s: %d %s, want 201", date, status, detail)
		}
	}
	n.wantCounts(t, "connection-deletes", broker.Counts{Active: 1, Scheduled: 1})
}

// TestTopic posts to a topic, whose subscription gets a copy.
func TestTopic(t *testing.T) {
	n := start(t, broker.DefaultConfig())
	if status, detail := n.post(t, "/connection-events/messages", token, "{}"); status != http.StatusCreated {
		t.Fatalf("%d %s, want 201", status, detail)
	}
	n.wantCounts(t, "connection-events/Subscriptions/all", broker.Counts{Active: 1})
}

func (n namespace) wantCounts(t *testing.T, path string, want broker.Counts) {
	t.Helper()
	e, err := n.broker.Entity(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, e.Counts(), cmpopts.IgnoreFields(broker.Counts{}, "Bytes")); diff != "" {
		t.Errorf("%s holds (-want +got):\n%s", path, diff)
	}
}

func TestRefusals(t *testing.T) {
	n := start(t, broker.Config{
		Queues: []broker.QueueConfig{
			{Name: "q", MaxMessageSize: 4096}, {Name: "full", MaxSizeBytes: 1}, {Name: "off", Status: "SendDisabled"},
		},
		Topics: []broker.TopicConfig{{Name: "t", Subscriptions: []broker.SubscriptionConfig{{Name: "s"}}}},
	})
	for name, test := range map[string]struct {
		path, headers, body string
		status              int
		words               string // in the error's detail
	}{
		"no token":             {path: "/q/messages", status: 401, words: "Authorization header"},
		"no entity":            {path: "/none/messages", headers: token, status: 410, words: `"/none"`},
		"no name":              {path: "/messages", headers: token, status: 410},
		"subscription":         {path: "/t/subscriptions/s/messages", headers: token, status: 400, words: "neither a queue nor a topic"},
		"receiving":            {path: "/q/messages/head", headers: token, status: 405},
		"body too large":       {path: "/q/messages", headers: token, body: strings.Repeat("x", 4097), status: 403, words: "4096 bytes"},
		"properties too large": {path: "/q/messages", headers: token + "Note: " + strings.Repeat("x", 4090), body: "{}", status: 403, words: "4096 bytes"},
		"full":                 {path: "/full/messages", headers: token, body: "{}", status: 403, words: "maximum size"},
		"disabled":             {path: "/off/messages", headers: token, body: "{}", status: 403, words: "disabled"},
		"batch":                {path: "/q/messages", headers: token + "Content-Type: application/vnd.microsoft.servicebus.json; charset=utf-8", body: "[]", status: 400, words: "batch"},
		"no JSON":              {path: "/q/messages", headers: token + "BrokerProperties: {'Label':'x'}", status: 400, words: "BrokerProperties"},
		"a number for an id":   {path: "/q/messages", headers: token + `BrokerProperties: {"MessageId":7}`, status: 400, words: "MessageId"},
		"a long id":            {path: "/q/messages", headers: token + `BrokerProperties: {"MessageId":"` + strings.Repeat("x", 129) + `"}`, status: 400, words: "at most 128"},
		"two keys":             {path: "/q/messages", headers: token + `BrokerProperties: {"SessionId":"a","PartitionKey":"b"}`, status: 400, words: "PartitionKey"},
		"no time to live":      {path: "/q/messages", headers: token + `BrokerProperties: {"TimeToLive":0}`, status: 400, words: "TimeToLive"},
		"a time in ISO 8601":   {path: "/q/messages", headers: token + `BrokerProperties: {"ScheduledEnqueueTimeUtc":"2999-01-01T00:00:00Z"}`, status: 400, words: "ScheduledEnqueueTimeUtc"},
		"an open quote":        {path: "/q/messages", headers: token + `Priority: "high`, status: 400, words: "Priority"},
		"Latin 1":              {path: "/q/messages", headers: token + "Priority: caf\xe9", status: 400, words: "UTF-8"},
		"an exotic type":       {path: "/q/messages", headers: token + "Content-Type: caf\xe9", status: 400, words: "ASCII"},
	} {
		t.Run(name, func(t *testing.T) {
			status, detail := n.post(t, test.path, test.headers, test.body)
			if status != test.status || !strings.Contains(detail, test.words) {
				t.Errorf("%d %q, want %d and %q", status, detail, test.status, test.words)
			}
			n.wantCounts(t, "q", broker.Counts{})
		})
	}
}
