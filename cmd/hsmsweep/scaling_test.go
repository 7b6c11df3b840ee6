package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"

	"hsmsweep/internal/emulator"
	"hsmsweep/internal/emulator/arm"
)

var scalingRequests = flag.Int("scaling.requests", 5000, "requests of the burst in TestScaling")

// A scaler does what KEDA does with the rule in deploy/, but for a second where KEDA takes a minute: it reads the queue's active
// messages through the administration API and starts and stops processes.
type scaler struct {
	azure    *azure
	queue    *admin.Client
	replicas []*process
	quiet    time.Time // since when nothing has been active
	seen     []look
}

// A look is what the scaler saw, and what it came to.
type look struct {
	at                        time.Duration
	active, parked, processes int
}

// What is scaled here. KEDA's own are 30 s, 300 s and 10; an app may have a target of its own.
const (
	pollingInterval = 500 * time.Millisecond
	cooldownPeriod  = 3 * time.Second
	perReplica      = 100 // active messages
	mostReplicas    = 10
)

func (s *scaler) poll(t *testing.T, began time.Time) look {
	t.Helper()
	counts, err := s.queue.GetQueueRuntimeProperties(t.Context(), defaultQueue, nil)
	if err != nil || counts == nil {
		t.Fatalf("the queue's counts: %v", err)
	}
	active := int(counts.ActiveMessageCount)
	now := time.Now()
	if active > 0 {
		s.quiet = time.Time{}
	} else if s.quiet.IsZero() {
		s.quiet = now
	}
	switch wanted := min(mostReplicas, (active+perReplica-1)/perReplica); {
	case wanted > len(s.replicas): // at most double, and one to begin with
		for range min(wanted-len(s.replicas), max(1, len(s.replicas))) {
			s.replicas = append(s.replicas, s.azure.worker(t, "--concurrency=32", "--log-level=warn"))
		}
	case active == 0 && now.Sub(s.quiet) >= cooldownPeriod:
		s.toZero(t)
	}
	l := look{now.Sub(began), active, int(counts.ScheduledMessageCount), len(s.replicas)}
	s.seen = append(s.seen, l)
	return l
}

// toZero drains every process, as Container Apps does.
func (s *scaler) toZero(t *testing.T) {
	t.Helper()
	for _, p := range s.replicas {
		p.terminate(t)
	}
	for _, p := range s.replicas {
		p.wantExit(t, 0, patience)
	}
	s.replicas = nil
}

// TestScaling has a burst of requests that all park: replicas come, go down to none while everything waits, and come again when polls
// are due. Nothing is lost, and nothing is done twice.
func TestScaling(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute: ten processes, and operations that last")
	}
	n := *scalingRequests
	const lasts = 30 * time.Second
	seconds := fmt.Sprint(int(lasts.Seconds()))
	a := startAzure(t, n, arm.Script{Deletes: []arm.Answer{{Status: 202, RetryAfter: seconds, Operation: &arm.Operation{Seconds: lasts.Seconds(), RetryAfter: "1"}}}})
	s := &scaler{azure: a, queue: a.administration(t)}
	a.fill(t, n, time.Now())
	began := time.Now()
	wentUp, atRest, cameAgain := 0, false, 0
	ticks := time.NewTicker(pollingInterval)
	defer ticks.Stop()
	for deadline := began.Add(4 * time.Minute); ; <-ticks.C {
		l := s.poll(t, began)
		switch {
		case !atRest:
			wentUp = max(wentUp, l.processes)
			atRest = l.active == 0 && l.parked == n && l.processes == 0
		default:
			cameAgain = max(cameAgain, l.processes)
		}
		if atRest && l.active+l.parked+l.processes == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s:\n%s", time.Since(began), s.chart())
		}
	}
	t.Logf("%d requests:\n%s", n, s.chart())
	// How many depends on the machine: a quick one is done with the burst before all have started. Polls are spread as they are due, so that
	// one process may do for them.
	if wentUp < min(2, n/perReplica) || cameAgain == 0 {
		t.Errorf("%d replicas at first and %d for the polls, want several, and some", wentUp, cameAgain)
	}
	a.ended(t, n)
	a.wantNothingLeft(t, n)
	deletes := 0
	for _, e := range a.ARM.Exchanges() {
		if e.Method == http.MethodDelete {
			deletes++
		}
	}
	if deletes != n {
		t.Errorf("ARM had %d DELETEs for %d requests", deletes, n)
	}
}

// administration is a client of the administration API.
func (a *azure) administration(t *testing.T) *admin.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.Authority.Pool()}}
	t.Cleanup(transport.CloseIdleConnections)
	client, err := admin.NewClientFromConnectionString(emulator.ConnectionString(a.addr), &admin.ClientOptions{
		ClientOptions: azcore.ClientOptions{Transport: &http.Client{Transport: transport}}})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// chart draws what the scaler saw, a column a second.
func (s *scaler) chart() string {
	rows := []struct {
		name string
		of   func(look) int
	}{
		{"active", func(l look) int { return l.active }}, {"parked", func(l look) int { return l.parked }}, {"replicas", func(l look) int { return l.processes }},
	}
	var out strings.Builder
	for _, row := range rows {
		var columns []int
		for _, l := range s.seen {
			second := int(l.at.Seconds())
			for len(columns) <= second {
				columns = append(columns, 0)
			}
			columns[second] = max(columns[second], row.of(l))
		}
		most := slices.Max(columns)
		fmt.Fprintf(&out, "%-9s %s  most: %d\n", row.name, bars(columns, most), most)
	}
	fmt.Fprintf(&out, "%-9s ", "")
	last := int(s.seen[len(s.seen)-1].at.Seconds())
	for second := 0; second <= last; second += 10 {
		fmt.Fprintf(&out, "%-10s", fmt.Sprint("│", second, " s"))
	}
	return out.String() + "\n"
}

// bars draws numbers as eighths of the largest; what is not nothing is seen.
func bars(columns []int, most int) string {
	eighths := []rune(" ▁▂▃▄▅▆▇█")
	var out strings.Builder
	for _, n := range columns {
		height := 0
		if n > 0 {
			height = max(1, n*(len(eighths)-1)/most)
		}
		out.WriteRune(eighths[height])
	}
	return out.String()
}
