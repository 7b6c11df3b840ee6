package server_test

import (
	"context"
	"flag"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	goamqp "github.com/Azure/go-amqp"

	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/internal/emulator/servicebus/server"
)

var load = flag.Bool("load", false, "run the load tests at full size")

// sized is the size of a load: full with -load, a part of it without.
func sized(full, part int) int {
	if *load {
		return full
	}
	return full / part
}

// A second round of connections costs what the first did, and neither leaves anything.
func TestLoadOfConnections(t *testing.T) {
	const allowed = 1 << 20
	leavesNoGoroutine(t)
	n := sized(200, 4)
	e := newEmulator(t, server.Options{})
	addr := listen(t, e)
	var heap [2]int64
	for round := range heap {
		connect(t, e, addr, n)
		heap[round] = heapInUse()
	}
	wantCounts(t, e, "queue", broker.Counts{})
	t.Logf("the second round left %d KiB", (heap[1]-heap[0])>>10)
	if grown := heap[1] - heap[0]; grown > allowed {
		t.Errorf("the second round left %d KiB, want at most %d", grown>>10, allowed>>10)
	}
}

// connect opens n connections with ten links each, has a message pass over each link, and closes them.
func connect(t *testing.T, e *emulator, addr net.Addr, n int) {
	const pairs, maxSlowing = 5, 5
	before, start, pace := heapInUse(), time.Now(), newPace(n)
	clients := make([]*bareClient, n)
	for i := range clients {
		clients[i] = attachBare(t, addr, pairs)
		defer clients[i].conn.Close()
		pace.step()
	}
	opened, open := time.Since(start), heapInUse()
	start = time.Now()
	exchangeOne(t, clients)
	t.Logf("%d connections and %d links opened in %v, last tenths / first %.2f, %d KiB per connection with its client; a message over each in %v",
		n, 2*pairs*n, opened, pace.slowing(), (open-before)>>10/int64(n), time.Since(start))
	if pace.slowing() > maxSlowing {
		t.Errorf("the last tenths of the connections took %.1f times as long as the first, want at most %d", pace.slowing(), maxSlowing)
	}
	for _, c := range clients {
		c.conn.Close()
	}
	until(t, "the connections to end", func() bool { return e.Connections() == 0 })
}

// A bareClient has one session with links to and from the queue.
type bareClient struct {
	conn      *goamqp.Conn
	senders   []*goamqp.Sender
	receivers []*goamqp.Receiver // without credit
}

func attachBare(t *testing.T, addr net.Addr, pairs int) *bareClient {
	t.Helper()
	conn, err := goamqp.Dial(t.Context(), "amqp://"+addr.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &bareClient{conn: conn}
	session, err := conn.NewSession(t.Context(), nil)
	for range pairs {
		var s *goamqp.Sender
		var r *goamqp.Receiver
		if err == nil {
			s, err = session.NewSender(t.Context(), "queue", nil)
		}
		if err == nil {
			r, err = session.NewReceiver(t.Context(), "queue", &goamqp.ReceiverOptions{Credit: -1, SettlementMode: goamqp.ReceiverSettleModeSecond.Ptr()})
		}
		c.senders, c.receivers = append(c.senders, s), append(c.receivers, r)
	}
	if err != nil {
		conn.Close()
		t.Fatal(err)
	}
	return c
}

// exchangeOne sends a message on every sending link and completes one on every receiving link, all at once.
func exchangeOne(t *testing.T, clients []*bareClient) {
	var running sync.WaitGroup
	for _, c := range clients {
		for i := range c.senders {
			running.Go(func() {
				if err := c.senders[i].Send(t.Context(), goamqp.NewMessage([]byte("x")), nil); err != nil {
					t.Errorf("Send: %v", err)
				}
			})
			running.Go(func() {
				if err := c.takeOne(t.Context(), i); err != nil {
					t.Errorf("receive and complete: %v", err)
				}
			})
		}
	}
	running.Wait()
}

// takeOne receives a message on one link and completes it.
func (c *bareClient) takeOne(ctx context.Context, i int) error {
	r := c.receivers[i]
	if err := r.IssueCredit(1); err != nil {
		return err
	}
	m, err := r.Receive(ctx, nil)
	if err != nil {
		return err
	}
	return r.AcceptMessage(ctx, m)
}

// A queue with many parked messages answers as fast as one with few.
func TestLoadOfScheduledMessages(t *testing.T) {
	const batch, samples, maxRatio = 100, 201, 2
	leavesNoGoroutine(t)
	few, many := sized(1_000, 2), sized(100_000, 2)
	e := newEmulator(t, server.Options{})
	client := tcpClient(t, listen(t, e))
	due := time.Now().Add(time.Hour)
	messages := slices.Repeat([]*azservicebus.Message{text(strings.Repeat("x", 500))}, batch)
	start := time.Now()
	pace := newPace(many / batch)
	parked := func(queue string, n int) (*azservicebus.Sender, *azservicebus.Receiver) {
		s := newSender(t, client, queue)
		for i := range n / batch {
			if _, err := s.ScheduleMessages(t.Context(), messages, due.Add(time.Duration(i*7919%n)*time.Millisecond), nil); err != nil {
				t.Fatal(err)
			}
			if n == many {
				pace.step()
			}
		}
		return s, newReceiver(t, client, queue, nil)
	}
	fewSender, fewReceiver := parked("unique", few)
	manySender, manyReceiver := parked("queue", many)
	t.Logf("%d messages scheduled in %v; last tenths / first %.2f", few+many, time.Since(start), pace.slowing())

	peek := func(r *azservicebus.Receiver, n int) func() error {
		return func() error {
			got, err := r.PeekMessages(t.Context(), 10, &azservicebus.PeekMessagesOptions{FromSequenceNumber: new(int64(n - 9))})
			if err == nil && len(got) != 10 {
				t.Errorf("a peek at the last 10 of %d messages returns %d, want 10", n, len(got))
			}
			return err
		}
	}
	schedule := func(s *azservicebus.Sender) func() error {
		return func() error {
			numbers, err := s.ScheduleMessages(t.Context(), messages[:1], due, nil)
			if err != nil {
				return err
			}
			return s.CancelScheduledMessages(t.Context(), numbers, nil)
		}
	}
	for name, pair := range map[string][2]func() error{
		"peek":                {peek(fewReceiver, few), peek(manyReceiver, many)},
		"schedule and cancel": {schedule(fewSender), schedule(manySender)},
	} {
		var took [2][]time.Duration
		for range samples {
			for i, operation := range pair { // in turn, so that a busy machine slows both
				start := time.Now()
				if err := operation(); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				took[i] = append(took[i], time.Since(start))
			}
		}
		ratio := float64(median(took[1])) / float64(median(took[0]))
		t.Logf("%s: median %v beside %d messages, %v beside %d: ratio %.2f", name, median(took[0]), few, median(took[1]), many, ratio)
		if ratio > maxRatio {
			t.Errorf("%s takes %.1f times as long beside %d messages as beside %d, want at most %d", name, ratio, many, few, maxRatio)
		}
	}
	wantCounts(t, e, "queue", broker.Counts{Scheduled: many})
}

func median(d []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(d))[len(d)/2]
}

