package server_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	goamqp "github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/internal/emulator/servicebus/server"
)

// The tests whose names begin with TestLive state what the Azure SDK for Go's own tests (v1.11.0) find in the service.

// A lock is held by whoever knows its token, not by the link, the connection or the client that it came by.
func TestLiveSettlementFromElsewhere(t *testing.T) {
	type receiver = azservicebus.Receiver
	type message = azservicebus.ReceivedMessage
	settlements := map[string]struct {
		settle func(context.Context, *receiver, *message) error
		want   broker.Counts
	}{
		"complete":    {func(ctx context.Context, r *receiver, m *message) error { return r.CompleteMessage(ctx, m, nil) }, broker.Counts{}},
		"abandon":     {func(ctx context.Context, r *receiver, m *message) error { return r.AbandonMessage(ctx, m, nil) }, broker.Counts{Active: 1}},
		"defer":       {func(ctx context.Context, r *receiver, m *message) error { return r.DeferMessage(ctx, m, nil) }, broker.Counts{Deferred: 1}},
		"dead-letter": {func(ctx context.Context, r *receiver, m *message) error { return r.DeadLetterMessage(ctx, m, nil) }, broker.Counts{DeadLetter: 1}},
	}
	// What becomes of the first receiver, and what is left of its message.
	after := map[string]func(*testing.T, *azservicebus.Client, *receiver, *message) *message{
		"an open receiver":    func(_ *testing.T, _ *azservicebus.Client, _ *receiver, m *message) *message { return m },
		"a closed receiver":   func(t *testing.T, _ *azservicebus.Client, r *receiver, m *message) *message { closing(t, r); return m },
		"a closed connection": func(t *testing.T, c *azservicebus.Client, _ *receiver, m *message) *message { closing(t, c); return m },
		"a closed receiver, by token": func(t *testing.T, _ *azservicebus.Client, r *receiver, m *message) *message {
			closing(t, r)
			return &message{LockToken: m.LockToken}
		},
	}
	for name, s := range settlements {
		for place, leave := range after {
			t.Run(name+" after "+place, func(t *testing.T) {
				inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
					send(t, newSender(t, client, "queue"), text("x"))
					old := e.newClient(t)
					first := newReceiver(t, old, "queue", nil)
					received := receive(t, first)
					m := leave(t, old, first, received)
					second := newReceiver(t, client, "queue", nil)
					wait(time.Second)
					if err := second.RenewMessageLock(t.Context(), m, nil); err != nil || m.LockedUntil.Before(time.Now().Add(lockDuration-time.Second)) {
						t.Fatalf("renewed until %v, error %v", m.LockedUntil, err)
					}
					if err := s.settle(t.Context(), second, m); err != nil {
						t.Fatal(err)
					}
					wantCounts(t, e, "queue", s.want)
					if s.want.Active > 0 {
						again := receive(t, second)
						if again.DeliveryCount != 2 {
							t.Errorf("delivery count %d after abandoning once, want 2", again.DeliveryCount)
						}
						complete(t, second, again)
					}
					if s.want.Deferred > 0 {
						deferred, err := second.ReceiveDeferredMessages(t.Context(), []int64{*received.SequenceNumber}, nil)
						if err != nil || len(deferred) != 1 || string(deferred[0].Body) != "x" {
							t.Fatalf("ReceiveDeferredMessages: %d messages, %v", len(deferred), err)
						}
						complete(t, second, deferred[0])
					}
				})
			})
		}
	}
}

