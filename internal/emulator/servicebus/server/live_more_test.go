package server_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	sdkadmin "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"

	"hsmsweep/internal/emulator/servicebus/admin"
	"hsmsweep/internal/emulator/servicebus/broker"
)

// What comes after a receiver has stopped waiting for it is given back, and comes again once.
func TestLiveNothingIsOrphaned(t *testing.T) {
	const n = 2000
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		s, r := newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		sendMany(t, s, 0, 1)
		got, err := r.ReceiveMessages(ctx, n, nil)
		if err != nil || len(got) != 1 {
			t.Fatalf("ReceiveMessages: %d messages, %v; want 1", len(got), err)
		}
		sendMany(t, s, 1, n)
		synctest.Wait()
		seen := map[string]bool{}
		for {
			for _, m := range got {
				if seen[m.MessageID] || m.DeliveryCount != 1 {
					t.Errorf("message %s came twice or has delivery count %d", m.MessageID, m.DeliveryCount)
				}
				seen[m.MessageID] = true
			}
			var settling sync.WaitGroup
			for _, m := range got {
				settling.Go(func() {
					if err := r.CompleteMessage(t.Context(), m, nil); err != nil {
						t.Errorf("CompleteMessage: %v", err)
					}
				})
			}
			settling.Wait()
			if len(seen) == n || t.Failed() {
				break
			}
			if got, err = r.ReceiveMessages(ctx, n-len(seen), nil); err != nil || len(got) == 0 {
				t.Fatalf("ReceiveMessages: %d messages, %v after %d of %d", len(got), err, len(seen), n)
			}
		}
		wantCounts(t, e, "queue", broker.Counts{})
	})
}

// What has arrived in receive-and-delete mode can be had after the receiver is closed; the rest is still in the queue.
func TestLiveReceiveAndDeleteLosesNothing(t *testing.T) {
	const asked, n = 2000, 3000
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		s := newSender(t, client, "queue")
		r := newReceiver(t, client, "queue", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		sendMany(t, s, 0, 1)
		got, err := r.ReceiveMessages(ctx, asked, nil)
		if err != nil || len(got) != 1 {
			t.Fatalf("ReceiveMessages: %d messages, %v; want 1", len(got), err)
		}
		sendMany(t, s, 1, n)
		synctest.Wait()
		closing(t, r)
		for {
			more, err := r.ReceiveMessages(ctx, 100, nil)
			if err != nil {
				wantCode(t, err, azservicebus.CodeClosed)
				break
			}
			got = append(got, more...)
		}
		for i, m := range got {
			if m.MessageID != fmt.Sprint(i) {
				t.Fatalf("message %s came at place %d", m.MessageID, i)
			}
		}
		if len(got) != asked {
			t.Errorf("%d messages, want the %d that were asked for", len(got), asked)
		}
		wantCounts(t, e, "queue", broker.Counts{Active: n - asked})
	})
}

