package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/servicebus/broker"
)

func TestSendReceiveComplete(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		send(t, newSender(t, client, "queue"), text("hello"))
		r := newReceiver(t, client, "queue", nil)
		m := receive(t, r)
		if string(m.Body) != "hello" || m.DeliveryCount != 1 || *m.SequenceNumber != 1 || m.State != azservicebus.MessageStateActive {
			t.Errorf("got body %q, delivery count %d, sequence number %d, state %d", m.Body, m.DeliveryCount, *m.SequenceNumber, m.State)
		}
		if want := time.Now().Add(lockDuration).Truncate(time.Millisecond); m.LockedUntil.Before(want.Add(-time.Second)) || m.LockedUntil.After(want) {
			t.Errorf("locked until %v, want about %v", m.LockedUntil, want)
		}
		complete(t, r, m)
		wantCounts(t, e, "queue", broker.Counts{})
	})
}

func TestMessageSurvives(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *emulator, client *azservicebus.Client) {
		sent := &azservicebus.Message{
			MessageID:     new("id"),
			CorrelationID: new("correlation"),
			ContentType:   new("application/json"),
			Subject:       new("subject"),
			To:            new("to"),
			ReplyTo:       new("reply-to"),
			PartitionKey:  new("key"),
			TimeToLive:    new(time.Hour),
			Body:          []byte("{\"a\":1}\x00\xff"),
			ApplicationProperties: map[string]any{
				"string": "text", "empty": "", "bool": true, "int32": int32(-7), "int64": int64(1) << 40,
				"uint64": uint64(1) << 63, "float64": 0.5, "nil": nil, "bytes": []byte{0, 1},
				"time": time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC),
			},
		}
		send(t, newSender(t, client, "queue"), sent)
		got := receive(t, newReceiver(t, client, "queue", nil)).Message()
		if diff := cmp.Diff(sent, got); diff != "" {
			t.Errorf("message changed (-sent +received):\n%s", diff)
		}
	})
}

func TestBatch(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		s := newSender(t, client, "queue")
		batch, err := s.NewMessageBatch(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 100 {
			m := text(fmt.Sprint(n))
			if n == 50 {
				m.ScheduledEnqueueTime = new(time.Now().Add(time.Hour))
			}
			if err := batch.AddMessage(m, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.SendMessageBatch(t.Context(), batch, nil); err != nil {
			t.Fatal(err)
		}
		wantCounts(t, e, "queue", broker.Counts{Active: 99, Scheduled: 1})

		r := newReceiver(t, client, "queue", nil)
		var got []*azservicebus.ReceivedMessage
		for len(got) < 99 {
			messages, err := r.ReceiveMessages(t.Context(), 99, nil)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, messages...)
		}
		for i, m := range got {
			n := i
			if i >= 50 {
				n++
			}
			if string(m.Body) != fmt.Sprint(n) {
				t.Fatalf("messages out of order: %s", describe(got))
			}
			complete(t, r, m)
		}
	})
}

func TestAbandonUntilDeadLettered(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		send(t, newSender(t, client, "queue"), text("poison"))
		r := newReceiver(t, client, "queue", nil)
		for n := range 3 {
			m := receive(t, r)
			if want := uint32(n + 1); m.DeliveryCount != want {
				t.Errorf("delivery count %d, want %d", m.DeliveryCount, want)
			}
			changes := &azservicebus.AbandonMessageOptions{PropertiesToModify: map[string]any{"try": int64(n)}}
			if err := r.AbandonMessage(t.Context(), m, changes); err != nil {
				t.Fatal(err)
			}
		}
		wantCounts(t, e, "queue", broker.Counts{DeadLetter: 1})

		dead := receive(t, newReceiver(t, client, "queue", deadLetters()))
		if dead.DeadLetterReason == nil || *dead.DeadLetterReason != "MaxDeliveryCountExceeded" {
			t.Errorf("dead-letter reason %v", dead.ApplicationProperties)
		}
		if got := dead.ApplicationProperties["try"]; got != int64(2) {
			t.Errorf("the last abandon set try to %v, want 2", got)
		}
	})
}