// What has gone through leaves nothing behind on connections that stay open.
func TestLoadOfMessages(t *testing.T) {
	const (
		clients, group = 4, 125
		allowed        = 3 << 20 // the broker remembers the last 16384 locks
		maxSlowing     = 3
	)
	leavesNoGoroutine(t)
	n := sized(1_000_000, 50)
	e := newEmulator(t, server.Options{})
	addr := listen(t, e)
	var shuttles []*shuttle
	for range clients {
		client := tcpClient(t, addr)
		shuttles = append(shuttles, &shuttle{newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)})
	}
	run := func(rounds int, pace *pace) {
		var running sync.WaitGroup
		for _, s := range shuttles {
			running.Go(func() {
				for range rounds {
					s.round(t, group, pace)
				}
			})
		}
		running.Wait()
	}
	run(1, newPace(clients*group)) // attaches the links
	goroutines, heap := runtime.NumGoroutine(), heapInUse()
	start := time.Now()
	pace := newPace(n)
	run(n/clients/group, pace)
	took := time.Since(start)
	grown := heapInUse() - heap
	t.Logf("%d messages sent, received and completed in %v, %.0f/s; last tenths / first %.2f; heap grown by %d KiB, goroutines by %d",
		n, took, float64(n)/took.Seconds(), pace.slowing(), grown>>10, runtime.NumGoroutine()-goroutines)
	if pace.slowing() > maxSlowing {
		t.Errorf("a message of the last tenths takes %.1f times as long as one of the first, want at most %d", pace.slowing(), maxSlowing)
	}
	if grown > allowed {
		t.Errorf("the heap has grown by %d KiB, want at most %d", grown>>10, allowed>>10)
	}
	wantCounts(t, e, "queue", broker.Counts{})
	if v := e.broker.Violations(); v != (broker.Violations{}) {
		t.Errorf("violations: %+v", v)
	}
}

type shuttle struct {
	*azservicebus.Sender
	*azservicebus.Receiver
}

// round sends a group of messages at once, and receives and completes as many. As no shuttle receives more
// than it has sent, there is always one for whoever waits.
func (s *shuttle) round(t *testing.T, group int, pace *pace) {
	message := text(strings.Repeat("x", 500))
	var sending sync.WaitGroup
	for range group {
		sending.Go(func() {
			if err := s.SendMessage(t.Context(), message, nil); err != nil {
				t.Errorf("SendMessage: %v", err)
			}
		})
	}
	sending.Wait()
	for received := 0; received < group; {
		messages, err := s.ReceiveMessages(t.Context(), group-received, nil)
		if err != nil {
			t.Errorf("ReceiveMessages: %v", err)
			return
		}
		received += len(messages)
		var settling sync.WaitGroup
		for _, m := range messages {
			settling.Go(func() {
				if err := s.CompleteMessage(t.Context(), m, nil); err != nil {
					t.Errorf("CompleteMessage: %v", err)
				}
				pace.step()
			})
		}
		settling.Wait()
	}
}
