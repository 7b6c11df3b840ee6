package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/servicebus/broker"
)

// TestEmulatorCommand looks at what the emulator prints, and what it leaves behind: nothing.
func TestEmulatorCommand(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	p, env, err := startEmulator(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	var names []string
	values := map[string]string{}
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		names = append(names, name)
		values[name] = value
	}
	if diff := cmp.Diff(emulatorVariables, names); diff != "" {
		t.Errorf("variables after eval (-want +got):\n%s", diff)
	}
	certificate, err := os.ReadFile(values["SSL_CERT_FILE"])
	if err != nil || !strings.HasPrefix(string(certificate), "-----BEGIN CERTIFICATE-----") {
		t.Errorf("SSL_CERT_FILE %q has %.40q and error %v, want a PEM certificate", values["SSL_CERT_FILE"], certificate, err)
	}

	p.terminate(t)
	p.wantExit(t, 0, 5*time.Second)
	for line := range strings.Lines(p.out.text()) {
		if !strings.HasPrefix(line, "export ") {
			t.Errorf("stdout has %q, want export lines only", line)
		}
	}
	if text := p.err.text(); text != "" {
		t.Errorf("stderr has %q, want nothing", text)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// TestDrain stops one of two replicas while both are busy with operations that take a while: it ends in time, nothing that
// it began is repeated, and the other replica finishes everything.
func TestDrain(t *testing.T) {
	t.Parallel()
	const n, polls = 40, 3
	a := startAzure(t, n, arm.Script{Deletes: []arm.Answer{started(arm.Operation{Polls: polls - 1, RetryAfter: "1"})}})
	first, second := a.worker(t), a.worker(t)
	a.submit(t, n)
	a.asked(t, n+n/2) // in the middle of the first polls
	first.terminate(t)
	first.wantExit(t, 0, 10*time.Second)
	first.wantLine(t, `"msg":"drained"`)

	for _, e := range a.ended(t, n) {
		if e.Data.Outcome != "deleted" || e.Data.Attempts != 1 || e.Data.Polls != polls {
			t.Errorf("%s: %s after %d DELETEs and %d polls, want deleted by one and %d polls", e.ID, e.Data.Outcome, e.Data.Attempts, e.Data.Polls, polls)
		}
	}
	a.wantNothingLeft(t, n)
	second.terminate(t)
	second.wantExit(t, 0, 10*time.Second)
	if got := len(a.ARM.Exchanges()); got != n*(1+polls) {
		t.Errorf("ARM had %d requests, want %d: a DELETE and %d polls for each", got, n*(1+polls), polls)
	}
	if v := a.Broker.Violations(); v != (broker.Violations{}) {
		t.Errorf("the broker saw %+v, want nothing settled in vain and no lock left to run out", v)
	}
}

// TestDrainRunsOut has ARM hang: the steps in hand are cut off when the grace period is over, and their messages given back.
func TestDrainRunsOut(t *testing.T) {
	t.Parallel()
	const n = 4
	a := startAzure(t, n, arm.Script{Deletes: []arm.Answer{{Hang: true}}})
	first := a.worker(t, "--shutdown-grace=1s")
	a.submit(t, n)
	a.asked(t, n)
	first.terminate(t)
	first.wantExit(t, 0, 10*time.Second)

	second := a.worker(t)
	for _, e := range a.ended(t, n) {
		if e.Data.Outcome != "deleted" || e.Data.DeliveryCount != 2 {
			t.Errorf("%s: %s on delivery %d, want deleted on the second", e.ID, e.Data.Outcome, e.Data.DeliveryCount)
		}
	}
	a.wantNothingLeft(t, n)
	second.terminate(t)
	second.wantExit(t, 0, 10*time.Second)
	if v := a.Broker.Violations(); v != (broker.Violations{}) {
		t.Errorf("the broker saw %+v, want no lock left to run out", v)
	}
}

// TestSecondSignal does not wait for the grace period.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	a := startAzure(t, 1, arm.Script{Deletes: []arm.Answer{{Hang: true}}})
	w := a.worker(t, "--shutdown-grace=1h")
	a.submit(t, 1)
	a.asked(t, 1)
	w.terminate(t)
	w.wantLine(t, "draining")
	eventually(t, "it has ended", func() bool { // one that comes with the first may be taken for the first
		select {
		case <-w.exited:
			return true
		default:
			_ = w.cmd.Process.Signal(syscall.SIGTERM) // it may end just now
			return false
		}
	})
	w.wantExit(t, -1, time.Second)
	if got := w.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(); got != syscall.SIGTERM {
		t.Errorf("ended by %v, want SIGTERM", got)
	}
}

// TestKilled kills one worker after the other in the middle of its work. The last one finishes everything.
func TestKilled(t *testing.T) {
	t.Parallel()
	const n = 60
	a := startAzure(t, n, arm.Script{Deletes: []arm.Answer{started(arm.Operation{Polls: 1, RetryAfter: "1"})}})
	a.submit(t, n)
	for _, asked := range []int{n / 4, n, n + n/2} { // in the middle of the DELETEs, at their end, of the polls
		w := a.worker(t)
		a.asked(t, asked)
		w.kill()
	}
	last := a.worker(t)
	for _, e := range a.ended(t, n) {
		// A DELETE repeated after ARM had finished finds nothing.
		if e.Data.Outcome != "deleted" && e.Data.Outcome != "absent" {
			t.Errorf("%s: %s, want deleted or absent", e.ID, e.Data.Outcome)
		}
	}
	a.wantNothingLeft(t, n)
	for i := range n {
		if a.ARM.Exists(connectionID(i)) {
			t.Errorf("%s is still there", connectionID(i))
		}
	}
	last.terminate(t)
	last.wantExit(t, 0, 10*time.Second)
}

// TestBeforeServiceBus starts a worker before Service Bus is there. It lives, says that it is not ready, and keeps trying.
func TestBeforeServiceBus(t *testing.T) {
	t.Parallel()
	a := newAzure(t, 1, arm.Script{})
	_ = a.listeners[0].Close() // nobody listens there now
	impatient, w := a.worker(t), a.worker(t)
	for _, p := range []*process{impatient, w} {
		probes := p.probes(t)
		p.wantLine(t, "connecting to Service Bus failed; trying again")
		if status, text := get(t, probes+"/healthz"); status != http.StatusOK {
			t.Errorf("/healthz answers %d %s, want 200", status, text)
		}
		if status, text := get(t, probes+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(text, "Service Bus") {
			t.Errorf("/readyz answers %d %s, want 503 and why", status, text)
		}
	}
	impatient.terminate(t)
	impatient.wantExit(t, 0, 10*time.Second)

	var err error
	if a.listeners[0], err = net.Listen("tcp", a.addr); err != nil {
		t.Fatal(err)
	}
	a.serve(t)
	a.submit(t, 1)
	if e := a.ended(t, 1)[0]; e.Data.Outcome != "deleted" {
		t.Errorf("ended as %s, want deleted", e.Data.Outcome)
	}
	probes := w.probes(t)
	if status, text := get(t, probes+"/readyz"); status != http.StatusOK {
		t.Errorf("/readyz answers %d %s once Service Bus is there, want 200", status, text)
	}
	w.terminate(t)
	w.wantExit(t, 0, 10*time.Second)
}

// probes finds the address of the probes in the log.
func (p *process) probes(t *testing.T) string {
	t.Helper()
	var line struct{ Addr string }
	if err := json.Unmarshal([]byte(p.wantLine(t, "answering probes")), &line); err != nil {
		t.Fatal(err)
	}
	return "http://" + line.Addr
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(text))
}