// sendMany sends messages whose ids are the numbers from first to below end.
func sendMany(t *testing.T, s *azservicebus.Sender, first, end int) {
	t.Helper()
	for n := first; n < end; {
		batch, err := s.NewMessageBatch(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for ; n < end; n++ {
			err := batch.AddMessage(&azservicebus.Message{MessageID: new(fmt.Sprint(n)), Body: make([]byte, 100)}, nil)
			if errors.Is(err, azservicebus.ErrMessageTooLarge) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := s.SendMessageBatch(t.Context(), batch, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLiveBatchOfKinds(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *emulator, client *azservicebus.Client) {
		s, r := newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)
		batch, err := s.NewMessageBatch(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		annotated := &azservicebus.AMQPAnnotatedMessage{Body: azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{[]byte("b")}}}
		if err := errors.Join(batch.AddMessage(&azservicebus.Message{Body: []byte("a"), PartitionKey: new("key")}, nil),
			batch.AddAMQPAnnotatedMessage(annotated, nil)); err != nil {
			t.Fatal(err)
		}
		if err := s.SendMessageBatch(t.Context(), batch, nil); err != nil {
			t.Fatal(err)
		}
		first, second := receive(t, r), receive(t, r)
		if got := describe([]*azservicebus.ReceivedMessage{first, second}); got != "1:a 2:b " || first.PartitionKey == nil || *first.PartitionKey != "key" {
			t.Errorf("received %q, the first with partition key %v", got, first.PartitionKey)
		}
		complete(t, r, first)
		complete(t, r, second)
	})
}

// Some refusals are final: a client that would wait an hour between tries tells of them at once.
func TestLiveFinalErrors(t *testing.T) {
	large := strings.Repeat("x", 1000*1000)
	tests := map[string]struct {
		do   func(context.Context, *azservicebus.Client) error
		want func(*testing.T, error)
	}{
		"send too large": {func(ctx context.Context, c *azservicebus.Client) error {
			s, err := c.NewSender("queue", nil)
			return errors.Join(err, s.SendMessage(ctx, text(large), nil))
		}, wantTooLarge},
		"send too large as AMQP": {func(ctx context.Context, c *azservicebus.Client) error {
			s, err := c.NewSender("queue", nil)
			body := azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{[]byte(large)}}
			return errors.Join(err, s.SendAMQPAnnotatedMessage(ctx, &azservicebus.AMQPAnnotatedMessage{Body: body}, nil))
		}, wantTooLarge},
		"send to nowhere": {func(ctx context.Context, c *azservicebus.Client) error {
			s, err := c.NewSender("nowhere", nil)
			return errors.Join(err, s.SendMessage(ctx, text("x"), nil))
		}, wantNotFound},
		"receive from nowhere": {func(ctx context.Context, c *azservicebus.Client) error {
			r, err := c.NewReceiverForQueue("nowhere", nil)
			_, receiveErr := r.ReceiveMessages(ctx, 1, nil)
			return errors.Join(err, receiveErr)
		}, wantNotFound},
		"peek at no subscription": {func(ctx context.Context, c *azservicebus.Client) error {
			r, err := c.NewReceiverForSubscription("topic", "nowhere", nil)
			_, peekErr := r.PeekMessages(ctx, 1, nil)
			return errors.Join(err, peekErr)
		}, wantNotFound},
		"accept a session of nowhere": {func(ctx context.Context, c *azservicebus.Client) error {
			_, err := c.AcceptSessionForQueue(ctx, "nowhere", "session", nil)
			return err
		}, wantNotFound},
		"accept the next session of nowhere": {func(ctx context.Context, c *azservicebus.Client) error {
			_, err := c.AcceptNextSessionForQueue(ctx, "nowhere", nil)
			return err
		}, wantNotFound},
		"renew a lock that never was": {func(ctx context.Context, c *azservicebus.Client) error {
			r, err := c.NewReceiverForQueue("queue", nil)
			return errors.Join(err, r.RenewMessageLock(ctx, &azservicebus.ReceivedMessage{}, nil))
		}, func(t *testing.T, err error) {
			wantCode(t, err, azservicebus.CodeLockLost)
			if words := "status code 410 and description: The lock supplied is invalid."; err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("error is %v, want %q in it", err, words)
			}
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *emulator, _ *azservicebus.Client) {
				client, err := azservicebus.NewClientFromConnectionString(connectionString, &azservicebus.ClientOptions{
					RetryOptions: azservicebus.RetryOptions{RetryDelay: time.Hour, MaxRetryDelay: time.Hour},
					NewWebSocketConn: func(context.Context, azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
						return e.dial(), nil
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close(context.Background())
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				test.want(t, test.do(ctx, client))
			})
		})
	}
}

func wantTooLarge(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, azservicebus.ErrMessageTooLarge) {
		t.Errorf("error is %v, want ErrMessageTooLarge", err)
	}
}

func wantNotFound(t *testing.T, err error) {
	t.Helper()
	wantCode(t, err, azservicebus.CodeNotFound)
}

// After a cut everyone who sends on one client gets on, over one new connection.
func TestLiveRecoversOnce(t *testing.T) {
	const senders = 20
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		s := newSender(t, client, "queue")
		send(t, s, text("x"))
		e.CloseConnections()
		synctest.Wait()
		var sending sync.WaitGroup
		for range senders {
			sending.Go(func() {
				if err := s.SendMessage(t.Context(), text("x"), nil); err != nil {
					t.Errorf("SendMessage: %v", err)
				}
			})
		}
		sending.Wait()
		if n := e.Connections(); n != 1 {
			t.Errorf("%d connections, want one", n)
		}
		wantCounts(t, e, "queue", broker.Counts{Active: senders + 1})
	})
}

// A caller who gives up while the client recovers does no harm to the next.
func TestLiveRecoversAfterCancellation(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		s := newSender(t, client, "queue")
		send(t, s, text("1"))
		e.CloseConnections()
		synctest.Wait()
		late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Hour))
		defer cancel()
		if err := s.SendMessage(late, text("2"), nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v, want the deadline exceeded", err)
		}
		send(t, s, text("3"))
		wantCounts(t, e, "queue", broker.Counts{Active: 2})
	})
}

