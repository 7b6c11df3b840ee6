package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"hsmsweep/internal/emulator/arm"
)

// A collector receives what OpenTelemetry exports, and keeps it.
type collector struct {
	coltrace.UnimplementedTraceServiceServer

	mu        sync.Mutex
	spans     []*trace.Span
	metrics   map[string]bool
	lines     map[string]string // the trace of each log line's message, in hexadecimal
	resources []*resource.Resource
}

// Export is the trace service's.
func (c *collector) Export(_ context.Context, r *coltrace.ExportTraceServiceRequest) (*coltrace.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range r.ResourceSpans {
		c.resources = append(c.resources, of.Resource)
		for _, scope := range of.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
	return &coltrace.ExportTraceServiceResponse{}, nil
}

type metricsCollector struct {
	colmetrics.UnimplementedMetricsServiceServer
	*collector
}

// Export is the metrics service's.
func (c metricsCollector) Export(_ context.Context, r *colmetrics.ExportMetricsServiceRequest) (*colmetrics.ExportMetricsServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range r.ResourceMetrics {
		c.resources = append(c.resources, of.Resource)
		for _, scope := range of.ScopeMetrics {
			for _, m := range scope.Metrics {
				c.metrics[m.Name] = true
			}
		}
	}
	return &colmetrics.ExportMetricsServiceResponse{}, nil
}

type logsCollector struct {
	collogs.UnimplementedLogsServiceServer
	*collector
}

// Export is the logs service's.
func (c logsCollector) Export(_ context.Context, r *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range r.ResourceLogs {
		c.resources = append(c.resources, of.Resource)
		for _, scope := range of.ScopeLogs {
			for _, line := range scope.LogRecords {
				c.lines[line.Body.GetStringValue()] = string(line.TraceId)
			}
		}
	}
	return &collogs.ExportLogsServiceResponse{}, nil
}

// overHTTP serves OTLP as protobuf over HTTP and returns its URL.
func (c *collector) overHTTP(t *testing.T) string {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", received(c.Export))
	mux.HandleFunc("POST /v1/metrics", received(metricsCollector{collector: c}.Export))
	mux.HandleFunc("POST /v1/logs", received(logsCollector{collector: c}.Export))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// received reads a request as protobuf, and answers with what take returns.
func received[Q any, Request interface {
	*Q
	proto.Message
}, Response proto.Message](take func(context.Context, Request) (Response, error)) http.HandlerFunc {
	return func(out http.ResponseWriter, in *http.Request) {
		body, err := io.ReadAll(in.Body)
		var r Request = new(Q)
		if err == nil {
			err = proto.Unmarshal(body, r)
		}
		if err != nil || in.Header.Get("Content-Type") != "application/x-protobuf" {
			http.Error(out, "not protobuf", http.StatusBadRequest)
			return
		}
		answer, _ := take(in.Context(), r)
		text, _ := proto.Marshal(answer)
		out.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = out.Write(text)
	}
}

// overGRPC serves OTLP over gRPC, as the managed agent of Container Apps does.
func (c *collector) overGRPC(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	coltrace.RegisterTraceServiceServer(server, c)
	colmetrics.RegisterMetricsServiceServer(server, metricsCollector{collector: c})
	collogs.RegisterLogsServiceServer(server, logsCollector{collector: c})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // it ends with Stop
	}()
	t.Cleanup(func() { server.Stop(); <-ended })
	return "http://" + listener.Addr().String() + "/"
}

// TestOTLP has the processes of submit and run export to a collector, by nothing but the standard variables: over HTTP, and as a
// container app with the managed agent is told to.
func TestOTLP(t *testing.T) {
	t.Parallel()
	for protocol, serve := range map[string]func(*collector, *testing.T) string{"http/protobuf": (*collector).overHTTP, "grpc": (*collector).overGRPC} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			c := &collector{metrics: map[string]bool{}, lines: map[string]string{}}
			a := startAzure(t, 1, arm.Script{Deletes: []arm.Answer{started(arm.Operation{Polls: 1, RetryAfter: "1"})}})
			a.env = append(a.env, "OTEL_EXPORTER_OTLP_ENDPOINT="+serve(c, t), "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol, "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test")
			w := a.worker(t)
			a.submit(t, 1)
			e := a.ended(t, 1)[0]
			w.terminate(t)
			w.wantExit(t, 0, 10*time.Second)

			c.mu.Lock()
			defer c.mu.Unlock()
			kinds := map[string]int{}
			for _, s := range c.spans {
				kinds[s.Name]++
				if string(s.TraceId) != string(c.spans[0].TraceId) {
					t.Errorf("span %s is in trace %x, the first in %x", s.Name, s.TraceId, c.spans[0].TraceId)
				}
			}
			for name, want := range map[string]int{"send connection-deletes": 1, "process connection-deletes": 3, "DELETE": 1, "GET": 2,
				"schedule connection-deletes": 2, "complete connection-deletes": 3, "send connection-events": 1} {
				if kinds[name] != want {
					t.Errorf("%d spans named %s, want %d", kinds[name], name, want)
				}
			}
			for _, name := range []string{"hsmsweep.requests.ended", "hsmsweep.drain.duration", "messaging.process.duration", "http.client.request.duration"} {
				if !c.metrics[name] {
					t.Errorf("no metric %s", name)
				}
			}
			if id, ok := c.lines["ended"]; !ok || id != string(c.spans[0].TraceId) {
				t.Errorf("of %d log lines that of the end is in trace %x, want %x", len(c.lines), id, c.spans[0].TraceId)
			}
			if _, ok := c.lines["drained"]; !ok {
				t.Error("the last line of the log is missing")
			}
			for _, r := range c.resources {
				if text := r.String(); !strings.Contains(text, "service.instance.id") || !strings.Contains(text, "deployment.environment.name") {
					t.Errorf("a resource is described as %s", text)
				}
			}
			if e.Data.Outcome != "deleted" {
				t.Errorf("ended as %s", e.Data.Outcome)
			}
		})
	}
}

// TestCollectorIsGone has exports go nowhere: the work goes on, the log says so, and the process ends in time.
func TestCollectorIsGone(t *testing.T) {
	t.Parallel()
	a := startAzure(t, 1, arm.Script{})
	a.env = append(a.env, "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TIMEOUT=1000")
	w := a.worker(t)
	a.submit(t, 1)
	if e := a.ended(t, 1)[0]; e.Data.Outcome != "deleted" {
		t.Errorf("ended as %s, want deleted", e.Data.Outcome)
	}
	w.terminate(t)
	w.wantExit(t, 0, 15*time.Second)
	w.wantLine(t, "not exported")
}
