package server_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	goamqp "github.com/Azure/go-amqp"

	"hsmsweep/internal/emulator/servicebus/amqp"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/internal/emulator/servicebus/server"
)

// call makes one request to a node, whatever a client of its own would check.
func call(t *testing.T, session *goamqp.Session, node, operation string, body any) *goamqp.Message {
	t.Helper()
	sender, err := session.NewSender(t.Context(), node, nil)
	if err != nil {
		t.Fatal(err)
	}
	receiver, err := session.NewReceiver(t.Context(), node, &goamqp.ReceiverOptions{TargetAddress: "here", RequestedSenderSettleMode: goamqp.SenderSettleModeSettled.Ptr()})
	if err != nil {
		t.Fatal(err)
	}
	request := &goamqp.Message{
		Properties:            &goamqp.MessageProperties{MessageID: "1", ReplyTo: new("here")},
		ApplicationProperties: map[string]any{"operation": operation},
		Value:                 body,
	}
	if err := sender.Send(t.Context(), request, nil); err != nil {
		t.Fatal(err)
	}
	reply, err := receiver.Receive(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range []interface{ Close(context.Context) error }{sender, receiver} {
		if err := link.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	return reply
}

func TestManagementStatus(t *testing.T) {
	type fields = map[string]any
	lock := []goamqp.UUID{{1}}
	large := func(size int) any {
		return []any{fields{"message": encoded(t, make([]byte, size))}}
	}
	tests := []struct {
		node, operation string
		body            any
		status          int32
		condition       string
	}{
		{"queue", "renew-lock", fields{"lock-tokens": lock}, 410, "com.microsoft:message-lock-lost"},
		{"queue", "renew-lock", fields{"lock-tokens": []goamqp.UUID{}}, 400, "com.microsoft:argument-error"},
		{"queue", "renew-lock", fields{"lock-tokens": []int64{1}}, 400, "com.microsoft:argument-error"},
		{"queue", "renew-lock", "no map", 400, "com.microsoft:argument-error"},
		{"queue", "peek-message", fields{"from-sequence-number": int64(1), "message-count": int32(1)}, 204, ""},
		{"queue", "peek-message", fields{"from-sequence-number": int64(1), "message-count": int32(0)}, 400, "com.microsoft:argument-error"},
		{"queue", "peek-message", fields{"message-count": int32(1)}, 400, "com.microsoft:argument-error"},
		{"queue", "schedule-message", fields{"messages": []any{}}, 400, "com.microsoft:argument-error"},
		{"queue", "schedule-message", fields{"messages": []any{fields{"message": "text"}}}, 400, "com.microsoft:argument-error"},
		{"queue", "schedule-message", fields{"messages": []any{fields{"message": []byte("?")}}}, 400, "amqp:decode-error"},
		{"small", "schedule-message", fields{"messages": large(2000)}, 400, "amqp:link:message-size-exceeded"},
		{"full", "schedule-message", fields{"messages": large(2000)}, 403, "amqp:resource-limit-exceeded"},
		{"queue/$DeadLetterQueue", "schedule-message", fields{"messages": large(20)}, 403, "amqp:not-allowed"},
		{"queue", "cancel-scheduled-message", fields{"sequence-numbers": []int64{7}}, 404, "com.microsoft:message-not-found"},
		{"queue", "cancel-scheduled-message", fields{}, 400, "com.microsoft:argument-error"},
		{"queue", "receive-by-sequence-number", fields{"sequence-numbers": []int64{7}, "receiver-settle-mode": uint32(1)}, 404, "com.microsoft:message-not-found"},
		{"queue", "receive-by-sequence-number", fields{"sequence-numbers": "7"}, 400, "com.microsoft:argument-error"},
		{"queue", "update-disposition", fields{"lock-tokens": lock, "disposition-status": "completed"}, 410, "com.microsoft:message-lock-lost"},
		{"queue", "update-disposition", fields{"lock-tokens": lock, "disposition-status": "lost"}, 400, "com.microsoft:argument-error"},
		{"queue", "update-disposition", fields{"disposition-status": "completed"}, 400, "com.microsoft:argument-error"},
		{"queue", "renew-session-lock", fields{"session-id": "s"}, 410, "com.microsoft:session-lock-lost"},
		{"queue", "get-message-sessions", fields{"skip": int32(0)}, 204, ""},
		{"queue", "add-rule", fields{"rule-name": "r"}, 501, "amqp:not-implemented"},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.operation, test.status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEmulator(t, server.Options{})
				operation := "com.microsoft:" + test.operation
				reply := call(t, newSession(t, e), test.node+"/$management", operation, test.body)
				p := reply.ApplicationProperties
				if p["status-code"] != test.status || p["statusCode"] != test.status {
					t.Errorf("status %v and %v, want %d: %v", p["status-code"], p["statusCode"], test.status, p["status-description"])
				}
				if got, _ := p["error-condition"].(string); got != test.condition {
					t.Errorf("condition %q, want %q", got, test.condition)
				}
				if reply.Properties.CorrelationID != "1" {
					t.Errorf("correlation id %v, want the request's", reply.Properties.CorrelationID)
				}
				if got := e.ManagementRequests()[operation]; got != 1 {
					t.Errorf("%d requests are counted, want 1", got)
				}
			})
		})
	}
}

func TestCBSRefusesOtherOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reply := call(t, newSession(t, newEmulator(t, server.Options{})), "$cbs", "delete-token", "x")
		if got := reply.ApplicationProperties["status-code"]; got != int32(501) {
			t.Errorf("status %v, want 501", got)
		}
	})
}

func TestRequestWithoutWayToReply(t *testing.T) {
	onWire(t, &amqp.Open{}, wide(), func(t *testing.T, _ *emulator, w *wire) {
		w.sender(0, "queue/$management")
		read[*amqp.Flow](w)
		for id, request := range []*amqp.Message{
			{Properties: &amqp.Properties{MessageID: "1", ReplyTo: "nowhere"}},
			{Body: amqp.Value{}},
		} {
			b, err := request.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			w.writeFrame(amqp.Frame{Body: &amqp.Transfer{DeliveryID: new(uint32(id)), DeliveryTag: []byte{}}, Payload: b})
			if d := read[*amqp.Disposition](w); d.First != uint32(id) || d.State.(*amqp.Rejected).Error == nil {
				t.Errorf("disposition %+v, want request %d rejected", d, id)
			}
		}
	})
}

func TestPeekReturnsWhatFits(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		s, r := newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)
		for range 5 {
			send(t, s, &azservicebus.Message{Body: make([]byte, 100<<10)})
		}
		for _, want := range []int{2, 2, 1, 0} {
			messages, err := r.PeekMessages(t.Context(), 5, nil)
			if err != nil || len(messages) != want {
				t.Fatalf("PeekMessages: %d messages, %v; want %d", len(messages), err, want)
			}
		}
	})
}

func TestSettleDeferred(t *testing.T) {
	type settle func(*testing.T, *azservicebus.Receiver, *azservicebus.ReceivedMessage) error
	tests := map[string]struct {
		settle settle
		want   broker.Counts
	}{
		"abandon": {func(t *testing.T, r *azservicebus.Receiver, m *azservicebus.ReceivedMessage) error {
			return r.AbandonMessage(t.Context(), m, &azservicebus.AbandonMessageOptions{PropertiesToModify: map[string]any{"p": "v"}})
		}, broker.Counts{Deferred: 1}},
		"defer": {func(t *testing.T, r *azservicebus.Receiver, m *azservicebus.ReceivedMessage) error {
			return r.DeferMessage(t.Context(), m, nil)
		}, broker.Counts{Deferred: 1}},
		"dead-letter": {func(t *testing.T, r *azservicebus.Receiver, m *azservicebus.ReceivedMessage) error {
			return r.DeadLetterMessage(t.Context(), m, &azservicebus.DeadLetterOptions{Reason: new("r"), ErrorDescription: new("d")})
		}, broker.Counts{DeadLetter: 1}},
		"renew and complete": {func(t *testing.T, r *azservicebus.Receiver, m *azservicebus.ReceivedMessage) error {
			wait(lockDuration - time.Second)
			if err := r.RenewMessageLock(t.Context(), m, nil); err != nil {
				return err
			}
			wait(lockDuration - time.Second)
			return r.CompleteMessage(t.Context(), m, nil)
		}, broker.Counts{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
				send(t, newSender(t, client, "queue"), text("x"))
				r := newReceiver(t, client, "queue", nil)
				m := receive(t, r)
				if err := r.DeferMessage(t.Context(), m, nil); err != nil {
					t.Fatal(err)
				}
				deferred, err := r.ReceiveDeferredMessages(t.Context(), []int64{*m.SequenceNumber}, nil)
				if err != nil || len(deferred) != 1 {
					t.Fatalf("ReceiveDeferredMessages: %d messages, %v", len(deferred), err)
				}
				if err := test.settle(t, r, deferred[0]); err != nil {
					t.Fatal(err)
				}
				wantCounts(t, e, "queue", test.want)
			})
		})
	}
}

func TestReceiveDeferredAndDelete(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		send(t, newSender(t, client, "queue"), text("x"))
		r := newReceiver(t, client, "queue", nil)
		m := receive(t, r)
		if err := r.DeferMessage(t.Context(), m, nil); err != nil {
			t.Fatal(err)
		}
		deleting := newReceiver(t, client, "queue", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
		messages, err := deleting.ReceiveDeferredMessages(t.Context(), []int64{*m.SequenceNumber}, nil)
		if err != nil || len(messages) != 1 || string(messages[0].Body) != "x" {
			t.Fatalf("ReceiveDeferredMessages: %d messages, %v", len(messages), err)
		}
		wantCounts(t, e, "queue", broker.Counts{})
	})
}