func closing(t *testing.T, c interface{ Close(context.Context) error }) {
	t.Helper()
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A dead-letter queue keeps the count of failed deliveries and adds none.
func TestLiveDeliveryCountOfDeadLetter(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *emulator, client *azservicebus.Client) {
		send(t, newSender(t, client, "queue"), text("x"))
		r, dlq := newReceiver(t, client, "queue", nil), newReceiver(t, client, "queue", deadLetters())
		change := &azservicebus.AbandonMessageOptions{PropertiesToModify: map[string]any{"by": "abandon"}}
		if err := r.AbandonMessage(t.Context(), receive(t, r), change); err != nil {
			t.Fatal(err)
		}
		m := receive(t, r)
		if m.DeliveryCount != 2 || m.ApplicationProperties["by"] != "abandon" {
			t.Errorf("after abandon: delivery count %d, properties %v", m.DeliveryCount, m.ApplicationProperties)
		}
		if err := r.DeadLetterMessage(t.Context(), m, &azservicebus.DeadLetterOptions{Reason: new("r"), ErrorDescription: new("d")}); err != nil {
			t.Fatal(err)
		}
		for _, by := range []string{"abandon", "first", "second"} {
			dead := receive(t, dlq)
			if dead.DeliveryCount != 2 || *dead.DeadLetterReason != "r" || *dead.DeadLetterErrorDescription != "d" {
				t.Errorf("dead letter has delivery count %d, reason %q, description %q", dead.DeliveryCount, *dead.DeadLetterReason, *dead.DeadLetterErrorDescription)
			}
			if dead.ApplicationProperties["by"] != by {
				t.Errorf("property by is %v, want %q", dead.ApplicationProperties["by"], by)
			}
			if !dead.ExpiresAt.Equal(dead.EnqueuedTime.Add(*dead.TimeToLive)) {
				t.Errorf("expires at %v, enqueued at %v with a life of %v", dead.ExpiresAt, dead.EnqueuedTime, *dead.TimeToLive)
			}
			next := map[string]string{"abandon": "first", "first": "second"}[by]
			if next == "" {
				complete(t, dlq, dead)
				return
			}
			if err := dlq.AbandonMessage(t.Context(), dead, &azservicebus.AbandonMessageOptions{PropertiesToModify: map[string]any{"by": next}}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestLiveDeferredMessages(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		send(t, newSender(t, client, "queue"), text("x"))
		r := newReceiver(t, client, "queue", nil)
		m := receive(t, r)
		if err := r.DeferMessage(t.Context(), m, nil); err != nil {
			t.Fatal(err)
		}
		numbers := []int64{*m.SequenceNumber}
		take := func() *azservicebus.ReceivedMessage {
			t.Helper()
			deferred, err := r.ReceiveDeferredMessages(t.Context(), numbers, nil)
			if err != nil || len(deferred) != 1 || deferred[0].State != azservicebus.MessageStateDeferred {
				t.Fatalf("ReceiveDeferredMessages: %d messages, %v", len(deferred), err)
			}
			return deferred[0]
		}
		change := map[string]any{"by": "abandon"}
		first := take()
		if err := r.AbandonMessage(t.Context(), first, &azservicebus.AbandonMessageOptions{PropertiesToModify: change}); err != nil {
			t.Fatal(err)
		}
		peeked, err := r.PeekMessages(t.Context(), 1, nil)
		if err != nil || len(peeked) != 1 || peeked[0].DeliveryCount != first.DeliveryCount+1 || peeked[0].State != azservicebus.MessageStateDeferred {
			t.Fatalf("PeekMessages after abandon: %+v, %v; want delivery count %d, still deferred", peeked, err, first.DeliveryCount+1)
		}
		change = map[string]any{"by": "defer"}
		if err := r.DeferMessage(t.Context(), take(), &azservicebus.DeferMessageOptions{PropertiesToModify: change}); err != nil {
			t.Fatal(err)
		}
		last := take()
		if last.ApplicationProperties["by"] != "defer" {
			t.Errorf("property by is %v after the second defer", last.ApplicationProperties["by"])
		}
		complete(t, r, last)
		wantCounts(t, e, "queue", broker.Counts{})
	})
}

// Peeking goes on where it stopped, or where it is told to.
func TestLivePeekGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *emulator, client *azservicebus.Client) {
		s, r := newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)
		batch, err := s.NewMessageBatch(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 3 {
			if err := batch.AddMessage(text(fmt.Sprint(n)), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.SendMessageBatch(t.Context(), batch, nil); err != nil {
			t.Fatal(err)
		}
		if err := r.AbandonMessage(t.Context(), receive(t, r), nil); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			from *int64
			want string
		}{{nil, "1:0 2:1 "}, {nil, "3:2 "}, {new(int64(3)), "3:2 "}, {nil, ""}, {new(int64(2)), "2:1 3:2 "}} {
			got, err := r.PeekMessages(t.Context(), 2, &azservicebus.PeekMessagesOptions{FromSequenceNumber: step.from})
			if err != nil || describe(got) != step.want {
				t.Errorf("peeked %q, %v; want %q", describe(got), err, step.want)
			}
		}
	})
}

func TestLivePropertyTypes(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *emulator, client *azservicebus.Client) {
		sent := map[string]any{
			"uint8": uint8(200), "int8": int8(-101), "int16": int16(-400), "uint16": uint16(60000), "uint32": uint32(1) << 31,
			"int32": int32(-400), "small int64": int64(-1), "uint64": uint64(400), "float32": float32(0.25), "float64": 400.1,
			"rune": '❤', "false": false, "uuid": goamqp.UUID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
			"time": time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC),
		}
		m := text("x")
		m.ApplicationProperties = maps.Clone(sent)
		m.ApplicationProperties["int"] = 400
		send(t, newSender(t, client, "queue"), m)
		sent["int"] = int64(400)
		r := newReceiver(t, client, "queue", nil)
		got := receive(t, r)
		if diff := cmp.Diff(sent, got.ApplicationProperties); diff != "" {
			t.Errorf("application properties (-sent +received):\n%s", diff)
		}
		complete(t, r, got)
	})
}