func TestDeadLetterKeepsConnection(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		s, r := newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)
		m := text("bad")
		m.ApplicationProperties = map[string]any{"mine": "kept"}
		send(t, s, m)
		received, start := receive(t, r), time.Now()
		err := r.DeadLetterMessage(t.Context(), received, &azservicebus.DeadLetterOptions{
			Reason: new("Invalid"), ErrorDescription: new("not JSON"), PropertiesToModify: map[string]any{"more": int64(1)},
		})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("dead-lettering took %v: the client reconnected", took)
		}
		dlq := newReceiver(t, client, "queue", deadLetters())
		dead := receive(t, dlq)
		want := map[string]any{"mine": "kept", "more": int64(1), "DeadLetterReason": "Invalid", "DeadLetterErrorDescription": "not JSON"}
		if diff := cmp.Diff(want, dead.ApplicationProperties); diff != "" {
			t.Errorf("application properties (-want +got):\n%s", diff)
		}
		if *dead.DeadLetterReason != "Invalid" || *dead.DeadLetterErrorDescription != "not JSON" || string(dead.Body) != "bad" {
			t.Errorf("dead letter is %q, %q, %q", *dead.DeadLetterReason, *dead.DeadLetterErrorDescription, dead.Body)
		}
		complete(t, dlq, dead)
		wantCounts(t, e, "queue", broker.Counts{})
	})
}

func TestDefer(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		send(t, newSender(t, client, "queue"), text("later"))
		r := newReceiver(t, client, "queue", nil)
		m := receive(t, r)
		if err := r.DeferMessage(t.Context(), m, nil); err != nil {
			t.Fatal(err)
		}
		receiveNothing(t, r)
		wantCounts(t, e, "queue", broker.Counts{Deferred: 1})

		deferred, err := r.ReceiveDeferredMessages(t.Context(), []int64{*m.SequenceNumber}, nil)
		if err != nil || len(deferred) != 1 {
			t.Fatalf("ReceiveDeferredMessages: %d messages, error %v", len(deferred), err)
		}
		if deferred[0].State != azservicebus.MessageStateDeferred || string(deferred[0].Body) != "later" {
			t.Errorf("got state %d, body %q", deferred[0].State, deferred[0].Body)
		}
		complete(t, r, deferred[0])
		wantCounts(t, e, "queue", broker.Counts{})

		_, err = r.ReceiveDeferredMessages(t.Context(), []int64{*m.SequenceNumber}, nil)
		wantCode(t, err, azservicebus.CodeNotFound)
	})
}

func TestSchedule(t *testing.T) {
	schedules := map[string]func(*testing.T, *azservicebus.Sender, *azservicebus.Message, time.Time){
		"by annotation": func(t *testing.T, s *azservicebus.Sender, m *azservicebus.Message, at time.Time) {
			m.ScheduledEnqueueTime = &at
			send(t, s, m)
		},
		"by call": func(t *testing.T, s *azservicebus.Sender, m *azservicebus.Message, at time.Time) {
			numbers, err := s.ScheduleMessages(t.Context(), []*azservicebus.Message{m}, at, nil)
			if err != nil || len(numbers) != 1 {
				t.Fatalf("ScheduleMessages: %v, %v", numbers, err)
			}
		},
	}
	for name, schedule := range schedules {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
				s, r := newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)
				at := time.Now().Add(24 * time.Hour).Truncate(time.Millisecond)
				schedule(t, s, text("tomorrow"), at)

				peeked, err := r.PeekMessages(t.Context(), 10, nil)
				if err != nil || len(peeked) != 1 || peeked[0].State != azservicebus.MessageStateScheduled || !peeked[0].ScheduledEnqueueTime.Equal(at) {
					t.Fatalf("PeekMessages: %+v, %v", peeked, err)
				}
				messages, err := r.ReceiveMessages(t.Context(), 1, nil)
				if err != nil || len(messages) != 1 {
					t.Fatalf("ReceiveMessages: %d messages, %v", len(messages), err)
				}
				if late := time.Since(at); late != 0 {
					t.Errorf("the message came %v late", late)
				}
				if !messages[0].EnqueuedTime.Equal(at) || messages[0].State != azservicebus.MessageStateActive {
					t.Errorf("enqueued at %v in state %d, want %v and active", messages[0].EnqueuedTime, messages[0].State, at)
				}
				complete(t, r, messages[0])
			})
		})
	}
}

func TestCancelScheduled(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		s := newSender(t, client, "queue")
		numbers, err := s.ScheduleMessages(t.Context(), []*azservicebus.Message{text("a"), text("b")}, time.Now().Add(time.Minute), nil)
		if err != nil || len(numbers) != 2 {
			t.Fatalf("ScheduleMessages: %v, %v", numbers, err)
		}
		if err := s.CancelScheduledMessages(t.Context(), numbers[:1], nil); err != nil {
			t.Fatal(err)
		}
		wantCode(t, s.CancelScheduledMessages(t.Context(), numbers[:1], nil), azservicebus.CodeNotFound)
		if m := receive(t, newReceiver(t, client, "queue", nil)); string(m.Body) != "b" {
			t.Errorf("received %q, want b", m.Body)
		}
		want := map[string]int{"com.microsoft:schedule-message": 1, "com.microsoft:cancel-scheduled-message": 2}
		if diff := cmp.Diff(want, e.ManagementRequests()); diff != "" {
			t.Errorf("management requests (-want +got):\n%s", diff)
		}
	})
}

