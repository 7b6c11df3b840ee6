package queue_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/internal/emulator/servicebus/server"
	"hsmsweep/queue"
)

const (
	requests = "connection-deletes"
	events   = "connection-events"
	lock     = time.Minute // the emulator's default
)

// A system is a Service Bus namespace and a Queue on it, in a bubble of virtual time: the real SDK over connections in memory.
type system struct {
	*queue.Queue
	t      *testing.T
	broker *broker.Broker
	server *server.Server
	pipe   *emulator.Pipe
	down   atomic.Bool // new connections are refused
	silent atomic.Bool // new connections are never answered
	logged bytes.Buffer
}

// inVirtualTime runs a test in a bubble of its own.
func inVirtualTime(t *testing.T, test func(*testing.T, *system)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.New(broker.DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		s := &system{t: t, broker: b, server: server.New(server.Options{Broker: b}), pipe: emulator.NewPipe()}
		served := make(chan error)
		go func() { served <- s.server.Serve(s.pipe) }()
		s.Queue = s.open(requests, events)

		t.Cleanup(func() { // also after t.Fatal: a bubble ends only when everything in it has
			_ = s.Close(context.Background()) // what a test has cut says no goodbye
			if err := s.server.Close(); err != nil {
				t.Errorf("closing the emulator: %v", err)
			}
			if err := <-served; err != nil {
				t.Errorf("serving: %v", err)
			}
			b.Close()
			if t.Failed() {
				t.Log("the queue's log:\n" + s.logged.String())
			}
		})
		test(t, s)
	})
}

// dial makes a client with the pauses that the program has.
func (s *system) dial() *azservicebus.Client {
	client, err := azservicebus.NewClientFromConnectionString(emulator.ConnectionString("emulator"), &azservicebus.ClientOptions{
		NewWebSocketConn: func(ctx context.Context, _ azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
			if s.down.Load() {
				return nil, errors.New("connection refused")
			}
			if s.silent.Load() {
				client, _ := net.Pipe()
				return client, nil
			}
			return s.pipe.Dial(ctx)
		},
		RetryOptions: azservicebus.RetryOptions{MaxRetries: 3, RetryDelay: 500 * time.Millisecond, MaxRetryDelay: 4 * time.Second},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return client
}

func (s *system) open(requests, events string) *queue.Queue {
	s.t.Helper()
	q, err := queue.Open(func() (*azservicebus.Client, error) { return s.dial(), nil }, requests, events, slog.New(slog.NewTextHandler(&s.logged, nil)))
	if err != nil {
		s.t.Fatal(err)
	}
	return q
}

// cut breaks every connection without a word.
func (s *system) cut() {
	s.server.CloseConnections()
	synctest.Wait()
}

// outage cuts, and refuses new connections.
func (s *system) outage() {
	s.down.Store(true)
	s.cut()
}

// put sends messages with these bodies, to be received at once.
func (s *system) put(bodies ...string) {
	s.t.Helper()
	for _, body := range bodies {
		if err := s.Send(context.Background(), text(body), time.Time{}); err != nil {
			s.t.Fatalf("sending %q: %v", body, err)
		}
	}
}

func text(body string) *azservicebus.Message { return &azservicebus.Message{Body: []byte(body)} }

// take receives exactly one message.
func (s *system) take() *queue.Delivery {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 7*24*time.Hour)
	defer cancel()
	deliveries, err := s.Receive(ctx, 1)
	if err != nil || len(deliveries) != 1 {
		s.t.Fatalf("received %d messages and error %v, want one message", len(deliveries), err)
	}
	return deliveries[0]
}

// putAndTake has one message under a lock.
func (s *system) putAndTake() *queue.Delivery {
	s.t.Helper()
	s.put("body")
	return s.take()
}

func (s *system) entity(path string) *broker.Entity {
	s.t.Helper()
	e, err := s.broker.Entity(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return e
}

// wantLeft compares what is in the request queue, once everything has come to rest.
func (s *system) wantLeft(want broker.Counts) {
	s.t.Helper()
	synctest.Wait()
	got := s.entity(requests).Counts()
	got.Bytes = 0
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("left in the queue (-want +got):\n%s", diff)
	}
}

func (s *system) wantNoViolations() {
	s.t.Helper()
	if v := s.broker.Violations(); v != (broker.Violations{}) {
		s.t.Errorf("the broker saw %+v, want nothing that a correct client never does", v)
	}
}

// managed is how many requests of this operation $management had.
func (s *system) managed(operation string) int {
	return s.server.ManagementRequests()["com.microsoft:"+operation]
}

const (
	renewals    = "renew-lock"
	settlements = "update-disposition"
)

// triedTheLink tells whether a message was settled in vain over the link that it came by; the log says so.
func (s *system) triedTheLink() bool {
	return strings.Contains(s.logged.String(), "settling over the link failed")
}

// took tells how long something lasts in virtual time.
func took(do func()) time.Duration {
	began := time.Now()
	do()
	return time.Since(began)
}
