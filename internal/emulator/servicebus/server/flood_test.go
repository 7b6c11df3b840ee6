package server_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"hsmsweep/internal/emulator/servicebus/amqp"
	"hsmsweep/internal/emulator/servicebus/server"
)

// A client that asks for much with few bytes, or repeats what has to be answered, and reads nothing is cut off
// before it costs much.
func TestFloods(t *testing.T) {
	const (
		maxGrowth = 128 << 20
		maxTime   = 20 * time.Second // under the race detector, with other tests beside it
		maxBytes  = 1 << 30
	)
	long := strings.Repeat("x", 60000)
	for name, flood := range map[string][]amqp.Composite{
		"settling": {&amqp.Disposition{Role: amqp.RoleReceiver, Last: new(uint32(1<<16 - 1)), State: &amqp.Accepted{}}},
		"attaching": {
			&amqp.Attach{Name: long, Role: amqp.RoleReceiver, Source: &amqp.Source{Address: "queue"}, Target: &amqp.Target{}},
			&amqp.Detach{Closed: true},
		},
		"attaching in vain": {
			&amqp.Attach{Name: "x", Role: amqp.RoleReceiver, Source: &amqp.Source{Address: long}, Target: &amqp.Target{}},
			&amqp.Detach{Closed: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			leavesNoGoroutine(t)
			e := newEmulator(t, server.Options{})
			addr := listen(t, e)
			healthy := startHealthyClient(t, addr)
			w := dialSession(t, addr)
			var out amqp.FrameWriter
			for len(out.Bytes()) < 30_000 {
				for _, body := range flood {
					if err := out.Append(amqp.Frame{Body: body}); err != nil {
						t.Fatal(err)
					}
				}
			}
			before, start, sent := heapInUse(), time.Now(), 0
			for err := error(nil); err == nil && sent < maxBytes; sent += len(out.Bytes()) {
				_, err = w.conn.Write(out.Bytes())
			}
			grown := heapInUse() - before
			until(t, "the connection to end", func() bool { return e.Connections() <= 1 })
			took := time.Since(start)
			t.Logf("cut off after %d KiB and %v, heap grown by %d MiB", sent>>10, took, grown>>20)
			if sent >= maxBytes || took > maxTime || grown > maxGrowth {
				t.Errorf("want less than %d MiB, %v and %d MiB", maxBytes>>20, maxTime, maxGrowth>>20)
			}
			healthy.check(t)
		})
	}
}

func TestSilentHTTP(t *testing.T) {
	leavesNoGoroutine(t)
	e := newEmulator(t, server.Options{IdleTimeout: idleTimeout, HTTP: http.NotFoundHandler()})
	w := dialPeer(t, listen(t, e))
	start := time.Now()
	if _, err := io.WriteString(w.conn, "GET / HTTP/1.1"); err != nil {
		t.Fatal(err)
	}
	w.wantEnd()
	if took := time.Since(start); took > 3*idleTimeout {
		t.Errorf("half a request kept its connection for %v, want about %v", took, 2*idleTimeout)
	}
}

// A starved listener has no file descriptor for the first connections.
type starved struct {
	net.Listener
	failures int
}

func (l *starved) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

func TestServeOutlastsStarvation(t *testing.T) {
	leavesNoGoroutine(t)
	e := newEmulator(t, server.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.conns.Go(func() {
		if err := e.Serve(&starved{l, 3}); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	dialSession(t, l.Addr())
}