func TestRenewLock(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *emulator, client *azservicebus.Client) {
		send(t, newSender(t, client, "queue"), text("slow"))
		r := newReceiver(t, client, "queue", nil)
		m := receive(t, r)
		for range 5 {
			wait(lockDuration / 2)
			if err := r.RenewMessageLock(t.Context(), m, nil); err != nil {
				t.Fatal(err)
			}
			if want := time.Now().Add(lockDuration); !m.LockedUntil.Equal(want) {
				t.Errorf("locked until %v, want %v", m.LockedUntil, want)
			}
		}
		complete(t, r, m)
	})
}

func TestLockLost(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		e.faulty = true
		send(t, newSender(t, client, "queue"), text("slow"))
		r := newReceiver(t, client, "queue", nil)
		m := receive(t, r)
		wait(lockDuration)
		start := time.Now()
		wantCode(t, r.CompleteMessage(t.Context(), m, nil), azservicebus.CodeLockLost)
		wantCode(t, r.RenewMessageLock(t.Context(), m, nil), azservicebus.CodeLockLost)
		if took := time.Since(start); took > time.Second {
			t.Errorf("refusals took %v: the client reconnected", took)
		}
		again := receive(t, r)
		if again.DeliveryCount != 2 || *again.SequenceNumber != *m.SequenceNumber || again.LockToken == m.LockToken {
			t.Errorf("redelivered with count %d, number %d, token %x", again.DeliveryCount, *again.SequenceNumber, again.LockToken)
		}
		complete(t, r, again)
	})
}

// A message that comes after its receiver has stopped waiting goes back uncounted.
func TestLateMessageIsReleased(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *emulator, client *azservicebus.Client) {
		s, r := newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)
		receiveNothing(t, r)
		send(t, s, text("late"))
		synctest.Wait()
		m := receive(t, r)
		if string(m.Body) != "late" || m.DeliveryCount != 1 {
			t.Errorf("received %q with delivery count %d, want 1", m.Body, m.DeliveryCount)
		}
		complete(t, r, m)
	})
}

func TestReceiveAndDelete(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		send(t, newSender(t, client, "queue"), text("gone"))
		r := newReceiver(t, client, "queue", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
		if m := receive(t, r); string(m.Body) != "gone" {
			t.Errorf("received %q", m.Body)
		}
		wantCounts(t, e, "queue", broker.Counts{})
	})
}

func TestLargeMessage(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *emulator, client *azservicebus.Client) {
		s, r := newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)
		body := bytes.Repeat([]byte("0123456789abcdef"), 250<<10/16)
		for range 3 {
			send(t, s, &azservicebus.Message{Body: body})
		}
		for range 3 {
			m := receive(t, r)
			if !bytes.Equal(m.Body, body) {
				t.Errorf("a body of %d bytes came back as %d bytes", len(body), len(m.Body))
			}
			complete(t, r, m)
		}
	})
}

func TestTooLargeMessage(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *emulator, client *azservicebus.Client) {
		s := newSender(t, client, "small")
		err := s.SendMessage(t.Context(), text(strings.Repeat("x", 2000)), nil)
		if !errors.Is(err, azservicebus.ErrMessageTooLarge) {
			t.Errorf("error is %v, want ErrMessageTooLarge", err)
		}
		send(t, s, text("fits"))
	})
}

func TestFullEntity(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		s := newSender(t, client, "full")
		send(t, s, text(strings.Repeat("x", 500)))
		if err := s.SendMessage(t.Context(), text(strings.Repeat("x", 500)), nil); err == nil || !strings.Contains(err.Error(), "amqp:resource-limit-exceeded") {
			t.Errorf("error is %v, want amqp:resource-limit-exceeded", err)
		}
		wantCounts(t, e, "full", broker.Counts{Active: 1})
	})
}

func TestUnknownEntity(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *emulator, client *azservicebus.Client) {
		wantCode(t, newSender(t, client, "nowhere").SendMessage(t.Context(), text("x"), nil), azservicebus.CodeNotFound)
		_, err := newReceiver(t, client, "nowhere", nil).ReceiveMessages(t.Context(), 1, nil)
		wantCode(t, err, azservicebus.CodeNotFound)
	})
}

func TestDuplicateDetection(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		s := newSender(t, client, "unique")
		for _, id := range []string{"a", "a", "b"} {
			send(t, s, &azservicebus.Message{MessageID: &id})
		}
		wantCounts(t, e, "unique", broker.Counts{Active: 2})
	})
}

