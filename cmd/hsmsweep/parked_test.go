package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"hsmsweep/deletion"
	"hsmsweep/internal/emulator"
	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/worker"
)

// park submits a request that waits for years, and waits until a worker has parked it.
func (a *azure) park(t *testing.T, requestID string, i int) {
	t.Helper()
	call(t, a.env, "submit", "--request-id", requestID, "--ticket-id", "CHG1", "--not-before", "2999-01-01T00:00:00Z", connectionID(i))
	queue, err := a.Broker.Entity(defaultQueue)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is parked", func() bool { c := queue.Counts(); return c.Active == 0 && c.Scheduled > 0 })
}

// TestParkedAndCancel goes the operators' way: list, filter, cancel, and look at what is left.
func TestParkedAndCancel(t *testing.T) {
	t.Parallel()
	a := startAzure(t, 2, arm.Script{})
	w := a.worker(t)
	a.park(t, "r0", 0)
	a.park(t, "r1", 1)

	table := call(t, a.env, "parked")
	for _, words := range []string{"REQUEST  CONNECTION", "r0       sample-mhsm/c0  notBefore", "CHG1", "2 requests wait."} {
		if !strings.Contains(table, words) {
			t.Errorf("parked printed\n%s\nwant %q in it", table, words)
		}
	}
	for filter, want := range map[string]int{
		"--pool=sample-mhsm": 2, "--pool=" + strings.ToUpper(samplePool): 2, "--pool=other": 0, "--why=notBefore": 2, "--why=conflict,throttle": 0,
		"--older=0s": 2, "--older=1h": 0,
	} {
		lines := call(t, a.env, "parked", "--json", filter)
		if got := strings.Count(lines, "\n"); got != want {
			t.Errorf("parked %s printed %d lines, want %d", filter, got, want)
		}
	}
	first, _, _ := strings.Cut(call(t, a.env, "parked", "--json"), "\n")
	var parked struct {
		RequestID, ConnectionID, Why string
		DueAt, RequestedAt           time.Time
	}
	if err := json.Unmarshal([]byte(first), &parked); err != nil || parked.RequestID != "r0" || parked.ConnectionID != connectionID(0) ||
		parked.Why != "notBefore" || parked.DueAt.Year() != 2999 || parked.RequestedAt.IsZero() {
		t.Errorf("parked --json printed %s (%v)", first, err)
	}

	call(t, a.env, "cancel", "r0")
	unknown := launch(t, a.env, "cancel", "--json", "r0", "r1")
	unknown.wantExit(t, exitFailure, patience)
	var results [2]cancellation
	for i, line := range strings.SplitN(strings.TrimSpace(unknown.out.text()), "\n", 2) {
		if err := json.Unmarshal([]byte(line), &results[i]); err != nil {
			t.Fatal(err)
		}
	}
	if results[0].Result != "notFound" || results[1].Result != "cancelled" || !strings.Contains(unknown.err.text(), "r0: not found") {
		t.Errorf("cancelling r0 again and r1 gave %+v and %q", results, unknown.err.text())
	}
	for _, e := range a.ended(t, 2) {
		if e.Data.Outcome != worker.EndCancelled {
			t.Errorf("%s ended as %s, want cancelled", e.ID, e.Data.Outcome)
		}
	}
	a.wantNothingLeft(t, 2)
	if n := len(a.ARM.Exchanges()); n != 0 {
		t.Errorf("ARM had %d requests, want none", n)
	}
	if table := call(t, a.env, "parked"); table != "No such request waits.\n" {
		t.Errorf("parked printed %q", table)
	}
	w.terminate(t)
	w.wantExit(t, 0, 10*time.Second)
}

// TestCancelUnpublished has a topic that takes nothing: the event is printed instead, for whoever has to pass it on.
func TestCancelUnpublished(t *testing.T) {
	t.Parallel()
	a := startAzure(t, 1, arm.Script{})
	w := a.worker(t)
	a.park(t, "r0", 0)
	w.terminate(t)
	w.wantExit(t, 0, 10*time.Second)
	a.setStatus(t, defaultEvents, broker.Disabled)

	p := launch(t, a.env, "cancel", "r0")
	p.wantExit(t, exitFailure, patience)
	var e ending
	if err := json.Unmarshal([]byte(p.out.text()), &e); err != nil || e.Data.Outcome != worker.EndCancelled || !strings.HasSuffix(e.ID, "/end") {
		t.Errorf("stdout has %q (%v), want the event", p.out.text(), err)
	}
	if text := p.err.text(); !strings.Contains(text, "the event could not be published") {
		t.Errorf("stderr has %q, want what happened", text)
	}
	a.wantNothingLeft(t, 0)
}

