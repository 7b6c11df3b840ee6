package bench

import (
	"fmt"
	"io"
	"os"
	"testing"
	"text/tabwriter"
	"time"
)

// A comparison is a consumer beside what it is held against.
type comparison struct {
	base, others []scenario // the first of base is what ratios are to
	goals        []float64  // of others: the least ratio
}

// immediate compares requests that one DELETE ends.
func immediate(n int) comparison {
	return comparison{
		base:   []scenario{{name: "bare loop", loop: bareLoop, requests: n}, {name: "bare loop, no DELETE", loop: echoLoop, requests: n}},
		others: []scenario{{name: "worker", requests: n}},
		goals:  []float64{0.9},
	}
}

// operations compares requests that ARM works on for a while. The lock-holding loop does as many as the first number says, which is enough:
// its rate is its goroutines through that while.
func operations(wait time.Duration, held int, requests ...int) comparison {
	c := comparison{base: []scenario{{name: fmt.Sprintf("lock held, %s operations", wait), loop: holdingLoop, requests: held, wait: wait}}, goals: []float64{20, 60}}
	for _, n := range requests {
		c.others = append(c.others, scenario{name: fmt.Sprintf("worker, %s operations", wait), requests: n, wait: wait})
	}
	return c
}

// BenchmarkSideBySide prints the README's table.
func BenchmarkSideBySide(b *testing.B) {
	t := newTable(os.Stdout)
	for _, c := range []comparison{immediate(20_000), operations(4*time.Second, 3*concurrency, 2_000, 10_000)} {
		c.run(b, t)
	}
	t.Flush()
}

func (c comparison) run(b *testing.B, t table) {
	var first float64
	for i, s := range append(c.base, c.others...) {
		b.Run(fmt.Sprintf("%s, %d", s.name, s.requests), func(b *testing.B) {
			var r result
			for b.Loop() {
				r = run(b, s)
			}
			report(b, r)
			if i == 0 {
				first = r.perSecond()
			}
			goal := 0.0
			if i >= len(c.base) {
				goal = c.goals[i-len(c.base)]
			}
			t.add(r, r.perSecond()/first, goal)
		})
	}
}

func report(b *testing.B, r result) {
	b.ReportMetric(0, "ns/op") // that of the processes' start, too
	b.ReportMetric(r.perSecond(), "requests/s")
	b.ReportMetric(r.messages(), "messages/request")
	b.ReportMetric(r.managed(), "management/request")
	b.ReportMetric(r.cost(r.consumerCPU), "cpu-µs/request")
	b.ReportMetric(r.cost(r.emulatorCPU), "emulator-cpu-µs/request")
	b.ReportMetric(r.peak, "peak-MiB")
	if r.allocations > 0 {
		b.ReportMetric(float64(r.allocations), "allocs/request")
	}
}

func (r result) managed() float64 { return float64(r.management) / float64(r.requests) }

// cost is the processor time of a request in microseconds.
func (r result) cost(all time.Duration) float64 {
	return float64(all.Microseconds()) / float64(r.requests)
}

// A table is Markdown, for the README.
type table struct{ *tabwriter.Writer }

func newTable(out io.Writer) table {
	t := table{tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)}
	fmt.Fprint(t, "\n| \t| requests \t| a second \t| ratio \t| goal \t| messages \t| `$management` \t| CPU s per 1,000 \t| of the emulator \t| allocations \t| peak MiB \t|\n"+
		"|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|\n")
	return t
}

// add writes a line; allocations and goals of 0 are not known, or not set.
func (t table) add(r result, ratio, goal float64) {
	least, allocations := "–", "–"
	if goal > 0 {
		least = fmt.Sprintf("≥ %g", goal)
	}
	if r.allocations > 0 {
		allocations = fmt.Sprint(r.allocations)
	}
	fmt.Fprintf(t, "| %s \t| %d \t| %.0f \t| %.2f \t| %s \t| %.2f \t| %.2f \t| %.2f \t| %.2f \t| %s \t| %.0f \t|\n", r.name, r.requests, r.perSecond(), ratio, least,
		r.messages(), r.managed(), r.cost(r.consumerCPU)/1000, r.cost(r.emulatorCPU)/1000, allocations, r.peak)
}

// TestSideBySide runs the benchmark's code once, and checks what no machine changes: how many messages a request takes.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	const few = concurrency
	quick := operations(time.Second, few, few)
	for _, c := range []comparison{immediate(few), quick} {
		for _, s := range append(c.base, c.others...) {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				steps := 1
				if s.loop == "" && s.wait > 0 {
					steps = 2 // to start the operation, and to poll it
				}
				r := run(t, s)
				if want := steps * s.requests; r.sends != want || r.deliveries < want || r.deliveries > want*5/4 {
					t.Errorf("%d requests took %d sends and %d deliveries, want %d of each, and a few more deliveries at most", s.requests, r.sends, r.deliveries, want)
				}
				if r.management > 0 {
					t.Errorf("%d requests to $management, want none", r.management)
				}
				line := newTable(t.Output())
				line.add(r, 1, 0)
				line.Flush()
			})
		}
	}
}
