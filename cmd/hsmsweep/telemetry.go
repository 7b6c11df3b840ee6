package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/term"
)

// newLogger writes JSON, or text where a person watches, with the trace and span of every line.
func newLogger(out io.Writer, format, level string) (*slog.Logger, error) {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, config(fmt.Errorf("--log-level is %q, expected debug, info, warn or error", level))
	}
	if format == "" {
		format = "json"
		if isTerminal(out) {
			format = "text"
		}
	}
	options := &slog.HandlerOptions{Level: least}
	switch format {
	case "json":
		return slog.New(traced{slog.NewJSONHandler(out, options)}), nil
	case "text":
		return slog.New(traced{slog.NewTextHandler(out, options)}), nil
	}
	return nil, config(fmt.Errorf("--log-format is %q, expected json or text", format))
}

// traced adds the ids of the context's span to a line.
type traced struct{ slog.Handler }

func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		r.AddAttrs(slog.String("traceId", span.TraceID().String()), slog.String("spanId", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }
func (h traced) WithGroup(name string) slog.Handler       { return traced{h.Handler.WithGroup(name)} }

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// tracing is the provider of spans. It makes ids even where nothing is exported, so that logs and events always have one.
type tracing struct{ *sdktrace.TracerProvider }

// startTracing exports by the standard OTEL_* variables. Without any of them nothing is exported: the standard's default
// would be a collector on this host, which is seldom there.
func startTracing(ctx context.Context) (tracing, error) {
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(attribute.String("service.name", "hsmsweep")), resource.WithFromEnv())
	if err != nil {
		return tracing{}, config(fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err))
	}
	options := []sdktrace.TracerProviderOption{sdktrace.WithResource(about)}
	if os.Getenv("OTEL_TRACES_EXPORTER") != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" {
		exporter, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return tracing{}, config(fmt.Errorf("OpenTelemetry's exporter (OTEL_* variables): %w", err))
		}
		options = append(options, sdktrace.WithBatcher(exporter))
	}
	return tracing{sdktrace.NewTracerProvider(options...)}, nil
}

func (t tracing) stop(log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := t.Shutdown(ctx); err != nil {
		log.Warn("the last spans were not exported", "error", err)
	}
}

// serveHealth answers the probes: /healthz while the process lives, /readyz while the worker is of use.
func serveHealth(addr string, w interface{ Ready() error }, log *slog.Logger) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(out http.ResponseWriter, _ *http.Request) { fmt.Fprintln(out, "ok") })
	mux.HandleFunc("GET /readyz", func(out http.ResponseWriter, _ *http.Request) {
		if err := w.Ready(); err != nil {
			http.Error(out, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(out, "ok")
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the probes are not answered any more", "error", err)
		}
	}()
	log.Info("answering probes", "addr", listener.Addr().String())
	return func() {
		// Probes are short; whoever still asks while the process ends is told by the closed connection.
		_ = server.Close()
		<-ended
	}, nil
}