// TestParkedTable has a terminal that is too narrow, and a sender who means it ill.
func TestParkedTable(t *testing.T) {
	t.Parallel()
	now := time.Now()
	requests := []worker.Waiting{
		{RequestID: "11ae6ca1-6c47-4051-ab43-3550aee86efb", ConnectionID: connectionID(7), Why: worker.WaitConflict, RequestedAt: now.Add(-3 * time.Hour),
			DueAt: now.Add(50*time.Second + time.Second/2), Hops: 12, Polls: 3},
		{RequestID: "r\x1b[2J", Selector: samplePool, Why: "\u202e", RequestedAt: now.Add(-72 * time.Hour), DueAt: now.Add(-time.Second), Ticket: &deletion.Ticket{ID: "CHG1"}},
	}
	for width, want := range map[int]string{
		0: `REQUEST                               CONNECTION               WHY       DUE  AGE  HOPS  POLLS  TICKET
11ae6ca1-6c47-4051-ab43-3550aee86efb  sample-mhsm/c7           conflict  50s  3h   12    3      -
r?[2J                                 managedHSMs/sample-mhsm  ?         now  3d   0     0      CHG1
2 requests wait.
`,
		80: `REQUEST                               CONNECTION  WHY       DUE  AGE  HOPS  POL…
11ae6ca1-6c47-4051-ab43-3550aee86efb  …e-mhsm/c7  conflict  50s  3h   12    3  …
r?[2J                                 …mple-mhsm  ?         now  3d   0     0  …
2 requests wait.
`} {
		var out strings.Builder
		view := new(parkedCmd).newView(&out, width)
		if err := view.print(requests); err != nil {
			t.Fatal(err)
		}
		view.close()
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("width %d (-want +got):\n%s", width, diff)
		}
	}
}

// TestParkedMany lists a queue full of requests in a moment, and without holding them.
func TestParkedMany(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds: 100,000 messages are sent first")
	}
	const requests, mostTime, mostMemory = 100_000, 20 * time.Second, 128 << 20
	a := startAzure(t, 0, arm.Script{})
	a.fill(t, requests, time.Now().Add(day))
	cmd := exec.CommandContext(t.Context(), "hsmsweep", "parked", "--json")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), noRaceNap}, a.env...)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var first time.Duration
	n, memory := 0, 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch n++; n {
		case 1:
			first = time.Since(began)
		case requests - requests/10: // it has not ended yet
			memory = peakMemory(t, cmd.Process.Pid)
		}
	}
	if err := cmd.Wait(); err != nil || n != requests {
		t.Errorf("%d lines and %v, want %d", n, err, requests)
	}
	took := time.Since(began)
	t.Logf("the first line came after %s, all after %s; %d MB", first, took, memory>>20)
	if first > took/2 || took > mostTime || memory > mostMemory {
		t.Errorf("the first line took %s, all %s and %d MB, want at most %s and %d MB, and to see something soon", first, took, memory>>20, mostTime, mostMemory>>20)
	}
}

// peakMemory is the most that a process has had in memory so far, in bytes; 0 where the system does not tell. The rusage of its end would
// not do: it has what this process had when it forked.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	_, text, found := strings.Cut(string(status), "VmHWM:")
	var kilobytes int
	if _, err := fmt.Sscan(text, &kilobytes); err != nil || !found {
		t.Fatalf("no peak in %q: %v", status, err)
	}
	return kilobytes << 10
}

// sender is a client of the queue that ends with the test.
func (a *azure) sender(t *testing.T) *azservicebus.Sender {
	t.Helper()
	client, err := azservicebus.NewClientFromConnectionString(emulator.ConnectionString(a.addr), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeClient(context.Background(), client) })
	sender, err := client.NewSender(defaultQueue, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sender
}

// fill sends a request for each of n connections, in batches, to be received at the given time.
func (a *azure) fill(t *testing.T, n int, at time.Time) {
	t.Helper()
	sender := a.sender(t)
	for sent := 0; sent < n; {
		batch, err := sender.NewMessageBatch(context.Background(), nil)
		for err == nil && sent < n {
			body := bytes.Replace([]byte(`{"connectionId":"ID"}`), []byte("ID"), []byte(connectionID(sent)), 1)
			if err = batch.AddMessage(&azservicebus.Message{MessageID: new(fmt.Sprint("m", sent)), Body: body, ScheduledEnqueueTime: &at}, nil); err == nil {
				sent++
			}
		}
		if err == nil || errors.Is(err, azservicebus.ErrMessageTooLarge) {
			err = sender.SendMessageBatch(context.Background(), batch, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