func TestLiveBodies(t *testing.T) {
	type body = azservicebus.AMQPAnnotatedMessageBody
	bodies := []body{
		{Value: 100.5}, {Value: int64(101)}, {Value: "text"}, {Value: []byte("bytes")}, {Value: []string{"a", "b"}}, {Value: nil},
		{Sequence: [][]any{{int64(1), "one"}, {int64(2), "two"}}}, {Sequence: [][]any{}},
		{Data: [][]byte{[]byte("one")}}, {Data: [][]byte{[]byte("one"), []byte("two")}},
	}
	inBubble(t, func(t *testing.T, _ *emulator, client *azservicebus.Client) {
		s, r := newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)
		for i, sent := range bodies {
			m := &azservicebus.AMQPAnnotatedMessage{Body: sent, ApplicationProperties: map[string]any{"i": int64(i)}}
			if err := s.SendAMQPAnnotatedMessage(t.Context(), m, nil); err != nil {
				t.Fatalf("body %d: %v", i, err)
			}
			got := receive(t, r)
			if len(sent.Sequence) == 0 {
				sent.Sequence = nil // an empty one is not written
			}
			if diff := cmp.Diff(sent, got.RawAMQPMessage.Body); diff != "" || got.ApplicationProperties["i"] != int64(i) {
				t.Errorf("body %d changed (-sent +received):\n%s", i, diff)
			}
			complete(t, r, got)
		}
	})
}

// Service Bus acts on nothing of this and drops none of it.
func TestLiveUnusedSectionsSurvive(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *emulator, client *azservicebus.Client) {
		sent := &azservicebus.AMQPAnnotatedMessage{
			Header:              &azservicebus.AMQPAnnotatedMessageHeader{Priority: 100, Durable: true},
			DeliveryAnnotations: map[any]any{"x-opt-mine": "delivery annotation"},
			MessageAnnotations:  map[any]any{"x-opt-mine": "annotation"},
			Footer:              map[any]any{"x-opt-mine": "footer"},
			Body:                azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{[]byte("x")}},
		}
		if err := newSender(t, client, "queue").SendAMQPAnnotatedMessage(t.Context(), sent, nil); err != nil {
			t.Fatal(err)
		}
		r := newReceiver(t, client, "queue", nil)
		m := receive(t, r)
		got := m.RawAMQPMessage
		if diff := cmp.Diff(sent.Header, got.Header); diff != "" {
			t.Errorf("header (-sent +received):\n%s", diff)
		}
		if diff := cmp.Diff(sent.Footer, got.Footer); diff != "" {
			t.Errorf("footer (-sent +received):\n%s", diff)
		}
		sent.MessageAnnotations["x-opt-enqueued-time"] = *m.EnqueuedTime
		sent.MessageAnnotations["x-opt-locked-until"] = *m.LockedUntil
		sent.MessageAnnotations["x-opt-sequence-number"] = int64(1)
		if diff := cmp.Diff(sent.MessageAnnotations, got.MessageAnnotations); diff != "" {
			t.Errorf("annotations (-sent and the broker's +received):\n%s", diff)
		}
		sent.DeliveryAnnotations["x-opt-lock-token"] = goamqp.UUID(m.LockToken)
		if diff := cmp.Diff(sent.DeliveryAnnotations, got.DeliveryAnnotations); diff != "" {
			t.Errorf("delivery annotations (-sent and lock token +received):\n%s", diff)
		}
		if m.MessageID == "" {
			t.Error("no message id, want one of the service's")
		}
		complete(t, r, m)
	})
}

func TestLiveNullAnnotations(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *emulator, client *azservicebus.Client) {
		err := newSender(t, client, "queue").SendAMQPAnnotatedMessage(t.Context(), &azservicebus.AMQPAnnotatedMessage{
			MessageAnnotations: map[any]any{
				"x-opt-partition-key": nil, "x-opt-deadletter-source": nil, "x-opt-locked-until": nil,
				"x-opt-sequence-number": nil, "x-opt-enqueued-time": nil, "x-opt-lock-token": nil,
			},
			Body: azservicebus.AMQPAnnotatedMessageBody{Value: "x"},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := newReceiver(t, client, "queue", nil)
		m := receive(t, r)
		if m.PartitionKey != nil || m.DeadLetterSource != nil {
			t.Errorf("partition key %v, dead-letter source %v, want none", m.PartitionKey, m.DeadLetterSource)
		}
		if m.LockToken == [16]byte{} || m.LockedUntil == nil || m.SequenceNumber == nil || m.EnqueuedTime == nil {
			t.Errorf("the broker's annotations are missing: %+v", m)
		}
		complete(t, r, m)
		for _, name := range []string{"x-opt-scheduled-enqueue-time", "x-opt-message-state", "x-opt-enqueue-sequence-number"} {
			err := newSender(t, client, "queue").SendAMQPAnnotatedMessage(t.Context(), &azservicebus.AMQPAnnotatedMessage{
				MessageAnnotations: map[any]any{name: nil},
			}, nil)
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s is null: error %v, want one that names it", name, err)
			}
		}
	})
}

