package server_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/internal/emulator/servicebus/broker"
)

func TestDeletingAnEntityDetachesItsLinks(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		s, r := newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)
		other := newSender(t, client, "small")
		send(t, s, text("1"))
		send(t, other, text("1"))
		held := receive(t, r)
		blocked := make(chan error, 1)
		go func() {
			_, err := r.ReceiveMessages(t.Context(), 1, nil)
			blocked <- err
		}()
		synctest.Wait()
		if err := e.broker.Delete("queue"); err != nil {
			t.Fatal(err)
		}
		// The SDK hands on the condition of a detach as it is, without a code; or it has tried again already, and $cbs said 404.
		wantNotFound := func(what string, err error) {
			t.Helper()
			var sbErr *azservicebus.Error
			coded := errors.As(err, &sbErr) && sbErr.Code == azservicebus.CodeNotFound
			if !coded && (err == nil || !strings.Contains(err.Error(), "amqp:not-found")) {
				t.Errorf("%s: error %v, want amqp:not-found", what, err)
			}
		}
		wantNotFound("the receive that was under way", <-blocked)
		wantNotFound("send", s.SendMessage(t.Context(), text("2"), nil))
		_, err := r.ReceiveMessages(t.Context(), 1, nil)
		wantCode(t, err, azservicebus.CodeNotFound)
		wantCode(t, r.CompleteMessage(t.Context(), held, nil), azservicebus.CodeNotFound)
		send(t, other, text("2")) // the connection is unharmed
		if n := e.Connections(); n != 1 {
			t.Errorf("%d connections, want the one", n)
		}
		// The SDK's sender stays as it is after amqp:not-found; a new one and the receiver get on.
		if err := e.broker.CreateQueue(broker.QueueConfig{Name: "queue"}); err != nil {
			t.Fatal(err)
		}
		send(t, newSender(t, client, "queue"), text("3"))
		if m := receive(t, r); string(m.Body) != "3" {
			t.Errorf("got %q, want 3", m.Body)
		}
	})
}

// The clients get on by themselves, and what they hold stays locked.
func TestUpdatingAnEntityDetachesItsLinks(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		s, r := newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)
		queue, err := e.broker.Entity("queue")
		if err != nil {
			t.Fatal(err)
		}
		update := func() {
			t.Helper()
			if err := queue.Update(broker.QueueConfig{LockDuration: lockDuration, MaxDeliveryCount: 3}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		send(t, s, text("1"))
		held := receive(t, r)
		blocked := make(chan error, 1)
		go func() {
			_, err := r.ReceiveMessages(t.Context(), 1, nil)
			blocked <- err
		}()
		synctest.Wait()
		update()
		// The SDK ends a receive without messages and without an error: it will attach again.
		if err := <-blocked; err != nil {
			t.Errorf("the receive that was under way: %v", err)
		}
		send(t, s, text("2"))
		complete(t, r, receive(t, r))
		update()
		peeked, err := r.PeekMessages(t.Context(), 2, nil)
		if err != nil || describe(peeked) != "1:1 " {
			t.Errorf("peeked %q, %v; want the message that is held", describe(peeked), err)
		}
		update()
		complete(t, r, held)
		if n := e.Connections(); n != 1 {
			t.Errorf("%d connections, want the one", n)
		}
		wantCounts(t, e, "queue", broker.Counts{})
	})
}
