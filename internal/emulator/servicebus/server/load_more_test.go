package server_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goamqp "github.com/Azure/go-amqp"

	"hsmsweep/internal/emulator/servicebus/amqp"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/internal/emulator/servicebus/server"
)

// idleTimeout ends a silent connection after twice as long.
const idleTimeout = time.Second

// Whatever a peer does, its connection ends, and a client beside it notices nothing.
func TestMisbehavingPeers(t *testing.T) {
	certificate, _ := certify(t)
	bare := server.Options{}
	all := server.Options{TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}, HTTP: http.NotFoundHandler()}
	impatient, allImpatient := bare, all
	impatient.IdleTimeout, allImpatient.IdleTimeout = idleTimeout, idleTimeout
	zeros := string(make([]byte, 2<<20))
	for name, test := range map[string]struct {
		options   server.Options
		misbehave func(t *testing.T, e *emulator, addr net.Addr)
	}{
		"malformed frame":             {bare, sendsInSession("\x00\x00\x00\x0e\x02\x00\x00\x00\x00\x53\x12\xd0\xff\xff")},
		"frame of 2 GiB":              {bare, sendsInSession("\x80\x00\x00\x00\x02\x00\x00\x00")},
		"silence in a session":        {impatient, sendsInSession("", "\x00", "\x00\x00\xff\x00\x02\x00\x00\x00")},
		"silence":                     {allImpatient, sends("", "AMQP", amqp.HeaderAMQP, amqp.HeaderSASL, "\x16\x03\x01\x02\x00\x01")},
		"another protocol":            {bare, sends("SSH-2.0-OpenSSH_9.9\r\n", "GET / HTTP/1.1\r\n\r\n", zeros)},
		"another protocol, with HTTP": {all, sends("SSH-2.0-OpenSSH_9.9\r\n", zeros, "\x16\x03\x01\x00\x04zzzz")},
		"TLS for plain text":          {bare, beginsTLS},
		"TLS without trust":           {all, beginsTLS},
		"reader that stops":           {impatient, stopsReading},
		"thousand dropped at once":    {all, dropsMany},
	} {
		t.Run(name, func(t *testing.T) {
			leavesNoGoroutine(t)
			e := newEmulator(t, test.options)
			addr := listen(t, e)
			healthy := startHealthyClient(t, addr)
			test.misbehave(t, e, addr)
			until(t, "the other connections to end", func() bool { return e.Connections() <= 1 })
			healthy.check(t)
		})
	}
}

// sends makes peers that each send one of these before anything else, and then nothing.
func sends(first ...string) func(*testing.T, *emulator, net.Addr) {
	return func(t *testing.T, _ *emulator, addr net.Addr) { sendAndWait(t, addr, dialPeer, first) }
}

// sendsInSession makes peers that behave until they have a session, send one of these each, and then nothing.
func sendsInSession(next ...string) func(*testing.T, *emulator, net.Addr) {
	return func(t *testing.T, _ *emulator, addr net.Addr) { sendAndWait(t, addr, dialSession, next) }
}

func sendAndWait(t *testing.T, addr net.Addr, dial func(*testing.T, net.Addr) *wire, texts []string) {
	var peers []*wire
	for _, text := range texts {
		w := dial(t, addr)
		if _, err := io.WriteString(w.conn, text); err != nil {
			t.Logf("cut off while sending %d bytes: %v", len(text), err)
		}
		peers = append(peers, w)
	}
	for _, w := range peers {
		w.wantEnd()
	}
}

func beginsTLS(t *testing.T, _ *emulator, addr net.Addr) {
	w := dialPeer(t, addr)
	if err := tls.Client(w.conn, &tls.Config{ServerName: namespace}).HandshakeContext(t.Context()); err == nil {
		t.Error("the TLS handshake succeeded")
	}
	w.wantEnd()
}

// stopsReading asks for many messages and reads none, but keeps its connection alive. Those that have not been
// written to it go to whoever asks next.
func stopsReading(t *testing.T, e *emulator, addr net.Addr) {
	n, body := sized(100_000, 10), make([]byte, 1000)
	enqueue(t, e, "unique", slices.Repeat([][]byte{body}, n)...)
	w := dialSession(t, addr)
	if err := w.conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	w.receiver(0, "unique")
	w.flow(amqp.Flow{IncomingWindow: 1 << 30, Handle: new(uint32(0)), DeliveryCount: new(uint32(0)), LinkCredit: new(uint32(n))})
	tick := time.NewTicker(idleTimeout / 4)
	defer tick.Stop()
	for err := error(nil); err == nil; <-tick.C {
		_, err = w.conn.Write([]byte{0, 0, 0, 8, 2, 0, 0, 0})
	}
	until(t, "the connection to end", func() bool { return e.Connections() <= 1 })
	queue, err := e.broker.Entity("unique")
	if err != nil {
		t.Fatal(err)
	}
	again := 0
	consumer, err := queue.Consume(broker.ReceiveAndDelete, func(*broker.Delivery) { again++ })
	if err != nil {
		t.Fatal(err)
	}
	consumer.SetCredit(n)
	consumer.Close()
	if t.Logf("%d of %d messages were available again", again, n); again == 0 {
		t.Error("what the client has not taken is still locked")
	}
}

