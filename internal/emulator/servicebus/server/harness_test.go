package server_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/internal/emulator/servicebus/server"
)

// A signature that never expires keeps the SDK from refreshing tokens.
const connectionString = "Endpoint=sb://emu;SharedAccessSignature=SharedAccessSignature sr=x&sig=y&se=4102444800&skn=k;UseDevelopmentEmulator=true"

const lockDuration = time.Minute

// An emulator is a server with clients over in-memory connections.
type emulator struct {
	*server.Server
	broker *broker.Broker
	conns  sync.WaitGroup
	faulty bool // the test breaks the rules on purpose
}

// inBubble runs a test in virtual time with an emulator and one client.
func inBubble(t *testing.T, f func(t *testing.T, e *emulator, client *azservicebus.Client)) {
	synctest.Test(t, func(t *testing.T) {
		e := newEmulator(t, server.Options{})
		f(t, e, e.newClient(t))
		if n := e.broker.Violations(); n != (broker.Violations{}) && !e.faulty {
			t.Errorf("the client broke the rules: %+v", n)
		}
	})
}

func newEmulator(t *testing.T, o server.Options) *emulator {
	b, err := broker.New(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	o.Broker = b
	e := &emulator{Server: server.New(o), broker: b}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		e.conns.Wait()
		b.Close()
	})
	return e
}

func testConfig() broker.Config {
	return broker.Config{
		Queues: []broker.QueueConfig{
			{Name: "queue", LockDuration: lockDuration, MaxDeliveryCount: 3},
			{Name: "small", LockDuration: lockDuration, MaxMessageSize: 1024},
			{Name: "full", LockDuration: lockDuration, MaxSizeBytes: 600},
			{Name: "unique", LockDuration: lockDuration, DuplicateDetectionWindow: 10 * time.Minute},
		},
		Topics: []broker.TopicConfig{{Name: "topic", Subscriptions: []broker.SubscriptionConfig{
			{Name: "all", LockDuration: lockDuration},
			{Name: "some", LockDuration: lockDuration, Rules: []broker.Rule{
				{Name: "type", Filter: &broker.CorrelationFilter{Properties: map[string]any{"type": "good"}}},
			}},
		}}},
	}
}

// dial connects to the emulator through a pipe.
func (e *emulator) dial() net.Conn {
	client, srv := net.Pipe()
	e.conns.Go(func() { e.ServeConn(srv) })
	return client
}

func (e *emulator) newClient(t *testing.T) *azservicebus.Client {
	client, err := azservicebus.NewClientFromConnectionString(connectionString, &azservicebus.ClientOptions{
		NewWebSocketConn: func(context.Context, azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
			return e.dial(), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(context.Background()) })
	return client
}

func newSender(t *testing.T, client *azservicebus.Client, entity string) *azservicebus.Sender {
	t.Helper()
	s, err := client.NewSender(entity, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newReceiver(t *testing.T, client *azservicebus.Client, queue string, o *azservicebus.ReceiverOptions) *azservicebus.Receiver {
	t.Helper()
	r, err := client.NewReceiverForQueue(queue, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func deadLetters() *azservicebus.ReceiverOptions {
	return &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter}
}

func send(t *testing.T, s *azservicebus.Sender, m *azservicebus.Message) {
	t.Helper()
	if err := s.SendMessage(t.Context(), m, nil); err != nil {
		t.Fatalf("SendMessage: %v", err)
	}
}

func text(body string) *azservicebus.Message { return &azservicebus.Message{Body: []byte(body)} }

// receive gets one message within an hour.
func receive(t *testing.T, r *azservicebus.Receiver) *azservicebus.ReceivedMessage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	messages, err := r.ReceiveMessages(ctx, 1, nil)
	if err != nil || len(messages) != 1 {
		t.Fatalf("ReceiveMessages: %d messages, error %v; want 1 message", len(messages), err)
	}
	return messages[0]
}

// receiveNothing checks that no message comes within a virtual second.
func receiveNothing(t *testing.T, r *azservicebus.Receiver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	messages, err := r.ReceiveMessages(ctx, 1, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("ReceiveMessages: %d messages, error %v; want none", len(messages), err)
	}
}

func complete(t *testing.T, r *azservicebus.Receiver, m *azservicebus.ReceivedMessage) {
	t.Helper()
	if err := r.CompleteMessage(t.Context(), m, nil); err != nil {
		t.Fatalf("CompleteMessage: %v", err)
	}
}

func wantCode(t *testing.T, err error, code azservicebus.Code) {
	t.Helper()
	if e, ok := errors.AsType[*azservicebus.Error](err); !ok || e.Code != code {
		t.Errorf("error is %v, want code %s", err, code)
	}
}

func wantCounts(t *testing.T, e *emulator, path string, want broker.Counts) {
	t.Helper()
	entity, err := e.broker.Entity(path)
	if err != nil {
		t.Fatal(err)
	}
	got := entity.Counts()
	got.Bytes = 0
	if got != want {
		t.Errorf("%s holds %+v, want %+v", path, got, want)
	}
}

func describe(messages []*azservicebus.ReceivedMessage) string {
	text := ""
	for _, m := range messages {
		text += fmt.Sprintf("%d:%s ", *m.SequenceNumber, m.Body)
	}
	return text
}