// A direct transport hands requests to a handler, without a network.
type direct struct{ http.Handler }

func (d direct) Do(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

func newAdmin(t *testing.T, e *emulator) *sdkadmin.Client {
	t.Helper()
	client, err := sdkadmin.NewClientFromConnectionString(
		"Endpoint=sb://emu;SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true",
		&sdkadmin.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: direct{admin.New(e.broker)}}})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// Locked messages count as active.
func TestLiveRuntimeProperties(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		a := newAdmin(t, e)
		if _, err := a.CreateQueue(t.Context(), "fresh", nil); err != nil {
			t.Fatal(err)
		}
		s, r := newSender(t, client, "fresh"), newReceiver(t, client, "fresh", nil)
		for range 3 {
			send(t, s, text("x"))
		}
		if _, err := s.ScheduleMessages(t.Context(), []*azservicebus.Message{text("x")}, time.Now().Add(2*time.Hour), nil); err != nil {
			t.Fatal(err)
		}
		held, dead := receive(t, r), receive(t, r)
		if err := r.DeadLetterMessage(t.Context(), dead, nil); err != nil {
			t.Fatal(err)
		}
		got, err := a.GetQueueRuntimeProperties(t.Context(), "fresh", nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.TotalMessageCount != 4 || got.ActiveMessageCount != 2 || got.DeadLetterMessageCount != 1 || got.ScheduledMessageCount != 1 || got.SizeInBytes == 0 {
			t.Errorf("runtime properties %+v, want 4 messages: 2 active, 1 dead, 1 scheduled", got.QueueRuntimeProperties)
		}
		if got.AccessedAt.IsZero() || got.CreatedAt.IsZero() || got.UpdatedAt.IsZero() {
			t.Errorf("times are missing: %+v", got.QueueRuntimeProperties)
		}
		complete(t, r, held)
	})
}

// A scheduled message is the topic's until it is due, and then goes where the rules of that moment say.
func TestLiveTopicMadeByAdmin(t *testing.T) {
	inBubble(t, func(t *testing.T, e *emulator, client *azservicebus.Client) {
		a := newAdmin(t, e)
		if _, err := a.CreateTopic(t.Context(), "news", nil); err != nil {
			t.Fatal(err)
		}
		created, err := a.CreateSubscription(t.Context(), "news", "good", &sdkadmin.CreateSubscriptionOptions{
			Properties: &sdkadmin.SubscriptionProperties{DefaultRule: &sdkadmin.RuleProperties{Name: "never", Filter: &sdkadmin.FalseFilter{}}},
		})
		if err != nil || *created.MaxDeliveryCount != 10 {
			t.Fatalf("CreateSubscription: %+v, %v; want a MaxDeliveryCount of 10", created, err)
		}
		s := newSender(t, client, "news")
		good := &azservicebus.Message{Body: []byte("x"), Subject: new("s"), ApplicationProperties: map[string]any{"type": "good"}}
		if _, err := s.ScheduleMessages(t.Context(), []*azservicebus.Message{good}, time.Now().Add(2*time.Hour), nil); err != nil {
			t.Fatal(err)
		}
		topic, err := a.GetTopicRuntimeProperties(t.Context(), "news", nil)
		if err != nil || topic.ScheduledMessageCount != 1 || topic.SubscriptionCount != 1 || topic.SizeInBytes == 0 || topic.AccessedAt.IsZero() {
			t.Fatalf("GetTopicRuntimeProperties: %+v, %v", topic, err)
		}
		subscription, err := a.GetSubscriptionRuntimeProperties(t.Context(), "news", "good", nil)
		if err != nil || subscription.ActiveMessageCount != 0 || subscription.AccessedAt.IsZero() {
			t.Fatalf("GetSubscriptionRuntimeProperties: %+v, %v", subscription, err)
		}
		send(t, s, good)
		_, err = a.CreateRule(t.Context(), "news", "good", &sdkadmin.CreateRuleOptions{
			Name:   new("match"),
			Filter: &sdkadmin.CorrelationFilter{Subject: new("s"), ApplicationProperties: map[string]any{"type": "good"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		r, err := client.NewReceiverForSubscription("news", "good", nil)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
		defer cancel()
		messages, err := r.ReceiveMessages(ctx, 1, nil)
		if err != nil || len(messages) != 1 || time.Since(start) < time.Hour {
			t.Fatalf("ReceiveMessages: %d messages, %v after %v; want the scheduled one only", len(messages), err, time.Since(start))
		}
		complete(t, r, messages[0])
		wantCounts(t, e, "news/Subscriptions/good", broker.Counts{})
	})
}
