package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"hsmsweep/deletion"
	"hsmsweep/internal/emulator"
	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/queue"
	"hsmsweep/worker"
)

// forProfiles is enough for a profile of some seconds.
const forProfiles = 30_000

// BenchmarkWorker has the worker in this process, so that -cpuprofile and its like see it and nothing else.
func BenchmarkWorker(b *testing.B) {
	var r result
	for b.Loop() {
		r = workHere(b, forProfiles)
	}
	report(b, r)
}

// BenchmarkEmulator has the emulator in this process, and serves a loop or the worker.
func BenchmarkEmulator(b *testing.B) {
	for _, s := range append(immediate(forProfiles).base, immediate(forProfiles).others...) {
		b.Run(s.name, func(b *testing.B) {
			var r result
			for b.Loop() {
				r = serveHere(b, s)
			}
			report(b, r)
			b.ReportMetric(r.perSecond()*r.messages(), "messages/s")
		})
	}
}

func workHere(tb testing.TB, n int) result {
	azure := startAzure(tb, "")
	w, q := newWorker(tb, azure)
	ctx, stop := context.WithCancel(tb.Context())
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := measure(tb, azure, os.Getpid(), scenario{name: "worker in this process", requests: n})
	runtime.ReadMemStats(&after)
	r.allocations = int(after.Mallocs-before.Mallocs) / (n + 2*concurrency) // submitting them included
	stop()
	running.Wait()
	if err := q.Close(context.WithoutCancel(ctx)); err != nil {
		tb.Error(err)
	}
	azure.process.end(tb)
	return r
}

// newWorker puts a worker together as hsmsweep run does.
func newWorker(tb testing.TB, azure azure) (*worker.Worker, *queue.Queue) {
	tb.Helper()
	logFile, err := os.CreateTemp(tb.TempDir(), "log")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { logFile.Close() })
	log := slog.New(slog.NewJSONHandler(logFile, nil))
	tracing := sdktrace.NewTracerProvider()
	token, err := fetchToken(tb.Context(), azure.variable)
	if err != nil {
		tb.Fatal(err)
	}
	transport := deletion.NewTransport()
	authority, err := os.ReadFile(azure.variable("SSL_CERT_FILE"))
	if err != nil {
		tb.Fatal(err)
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
	transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(authority)
	client, err := deletion.NewClient(deletion.Options{Credential: token, APIVersion: "2021-10-01", Transport: transport, Tracer: tracing,
		Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: azure.variable("HSMSWEEP_ARM_ENDPOINT"), Audience: emulator.Audience}}}})
	if err != nil {
		tb.Fatal(err)
	}
	q, err := queue.Open(func() (*azservicebus.Client, error) {
		return azservicebus.NewClientFromConnectionString(azure.variable("HSMSWEEP_CONNECTION_STRING"), nil)
	}, queueName, eventsName, log)
	if err != nil {
		tb.Fatal(err)
	}
	policy := worker.Policy{DefaultRetryAfter: 15 * time.Second, MaxRetryAfter: time.Hour, GiveUpAfter: 24 * time.Hour, MaxDeliveries: 8}
	return worker.New(worker.Options{Queue: q, QueueName: queueName, ARM: client, Policy: policy, Concurrency: concurrency,
		Grace: patience, Log: log, Tracer: tracing}), q
}

func serveHere(tb testing.TB, s scenario) result {
	azure := serveAzure(tb)
	consumer := startConsumer(tb, azure, s.loop)
	r := measure(tb, azure, consumer.Process.Pid, s)
	consumer.end(tb)
	return r
}

// serveAzure is the emulator in this process.
func serveAzure(tb testing.TB) azure {
	tb.Helper()
	services, err := emulator.New(emulator.Options{Entities: broker.DefaultConfig(), ARM: arm.Options{AutoCreate: true}}, "127.0.0.1")
	if err != nil {
		tb.Fatal(err)
	}
	listeners, err := emulator.Loopback()
	if err != nil {
		tb.Fatal(err)
	}
	services.Serve(listeners[0], listeners[1], listeners[2])
	tb.Cleanup(func() {
		if err := services.Close(); err != nil {
			tb.Error(err)
		}
	})
	authority := filepath.Join(tb.TempDir(), "authority.pem")
	if err := os.WriteFile(authority, services.Authority.PEM(), 0o600); err != nil {
		tb.Fatal(err)
	}
	return azure{pid: os.Getpid(), env: []string{
		"HSMSWEEP_CONNECTION_STRING=" + emulator.ConnectionString(listeners[0].Addr().String()),
		"HSMSWEEP_ARM_ENDPOINT=https://" + listeners[1].Addr().String(),
		"HSMSWEEP_ARM_AUDIENCE=" + emulator.Audience,
		"SSL_CERT_FILE=" + authority,
		"IDENTITY_ENDPOINT=" + emulator.IdentityURL(listeners[2].Addr().String()),
		"IDENTITY_HEADER=" + services.Identity.Header(),
	}}
}

func TestInProcess(t *testing.T) {
	t.Parallel()
	for _, r := range []result{workHere(t, concurrency), serveHere(t, immediate(concurrency).others[0])} {
		if r.sends != concurrency {
			t.Errorf("%s: %d events, want %d", r.name, r.sends, concurrency)
		}
	}
}
