package server_test

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/servicebus/amqp"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/internal/emulator/servicebus/server"
)

// A lottery is an injector for one operation, and remembers what it was asked.
type lottery struct {
	mu    sync.Mutex
	of    string // the operation's name
	fault fault.Fault
	drawn bool
	asked []fault.Operation
}

func (l *lottery) draw(op fault.Operation) fault.Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, op)
	if op.Name != l.of || l.drawn {
		return fault.Fault{}
	}
	l.drawn = true
	return l.fault
}

// faulty runs a test with the SDK, without retries of its own, over a server with this fault.
func faulty(t *testing.T, l *lottery, test func(*testing.T, *broker.Entity, *azservicebus.Client)) {
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.New(testConfig())
		if err != nil {
			t.Fatal(err)
		}
		s := server.New(server.Options{Broker: b, Faults: l.draw})
		var conns sync.WaitGroup
		client, err := azservicebus.NewClientFromConnectionString(connectionString, &azservicebus.ClientOptions{
			NewWebSocketConn: func(context.Context, azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
				ours, theirs := net.Pipe()
				conns.Go(func() { s.ServeConn(theirs) })
				return ours, nil
			},
			RetryOptions: azservicebus.RetryOptions{MaxRetries: -1},
		})
		if err != nil {
			t.Fatal(err)
		}
		q, err := b.Entity("queue")
		if err != nil {
			t.Fatal(err)
		}
		test(t, q, client)
		client.Close(context.Background())
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		conns.Wait()
		b.Close()
	})
}

// TestFaults has each kind of fault at a send, a settlement and a renewal: what the client is told, and what was done.
func TestFaults(t *testing.T) {
	for _, kind := range append(slices.Clone(fault.Kinds), "") {
		applied := kind == fault.Unanswered || kind == fault.Silent || kind == ""
		f := fault.Fault{Kind: kind, Delay: 3 * time.Second}
		within := func(t *testing.T, fine bool, do func(context.Context) error) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			began := time.Now()
			if err := do(ctx); (err == nil) != (fine || kind == "") {
				t.Errorf("error %v", err)
			}
			if took := time.Since(began); took < 3*time.Second || (took == time.Minute) != (kind == fault.Silent) {
				t.Errorf("it took %s", took)
			}
		}
		t.Run("send "+string(kind), func(t *testing.T) {
			l := &lottery{of: "send", fault: f}
			faulty(t, l, func(t *testing.T, q *broker.Entity, client *azservicebus.Client) {
				sender := newSender(t, client, "queue")
				within(t, false, func(ctx context.Context) error {
					return sender.SendMessage(ctx, &azservicebus.Message{MessageID: new("m1")}, nil)
				})
				if n := q.Counts().Active; (n == 1) != applied {
					t.Errorf("%d messages in the queue", n)
				}
				l.wantAsked(t, fault.Operation{Service: fault.ServiceBus, Name: "send", Target: "queue", MessageID: "m1"})
			})
		})
		for name, settle := range map[string]func(context.Context, *azservicebus.Receiver, *azservicebus.ReceivedMessage) error{
			"settle": func(ctx context.Context, r *azservicebus.Receiver, m *azservicebus.ReceivedMessage) error {
				return r.CompleteMessage(ctx, m, nil)
			},
			"com.microsoft:update-disposition": func(ctx context.Context, r *azservicebus.Receiver, m *azservicebus.ReceivedMessage) error {
				return r.CompleteMessage(ctx, &azservicebus.ReceivedMessage{LockToken: m.LockToken}, nil)
			},
			"com.microsoft:renew-lock": func(ctx context.Context, r *azservicebus.Receiver, m *azservicebus.ReceivedMessage) error {
				return r.RenewMessageLock(ctx, m, nil)
			},
		} {
			t.Run(name+" "+string(kind), func(t *testing.T) {
				l := &lottery{of: name, fault: f}
				faulty(t, l, func(t *testing.T, q *broker.Entity, client *azservicebus.Client) {
					if _, err := q.Send(&broker.Message{ID: "m1", Content: &amqp.Message{Body: amqp.Data{[]byte("body")}}}); err != nil {
						t.Fatal(err)
					}
					r := newReceiver(t, client, "queue", nil)
					m := receive(t, r)
					until := *m.LockedUntil
					// The SDK settles with retries of its own, and takes a second answer over the link for a good one.
					again := (kind == fault.Refused || kind == fault.Unheard) && name == "com.microsoft:update-disposition"
					within(t, again || kind == fault.Refused && name == "settle", func(ctx context.Context) error { return settle(ctx, r, m) })
					if name == "com.microsoft:renew-lock" {
						d := q.Peek(0, 1)
						if len(d) != 1 || kind == "" && !m.LockedUntil.After(until) {
							t.Errorf("locked until %s, before until %s", m.LockedUntil, until)
						}
					} else if n := q.Counts().Active; (n == 0) != (applied || again) {
						t.Errorf("%d messages in the queue", n)
					}
					if !again {
						l.wantAsked(t, fault.Operation{Service: fault.ServiceBus, Name: name, Target: "queue", MessageID: "m1"})
					}
				})
			})
		}
		t.Run("attach "+string(kind), func(t *testing.T) {
			if kind == fault.Silent {
				t.Skip("an attach without an answer blocks the SDK with a lock held, which stops virtual time")
			}
			l := &lottery{of: "attach", fault: fault.Fault{Kind: kind}}
			faulty(t, l, func(t *testing.T, q *broker.Entity, client *azservicebus.Client) {
				err := newSender(t, client, "queue").SendMessage(t.Context(), &azservicebus.Message{}, nil)
				if (err == nil) != (kind == "") {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

// wantAsked looks for exactly one question about an operation.
func (l *lottery) wantAsked(t *testing.T, want fault.Operation) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, op := range l.asked {
		if op == want {
			n++
		}
	}
	if n != 1 {
		t.Errorf("asked %d times about %+v, want once; all questions: %+v", n, want, l.asked)
	}
}

// TestDisabled has a queue disabled under a receiver, and enabled again.
func TestDisabled(t *testing.T) {
	l := &lottery{}
	faulty(t, l, func(t *testing.T, q *broker.Entity, client *azservicebus.Client) {
		if _, err := q.Send(&broker.Message{ID: "m1", Content: &amqp.Message{Body: amqp.Data{[]byte("body")}}}); err != nil {
			t.Fatal(err)
		}
		settings := q.Describe().Config
		settings.Status = broker.Disabled
		if err := q.Update(settings); err != nil {
			t.Fatal(err)
		}
		if _, err := newReceiver(t, client, "queue", nil).ReceiveMessages(t.Context(), 1, nil); err == nil {
			t.Error("received from a disabled queue")
		}
		settings.Status = broker.Enabled
		if err := q.Update(settings); err != nil {
			t.Fatal(err)
		}
		receive(t, newReceiver(t, client, "queue", nil))
	})
}
