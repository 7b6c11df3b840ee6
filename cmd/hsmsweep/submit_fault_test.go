package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"hsmsweep/internal/emulator"
	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/servicebus/broker"
)

// TestSubmitFails has the queue refuse the second batch. What was sent is told, and running it again adds the rest only.
func TestSubmitFails(t *testing.T) {
	t.Parallel()
	const n = 2*largestBatch + 1
	addr, file := faultyBus(t, fault.Fault{Kind: fault.Refused, Condition: "amqp:unauthorized-access"}), csvFile(t, n)
	got := submitTo(t, addr, "", "--csv="+file)
	want := fmt.Sprintf("hsmsweep: %d of %d requests were sent; running the same file again is safe: what was sent is recognised", largestBatch, n)
	if got.code != exitFailure || strings.Count(got.out, "submitted ") != largestBatch || !strings.HasPrefix(got.err, want) {
		t.Errorf("exit code %d, %d lines on stdout, stderr %q; want 1, %d and %q", got.code, strings.Count(got.out, "\n"), got.err, largestBatch, want)
	}
	if again := submitTo(t, addr, "", "--csv="+file); again.code != 0 {
		t.Errorf("running it again: %+v", again)
	}
	if held := len(queued(t, addr)); held != n {
		t.Errorf("the queue has %d messages, want %d", held, n)
	}
}

// TestSubmitUnanswered cuts the connection when the second batch was taken, and before that is said. The SDK sends it again; the
// queue drops that.
func TestSubmitUnanswered(t *testing.T) {
	t.Parallel()
	const n = 2*largestBatch + 1
	addr := faultyBus(t, fault.Fault{Kind: fault.Unanswered})
	got := submitTo(t, addr, "", "--csv="+csvFile(t, n))
	if got.code != 0 || strings.Count(got.out, "submitted ") != n {
		t.Errorf("exit code %d, %d lines on stdout, stderr %q; want %d requests submitted", got.code, strings.Count(got.out, "\n"), got.err, n)
	}
	if held := len(queued(t, addr)); held != n {
		t.Errorf("the queue has %d messages, want %d", held, n)
	}
}

// faultyBus is a Service Bus with a fault in the second send, by its address.
func faultyBus(t *testing.T, second fault.Fault) string {
	t.Helper()
	var sends atomic.Int32
	e, err := emulator.New(emulator.Options{Entities: broker.DefaultConfig(), Faults: func(op fault.Operation) fault.Fault {
		if op.Name == "send" && sends.Add(1) == 2 {
			return second
		}
		return fault.Fault{}
	}})
	if err != nil {
		t.Fatal(err)
	}
	listeners, err := emulator.Loopback()
	if err != nil {
		t.Fatal(err)
	}
	e.Serve(listeners[0], listeners[1], listeners[2])
	t.Cleanup(func() { _ = e.Close() })
	return listeners[0].Addr().String()
}

// csvFile has n rows.
func csvFile(t *testing.T, n int) string {
	t.Helper()
	rows := []string{"connectionId"}
	for i := range n {
		rows = append(rows, connectionID(i))
	}
	file := filepath.Join(t.TempDir(), "requests.csv")
	if err := os.WriteFile(file, []byte(strings.Join(rows, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