// dropsMany opens connections at once and drops them in different states.
func dropsMany(t *testing.T, e *emulator, addr net.Addr) {
	open := []string{"", "AMQP", amqp.HeaderAMQP, amqp.HeaderSASL, amqp.HeaderAMQP + "\x00\x00\x00"}
	const n = 1000
	var opened, dropped sync.WaitGroup
	opened.Add(n)
	for i := range n {
		dropped.Go(func() {
			c, err := net.Dial("tcp", addr.String())
			opened.Done()
			if err != nil {
				t.Errorf("connection %d: %v", i, err)
				return
			}
			defer c.Close()
			if _, err := io.WriteString(c, open[i%len(open)]); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
			if i%2 == 0 {
				c.(*net.TCPConn).SetLinger(0) // dropped with a reset
			}
			opened.Wait()
		})
	}
	dropped.Wait()
}

func dialPeer(t *testing.T, addr net.Addr) *wire {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &wire{t: t, conn: c, reader: amqp.FrameReader{R: c, Max: 65536}}
}

func dialSession(t *testing.T, addr net.Addr) *wire {
	t.Helper()
	w := dialPeer(t, addr)
	w.header(amqp.HeaderAMQP)
	w.write(&amqp.Open{ContainerID: "test"})
	read[*amqp.Open](w)
	w.write(wide())
	read[*amqp.Begin](w)
	return w
}

// wantEnd reads until the server has ended the connection.
func (w *wire) wantEnd() {
	w.t.Helper()
	start := time.Now()
	if _, err := io.Copy(io.Discard, w.conn); errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Errorf("the connection is still open after %v", time.Since(start))
	}
}

// A healthyClient sends a message, receives it and completes it, again and again.
type healthyClient struct {
	stop    atomic.Bool
	running sync.WaitGroup
	took    []time.Duration
}

func startHealthyClient(t *testing.T, addr net.Addr) *healthyClient {
	const atLeast = 20 // messages, however soon the test is over
	c := attachBare(t, addr, 1)
	h := &healthyClient{}
	h.running.Go(func() {
		defer c.conn.Close()
		for len(h.took) < atLeast || !h.stop.Load() {
			start := time.Now()
			err := c.senders[0].Send(t.Context(), goamqp.NewMessage([]byte("x")), nil)
			if err == nil {
				err = c.takeOne(t.Context(), 0)
			}
			if err != nil {
				t.Errorf("the client beside it: %v", err)
				return
			}
			h.took = append(h.took, time.Since(start))
		}
	})
	return h
}

// check stops the client and judges its latency, with room for a busy machine.
func (h *healthyClient) check(t *testing.T) {
	const allowed = 2 * time.Second
	h.stop.Store(true)
	h.running.Wait()
	if len(h.took) == 0 {
		t.Fatal("the client beside it got nothing done")
	}
	t.Logf("the client beside it: %d messages, median %v, longest %v", len(h.took), median(h.took), slices.Max(h.took))
	if longest := slices.Max(h.took); longest > allowed {
		t.Errorf("the client beside it waited %v, want at most %v", longest, allowed)
	}
}

// leavesNoGoroutine checks, after all other clean-up, that what the test started has ended.
func leavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		until(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
		if now := runtime.NumGoroutine(); now > before {
			var stacks bytes.Buffer
			pprof.Lookup("goroutine").WriteTo(&stacks, 1)
			t.Errorf("%d goroutines, %d before the test:\n%s", now, before, &stacks)
		}
	})
}

// until waits for what ends by itself, half a minute at most.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Errorf("waited in vain for %s", what)
			return
		}
	}
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // what sync.Pools hold goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A pace times each tenth of n steps.
type pace struct {
	tenth int64
	done  atomic.Int64
	marks [11]time.Time
}

func newPace(n int) *pace {
	p := &pace{tenth: max(1, int64(n/10))}
	p.marks[0] = time.Now()
	return p
}

func (p *pace) step() {
	if n := p.done.Add(1); n%p.tenth == 0 && n/p.tenth <= 10 {
		p.marks[n/p.tenth] = time.Now()
	}
}

// slowing is how many times as long as a first tenth a last one took, each the best of three: the machine has
// other work, too.
func (p *pace) slowing() float64 {
	took := func(i int) time.Duration { return p.marks[i+1].Sub(p.marks[i]) }
	return float64(min(took(7), took(8), took(9))) / float64(min(took(0), took(1), took(2)))
}
