package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	goamqp "github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/servicebus/amqp"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/internal/emulator/servicebus/server"
)

// newSession connects with go-amqp, without the Azure SDK's $cbs and $management.
func newSession(t *testing.T, e *emulator) *goamqp.Session {
	t.Helper()
	conn, err := goamqp.NewConn(t.Context(), e.dial(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	session, err := conn.NewSession(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

// What no Azure SDK for Go sends, other clients do: it comes out as it went in.
func TestBareMessageSurvives(t *testing.T) {
	messages := map[string]*goamqp.Message{
		"uuid and data sections": {Properties: &goamqp.MessageProperties{MessageID: goamqp.UUID{1, 2}}, Data: [][]byte{{1}, {2}}},
		"binary id and value":    {Properties: &goamqp.MessageProperties{MessageID: []byte{1}}, Value: map[string]any{"k": []any{int32(1), "s"}}},
		"ulong id and footer":    {Properties: &goamqp.MessageProperties{MessageID: uint64(1)}, Data: [][]byte{nil}, Footer: goamqp.Annotations{"f": "v"}},
		"sequence":               {Properties: &goamqp.MessageProperties{MessageID: "i"}, Sequence: [][]any{{"a", true}, {uint8(1)}}},
	}
	for _, v := range []any{uint8(1), int8(-1), uint16(1), int16(-1), uint32(1), float32(0.5), goamqp.UUID{9}, nil} {
		messages[fmt.Sprintf("property of type %T", v)] = &goamqp.Message{
			Properties: &goamqp.MessageProperties{MessageID: "i"}, ApplicationProperties: map[string]any{"key": v}, Data: [][]byte{{1}},
		}
	}
	for name, sent := range messages {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				session := newSession(t, newEmulator(t, server.Options{}))
				sender, err := session.NewSender(t.Context(), "queue", nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := sender.Send(t.Context(), sent, nil); err != nil {
					t.Fatal(err)
				}
				receiver, err := session.NewReceiver(t.Context(), "queue", &goamqp.ReceiverOptions{SettlementMode: goamqp.ReceiverSettleModeSecond.Ptr()})
				if err != nil {
					t.Fatal(err)
				}
				got, err := receiver.Receive(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				if want, got := bare(t, sent), bare(t, got); !bytes.Equal(want, got) {
					t.Errorf("the bare message changed\nfrom %x\nto   %x", want, got)
				}
				if err := receiver.AcceptMessage(t.Context(), got); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// bare is the encoding of the sections that are the sender's.
func bare(t *testing.T, m *goamqp.Message) []byte {
	t.Helper()
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := amqp.ParseMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	decoded.Header, decoded.DeliveryAnnotations, decoded.Annotations, decoded.Raw = nil, nil, nil, amqp.Raw{}
	if b, err = decoded.Append(nil); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSenderCannotStampBrokerAnnotations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		session := newSession(t, newEmulator(t, server.Options{}))
		sender, err := session.NewSender(t.Context(), "queue", nil)
		if err != nil {
			t.Fatal(err)
		}
		sent := &goamqp.Message{Annotations: goamqp.Annotations{"x-opt-sequence-number": "mine", "x-opt-locked-until": nil, "x-opt-other": "kept"}}
		if err := sender.Send(t.Context(), sent, nil); err != nil {
			t.Fatal(err)
		}
		receiver, err := session.NewReceiver(t.Context(), "queue", &goamqp.ReceiverOptions{RequestedSenderSettleMode: goamqp.SenderSettleModeSettled.Ptr()})
		if err != nil {
			t.Fatal(err)
		}
		m, err := receiver.Receive(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		delete(m.Annotations, "x-opt-enqueued-time")
		want := goamqp.Annotations{"x-opt-sequence-number": int64(1), "x-opt-other": "kept"}
		if diff := cmp.Diff(want, m.Annotations); diff != "" {
			t.Errorf("annotations (-want +got):\n%s", diff)
		}
	})
}

func TestDrainWithGoAMQP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEmulator(t, server.Options{})
		receiver, err := newSession(t, e).NewReceiver(t.Context(), "queue", &goamqp.ReceiverOptions{Credit: -1})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := receiver.IssueCredit(5); err != nil {
				t.Fatal(err)
			}
			if err := receiver.DrainCredit(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		enqueue(t, e, "queue", []byte("x"))
		synctest.Wait()
		if m := receiver.Prefetched(); m != nil {
			t.Errorf("received %s without credit", m.GetData())
		}
		if err := receiver.IssueCredit(1); err != nil {
			t.Fatal(err)
		}
		if _, err := receiver.Receive(t.Context(), nil); err != nil {
			t.Error(err)
		}
	})
}

func TestOutcomesOfPlainClients(t *testing.T) {
	tests := map[string]struct {
		settle func(*testing.T, *goamqp.Receiver, *goamqp.Message) error
		want   broker.Counts
		reason string
	}{
		"release": {func(t *testing.T, r *goamqp.Receiver, m *goamqp.Message) error {
			return r.ReleaseMessage(t.Context(), m)
		}, broker.Counts{Active: 1}, ""},
		"defer": {func(t *testing.T, r *goamqp.Receiver, m *goamqp.Message) error {
			return r.ModifyMessage(t.Context(), m, &goamqp.ModifyMessageOptions{UndeliverableHere: true})
		}, broker.Counts{Deferred: 1}, ""},
		"reject": {func(t *testing.T, r *goamqp.Receiver, m *goamqp.Message) error {
			return r.RejectMessage(t.Context(), m, &goamqp.Error{Condition: "my:reason", Description: "why"})
		}, broker.Counts{DeadLetter: 1}, "my:reason"},
		"reject without an error": {func(t *testing.T, r *goamqp.Receiver, m *goamqp.Message) error {
			return r.RejectMessage(t.Context(), m, nil)
		}, broker.Counts{DeadLetter: 1}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEmulator(t, server.Options{})
				enqueue(t, e, "queue", []byte("x"))
				receiver, err := newSession(t, e).NewReceiver(t.Context(), "queue", &goamqp.ReceiverOptions{SettlementMode: goamqp.ReceiverSettleModeSecond.Ptr()})
				if err != nil {
					t.Fatal(err)
				}
				m, err := receiver.Receive(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := test.settle(t, receiver, m); err != nil {
					t.Fatal(err)
				}
				if err := receiver.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				wantCounts(t, e, "queue", test.want)
				dlq, err := e.broker.Entity("queue/$DeadLetterQueue")
				if err != nil {
					t.Fatal(err)
				}
				for _, dead := range dlq.Peek(0, 1) {
					if got, _ := dead.Properties["DeadLetterReason"].(string); got != test.reason {
						t.Errorf("dead-letter reason %q, want %q", got, test.reason)
					}
				}
			})
		})
	}
}

func TestAttachWithoutToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEmulator(t, server.Options{Authorize: func(audience, tokenType, token string) error { return nil }})
		_, err := newSession(t, e).NewSender(t.Context(), "queue", nil)
		if refusal, ok := errors.AsType[*goamqp.Error](err); !ok || refusal.Condition != goamqp.ErrCondUnauthorizedAccess {
			t.Errorf("error is %v, want %s", err, goamqp.ErrCondUnauthorizedAccess)
		}
		send(t, newSender(t, e.newClient(t), "queue"), text("with a token"))
	})
}

func TestMessageIDLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sender, err := newSession(t, newEmulator(t, server.Options{})).NewSender(t.Context(), "queue", nil)
		if err != nil {
			t.Fatal(err)
		}
		for length, accepted := range map[int]bool{128: true, 129: false} {
			m := &goamqp.Message{Properties: &goamqp.MessageProperties{MessageID: strings.Repeat("é", length)}}
			if err := sender.Send(t.Context(), m, nil); (err == nil) != accepted {
				t.Errorf("an id of %d characters: %v", length, err)
			}
		}
	})
}

// The Azure SDK for Go starts a connection afresh when an earlier link to $cbs is still open.
func TestOneLinkToCBS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEmulator(t, server.Options{})
		conn, err := goamqp.NewConn(t.Context(), e.dial(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		attach := func() (*goamqp.Session, error) {
			session, err := conn.NewSession(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = session.NewSender(t.Context(), "$cbs", nil)
			return session, err
		}
		first, err := attach()
		if err != nil {
			t.Fatal(err)
		}
		_, err = attach()
		if refusal, ok := errors.AsType[*goamqp.Error](err); !ok || refusal.Condition != goamqp.ErrCondNotAllowed {
			t.Errorf("second link: error is %v, want %s", err, goamqp.ErrCondNotAllowed)
		}
		closing(t, first)
		if _, err := attach(); err != nil {
			t.Errorf("after the first session's end: %v", err)
		}
	})
}