// What was received can be sent again as it is.
func TestLiveResend(t *testing.T) {
	for _, mode := range []azservicebus.ReceiveMode{azservicebus.ReceiveModePeekLock, azservicebus.ReceiveModeReceiveAndDelete} {
		inBubble(t, func(t *testing.T, _ *emulator, client *azservicebus.Client) {
			s, r := newSender(t, client, "queue"), newReceiver(t, client, "queue", &azservicebus.ReceiverOptions{ReceiveMode: mode})
			m := &azservicebus.Message{
				Body: []byte("x"), ApplicationProperties: map[string]any{"k": "v"}, ContentType: new("text/plain"),
				CorrelationID: new("correlation"), MessageID: new("id"), PartitionKey: new("session"), SessionID: new("session"),
				ReplyTo: new("reply"), ReplyToSessionID: new("reply session"), Subject: new("subject"), To: new("to"),
				TimeToLive: new(time.Minute), ScheduledEnqueueTime: new(time.Now().UTC().Truncate(time.Millisecond)),
			}
			for hop := range 3 {
				send(t, s, m)
				received := receive(t, r)
				again := received.Message()
				if diff := cmp.Diff(m, again); diff != "" {
					t.Errorf("hop %d in mode %d (-sent +received):\n%s", hop, mode, diff)
				}
				if mode == azservicebus.ReceiveModePeekLock {
					complete(t, r, received)
				}
				wait(time.Second)
				m = again
			}
		})
	}
}

func TestLiveScheduledMessages(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		s, r := newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)
		at := time.Now().Add(time.Hour)
		annotated := func(body string) *azservicebus.AMQPAnnotatedMessage {
			return &azservicebus.AMQPAnnotatedMessage{Body: azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{[]byte(body)}}}
		}
		numbers, err := s.ScheduleAMQPAnnotatedMessages(t.Context(), []*azservicebus.AMQPAnnotatedMessage{annotated("a"), annotated("b")}, at, nil)
		if err != nil || !slices.Equal(numbers, []int64{1, 2}) {
			t.Fatalf("ScheduleAMQPAnnotatedMessages: %v, %v", numbers, err)
		}
		byAnnotation := annotated("c")
		byAnnotation.MessageAnnotations = map[any]any{"x-opt-scheduled-enqueue-time": &at}
		if err := s.SendAMQPAnnotatedMessage(t.Context(), byAnnotation, nil); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"1:a ", "2:b ", "3:c "} {
			got, err := r.PeekMessages(t.Context(), 1, nil)
			if err != nil || describe(got) != want || got[0].State != azservicebus.MessageStateScheduled {
				t.Errorf("peeked %q, %v; want %q, scheduled", describe(got), err, want)
			}
		}
		if err := s.CancelScheduledMessages(t.Context(), numbers[:1], nil); err != nil {
			t.Fatal(err)
		}
		// A peek jumps over the gap.
		got, err := r.PeekMessages(t.Context(), 1, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &numbers[0]})
		if err != nil || describe(got) != "2:b " {
			t.Errorf("peeked %q, %v from the cancelled number, want %q", describe(got), err, "2:b ")
		}
		wantCounts(t, e, "queue", broker.Counts{Scheduled: 2})
	})
}

func TestLiveRefusedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const reason = "ExpiredToken: The token is expired. Expiration time: yesterday"
		e := newEmulator(t, server.Options{Authorize: func(string, string, string) error { return errors.New(reason) }})
		client := e.newClient(t)
		start := time.Now()
		sendErr := newSender(t, client, "queue").SendMessage(t.Context(), text("x"), nil)
		_, receiveErr := newReceiver(t, client, "queue", nil).ReceiveMessages(t.Context(), 1, nil)
		for _, err := range []error{sendErr, receiveErr} {
			wantCode(t, err, azservicebus.CodeUnauthorizedAccess)
			if want := "status code 401 and description: " + reason; err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q in it", err, want)
			}
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("the refusals took %v: the client tried again", took)
		}
	})
}
