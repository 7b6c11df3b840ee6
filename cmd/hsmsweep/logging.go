package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

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

// isTerminal tells whether a person is at the other end of a stream.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// alike takes the lines that another handler takes.
type alike struct {
	slog.Handler
	other slog.Handler
}

func (h alike) Enabled(ctx context.Context, level slog.Level) bool {
	return h.other.Enabled(ctx, level)
}
func (h alike) WithAttrs(attrs []slog.Attr) slog.Handler {
	return alike{h.Handler.WithAttrs(attrs), h.other}
}
func (h alike) WithGroup(name string) slog.Handler { return alike{h.Handler.WithGroup(name), h.other} }
