package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator"
	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/servicebus/broker"
)

// An azure is the emulator in this process, on loopback, so that a test sees what ARM and Service Bus saw of the processes.
type azure struct {
	*emulator.Emulator
	env       []string // for the processes
	addr      string   // of Service Bus
	listeners [3]net.Listener
}

// newAzure has n connections, c0 and so on, with one script. Nothing is served yet.
func newAzure(t *testing.T, n int, script arm.Script) *azure {
	t.Helper()
	entities := broker.DefaultConfig()
	entities.Queues[0].LockDuration = 3 * time.Second // what a killed process had in hand comes back soon
	pool := arm.Pool{ID: samplePool}
	for i := range n {
		pool.Connections = append(pool.Connections, arm.Connection{Name: fmt.Sprint("c", i), Script: script})
	}
	return newAzureOf(t, emulator.Options{Entities: entities}, pool)
}

// newAzureOf has one pool. Nothing is served yet.
func newAzureOf(t *testing.T, options emulator.Options, pool arm.Pool) *azure {
	t.Helper()
	options.Faults = everybodysRights(t).Then(options.Faults)
	e, err := emulator.New(options)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.ARM.AddPool(pool); err != nil {
		t.Fatal(err)
	}
	a := &azure{Emulator: e}
	if a.listeners, err = emulator.Loopback(); err != nil {
		t.Fatal(err)
	}
	for _, l := range a.listeners {
		t.Cleanup(func() { _ = l.Close() }) // where it is not served
	}
	a.addr = a.listeners[0].Addr().String()
	certificate := filepath.Join(t.TempDir(), "authority.pem")
	if err := os.WriteFile(certificate, e.Authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, v := range environment(e, a.addr, a.listeners[1].Addr().String(), a.listeners[2].Addr().String(), certificate) {
		a.env = append(a.env, v.name+"="+v.value)
	}
	return a
}

func (a *azure) serve(t *testing.T) {
	t.Helper()
	a.Serve(a.listeners[0], a.listeners[1], a.listeners[2])
	t.Cleanup(func() { _ = a.Close() })
}

func startAzure(t *testing.T, n int, script arm.Script) *azure {
	t.Helper()
	a := newAzure(t, n, script)
	a.serve(t)
	return a
}

// worker starts a replica.
func (a *azure) worker(t *testing.T, args ...string) *process {
	t.Helper()
	return launch(t, a.env, append([]string{"run", "--http-addr=127.0.0.1:0", "--concurrency=8"}, args...)...)
}

func connectionID(i int) string {
	return fmt.Sprintf("%s/privateEndpointConnections/c%d", samplePool, i)
}

// submit sends a request for each of n connections.
func (a *azure) submit(t *testing.T, n int) {
	t.Helper()
	args := []string{"submit"}
	for i := range n {
		args = append(args, connectionID(i))
	}
	if out := call(t, a.env, args...); strings.Count(out, "submitted ") != n {
		t.Fatalf("submit printed\n%s\nwant %d lines", out, n)
	}
}

// asked waits until ARM has had n requests in all.
func (a *azure) asked(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("ARM has had %d requests", n), func() bool { return len(a.ARM.Exchanges()) >= n })
}

// ended waits for n events, and reads them and whatever else is there: of each connection there must be exactly one.
func (a *azure) ended(t *testing.T, n int) []ending {
	t.Helper()
	lines := call(t, a.env, "events", "--json", "--count", fmt.Sprint(n), "--timeout", patience.String())
	var ends []ending
	of := map[string]int{}
	for line := range strings.Lines(lines) {
		var e ending
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("event %q: %v", line, err)
		}
		ends = append(ends, e)
		of[e.Data.ConnectionID]++
	}
	want := map[string]int{}
	for i := range n {
		want[connectionID(i)] = 1
	}
	if diff := cmp.Diff(want, of); diff != "" {
		t.Errorf("events of each connection (-want +got):\n%s", diff)
	}
	return ends
}

// wantNothingLeft waits for the queue to be empty, and then looks for events beyond the n that there should be.
func (a *azure) wantNothingLeft(t *testing.T, n int) {
	t.Helper()
	queue, err := a.Broker.Entity(defaultQueue)
	if err != nil {
		t.Fatal(err)
	}
	events, err := a.Broker.Entity(defaultEvents + "/Subscriptions/" + defaultSubscription)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the queue is empty", func() bool { return queue.Counts() == broker.Counts{} })
	if got := events.Counts().Active; got != n {
		t.Errorf("%d events, want %d", got, n)
	}
}

// setStatus opens and closes an entity.
func (a *azure) setStatus(t *testing.T, entity string, status broker.Status) {
	t.Helper()
	e, err := a.Broker.Entity(entity)
	if err != nil {
		t.Fatal(err)
	}
	settings := e.Describe().Config
	settings.Status = status
	if err := e.Update(settings); err != nil {
		t.Fatal(err)
	}
}

// eventually looks again and again until something outside this process has happened.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	deadline := time.After(patience)
	for !happened() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}
