package bench

import (
	"fmt"
	"os"
	"testing"
	"time"

	"hsmsweep/internal/emulator/servicebus/server"
)

// longWait is an operation that does not end while it is looked at.
const longWait = time.Hour

// BenchmarkParked measures what a worker holds while its requests wait, and what it does then: nothing, that is.
func BenchmarkParked(b *testing.B) {
	for _, n := range []int{1_000, 20_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var w waiting
			for b.Loop() {
				w = park(b, n, 10*time.Second)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(w.resident, "resident-MiB")
			b.ReportMetric(w.peak, "peak-MiB")
			b.ReportMetric(100*w.busy, "idle-CPU-%")
		})
	}
}

// waiting is how a worker was while its requests waited.
type waiting struct {
	resident, peak float64 // MiB
	busy           float64 // processor time, as a part of the time that passed
}

func park(tb testing.TB, requests int, look time.Duration) waiting {
	azure := startAzure(tb, seed(tb, scenario{requests: requests, wait: longWait}))
	worker := startConsumer(tb, azure, "")
	pid := worker.Process.Pid
	r := measure(tb, azure, pid, scenario{name: "parking", requests: requests, parks: true})
	w := waiting{peak: r.peak}
	before, began := cpu(tb, pid), time.Now()
	<-time.After(look)
	w.busy = (cpu(tb, pid) - before).Seconds() / time.Since(began).Seconds()
	w.resident = memory(tb, pid, "VmRSS")
	worker.end(tb)
	azure.process.end(tb)
	return w
}

// BenchmarkScale has one worker do more and more requests: each should cost the same.
func BenchmarkScale(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var r result
			for b.Loop() {
				r = run(b, scenario{name: "worker", requests: n})
			}
			report(b, r)
		})
	}
}

// BenchmarkStart measures the time from a worker's start to its first message.
func BenchmarkStart(b *testing.B) {
	var total time.Duration
	n := 0
	for b.Loop() {
		total += firstReceive(b)
		n++
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(total.Milliseconds())/float64(n), "ms-to-first-receive")
	b.ReportMetric(size(b), "binary-MiB")
}

func firstReceive(tb testing.TB) time.Duration {
	azure := startAzure(tb, "")
	client := newClient(tb, azure)
	submit(tb, client, warming, 1, time.Now())
	began := time.Now()
	worker := startConsumer(tb, azure, "")
	for azure.counts(tb)[server.Operation{Name: "deliver", Entity: queueName}] == 0 {
		if time.Since(began) > patience {
			tb.Fatalf("no message was handed out within %s", patience)
		}
		<-time.After(time.Millisecond)
	}
	took := time.Since(began)
	worker.end(tb)
	azure.process.end(tb)
	return took
}

// size is the binary's, in MiB, stripped as in the image.
func size(tb testing.TB) float64 {
	info, err := os.Stat(hsmsweep)
	if err != nil {
		tb.Fatal(err)
	}
	return float64(info.Size()) / (1 << 20)
}

func TestParked(t *testing.T) {
	t.Parallel()
	const most = 64 // MiB
	if w := park(t, concurrency, 100*time.Millisecond); w.peak > most {
		t.Errorf("%.0f MiB at most with %d requests parked, want %d", w.peak, concurrency, most)
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	t.Logf("%s to the first message", firstReceive(t))
	const most = 40 // MiB
	if size := size(t); size > most {
		t.Errorf("the binary has %.1f MiB, want %d at most", size, most)
	}
}