func TestTopic(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		s := newSender(t, client, "topic")
		for _, kind := range []string{"good", "bad"} {
			send(t, s, &azservicebus.Message{Body: []byte(kind), ApplicationProperties: map[string]any{"type": kind}})
		}
		for subscription, want := range map[string]int{"all": 2, "some": 1} {
			wantCounts(t, e, "topic/Subscriptions/"+subscription, broker.Counts{Active: want})
		}
		r, err := client.NewReceiverForSubscription("topic", "some", nil)
		if err != nil {
			t.Fatal(err)
		}
		m := receive(t, r)
		if string(m.Body) != "good" {
			t.Errorf("received %q, want good", m.Body)
		}
		if err := r.DeadLetterMessage(t.Context(), m, nil); err != nil {
			t.Fatal(err)
		}
		dlq, err := client.NewReceiverForSubscription("topic", "some", deadLetters())
		if err != nil {
			t.Fatal(err)
		}
		complete(t, dlq, receive(t, dlq))
	})
}

func TestManySendsAndReceives(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		const n = 12000
		s := newSender(t, client, "queue")
		for range n {
			send(t, s, text("x"))
		}
		wantCounts(t, e, "queue", broker.Counts{Active: n})

		r := newReceiver(t, client, "queue", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
		for next := int64(1); next <= n; {
			messages, err := r.ReceiveMessages(t.Context(), 3000, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range messages {
				if *m.SequenceNumber != next {
					t.Fatalf("received number %d, want %d", *m.SequenceNumber, next)
				}
				next++
			}
		}
	})
}

func TestManyPeeks(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *emulator, client *azservicebus.Client) {
		send(t, newSender(t, client, "queue"), text("x"))
		r := newReceiver(t, client, "queue", nil)
		for range 1500 {
			messages, err := r.PeekMessages(t.Context(), 1, &azservicebus.PeekMessagesOptions{FromSequenceNumber: new(int64(0))})
			if err != nil || len(messages) != 1 {
				t.Fatalf("PeekMessages: %d messages, %v", len(messages), err)
			}
		}
		past := &azservicebus.PeekMessagesOptions{FromSequenceNumber: new(int64(2))}
		if messages, err := r.PeekMessages(t.Context(), 1, past); err != nil || len(messages) != 0 {
			t.Errorf("PeekMessages past the end: %d messages, %v", len(messages), err)
		}
	})
}

func TestIdleReceiver(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		s, r := newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)
		send(t, s, text("first"))
		complete(t, r, receive(t, r))
		wait(30 * time.Minute)
		time.AfterFunc(30*time.Minute, func() { s.SendMessage(context.Background(), text("second"), nil) })
		if m := receive(t, r); string(m.Body) != "second" {
			t.Errorf("received %q", m.Body)
		} else {
			complete(t, r, m)
		}
		if n := e.Connections(); n != 1 {
			t.Errorf("%d connections, want the one from the start", n)
		}
	})
}

func TestSettleByTokenAfterCut(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		s, r := newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)
		send(t, s, text("x"))
		m := receive(t, r)
		e.CloseConnections()
		synctest.Wait()
		complete(t, r, &azservicebus.ReceivedMessage{LockToken: m.LockToken})
		wantCounts(t, e, "queue", broker.Counts{})
	})
}

func TestRecoveryFromCut(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		s, r := newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)
		send(t, s, text("before"))
		complete(t, r, receive(t, r))
		time.AfterFunc(time.Minute, e.CloseConnections)
		if messages, err := r.ReceiveMessages(t.Context(), 1, nil); err != nil || len(messages) != 0 {
			t.Fatalf("ReceiveMessages over the cut: %d messages, %v", len(messages), err)
		}
		synctest.Wait()
		send(t, s, text("after"))
		m := receive(t, r)
		if string(m.Body) != "after" || m.DeliveryCount != 1 {
			t.Errorf("received %q with delivery count %d", m.Body, m.DeliveryCount)
		}
		complete(t, r, m)
	})
}

func TestPeekOmitsLocksAndKeepsProperties(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *emulator, client *azservicebus.Client) {
		sent := map[string]any{"n": int32(1)}
		send(t, newSender(t, client, "queue"), &azservicebus.Message{Body: []byte("x"), ApplicationProperties: maps.Clone(sent)})
		r := newReceiver(t, client, "queue", nil)
		m := receive(t, r)
		peeked, err := r.PeekMessages(t.Context(), 5, nil)
		if err != nil || len(peeked) != 1 {
			t.Fatalf("PeekMessages: %d messages, %v", len(peeked), err)
		}
		if peeked[0].LockedUntil != nil || peeked[0].LockToken != [16]byte{} {
			t.Errorf("peek tells of a lock until %v", peeked[0].LockedUntil)
		}
		if diff := cmp.Diff(sent, peeked[0].ApplicationProperties); diff != "" {
			t.Errorf("application properties (-want +got):\n%s", diff)
		}
		complete(t, r, m)
	})
}

// wait lets virtual time pass.
func wait(d time.Duration) { <-time.After(d) }
