package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// A recorder keeps the spans that ended.
type recorder struct {
	mu    sync.Mutex
	ended []sdktrace.ReadOnlySpan
}

// ExportSpans and Shutdown are the SDK's.
func (r *recorder) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = append(r.ended, spans...)
	return nil
}
func (r *recorder) Shutdown(context.Context) error { return nil }

// traceOf gives the spans of the trace in which a request was handled, in the order of their beginnings.
func (r *recorder) traceOf(requestID string) []sdktrace.ReadOnlySpan {
	r.mu.Lock()
	defer r.mu.Unlock()
	var id trace.TraceID
	for _, s := range r.ended {
		if attributeOf(s, "hsmsweep.request.id").AsString() == requestID {
			id = s.SpanContext().TraceID()
		}
	}
	spans := slices.DeleteFunc(slices.Clone(r.ended), func(s sdktrace.ReadOnlySpan) bool { return s.SpanContext().TraceID() != id })
	slices.SortStableFunc(spans, func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	return spans
}

func attributeOf(s sdktrace.ReadOnlySpan, key attribute.Key) attribute.Value {
	for _, a := range s.Attributes() {
		if a.Key == key {
			return a.Value
		}
	}
	return attribute.Value{}
}

// barWidth, in characters, leaves room for words in 80 columns.
const barWidth = 30

// printWaterfall draws a request's trace: a line for its sending and for each hop, where it was worked on (█) and where it waited (░), with
// nothing held meanwhile.
func printWaterfall(out io.Writer, requestID string, spans []sdktrace.ReadOnlySpan) {
	if len(spans) == 0 {
		return
	}
	first := spans[0].StartTime()
	last := slices.MaxFunc(spans, func(a, b sdktrace.ReadOnlySpan) int { return a.EndTime().Compare(b.EndTime()) }).EndTime()
	column := func(t time.Time) int {
		return min(barWidth-1, int(t.Sub(first)*barWidth/max(last.Sub(first), 1)))
	}
	fmt.Fprintf(out, "\nThe trace of %s, %s over all its hops. █ is a step; ░ a wait, in which\nthe worker holds nothing.\n\n", requestID, seconds(last.Sub(first)))
	hops := slices.DeleteFunc(slices.Clone(spans), func(s sdktrace.ReadOnlySpan) bool {
		return s.SpanKind() != trace.SpanKindConsumer && s.Parent().IsValid()
	})
	for i, s := range hops {
		from, ends := column(s.StartTime()), barWidth
		if i+1 < len(hops) {
			ends = column(hops[i+1].StartTime())
		}
		bar := strings.Repeat(" ", from) + "█"
		if wait := attributeOf(s, "hsmsweep.wait.seconds").AsFloat64(); wait > 0 {
			bar += strings.Repeat("░", max(0, ends-from-1))
		}
		fmt.Fprintf(out, "%-6s %-*s %6s  %s\n", hopName(s), barWidth, bar, milliseconds(s), hopText(s, spans))
	}
}

func hopName(s sdktrace.ReadOnlySpan) string {
	if s.SpanKind() != trace.SpanKindConsumer {
		return "submit"
	}
	return fmt.Sprintf("hop %d", attributeOf(s, "hsmsweep.hop").AsInt64())
}

// hopText is what was done in a hop: ARM's answers, and then the wait or the end.
func hopText(hop sdktrace.ReadOnlySpan, spans []sdktrace.ReadOnlySpan) string {
	if hop.SpanKind() != trace.SpanKindConsumer {
		return "sent"
	}
	var did []string
	for _, s := range spans {
		if status := attributeOf(s, "http.response.status_code").AsInt64(); status != 0 && s.Parent().SpanID() == hop.SpanContext().SpanID() {
			did = append(did, fmt.Sprintf("%s %d", s.Name(), status))
		}
	}
	reason := attributeOf(hop, "hsmsweep.reason").AsString()
	if wait := attributeOf(hop, "hsmsweep.wait.seconds").AsFloat64(); wait > 0 {
		return strings.Join(append(did, fmt.Sprintf("waits %.1f s", wait)), ", ")
	}
	if hop.Status().Code == codes.Error {
		reason = cmp.Or(reason+" "+hop.Status().Description, reason)
	}
	return strings.Join(append(did, "event: "+reason), ", ")
}

func milliseconds(s sdktrace.ReadOnlySpan) string {
	return fmt.Sprintf("%d ms", max(1, s.EndTime().Sub(s.StartTime()).Milliseconds()))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
