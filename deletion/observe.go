package deletion

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// An observer tells of every request to ARM, and of its answer, by OpenTelemetry's conventions for HTTP clients: a span each, and
// how long it took. It is a policy of the pipeline, behind the one that adds the token, so that what goes out again after a
// challenge counts again.
type observer struct {
	tracer   trace.Tracer
	duration metric.Float64Histogram // seconds, the answer's body included
	trust    trust
}

// newObserver makes an observer. Without a provider nothing is told.
func newObserver(tracer trace.TracerProvider, meter metric.MeterProvider, t trust) (observer, error) {
	if tracer == nil {
		tracer = tracenoop.NewTracerProvider()
	}
	if meter == nil {
		meter = metricnoop.NewMeterProvider()
	}
	duration, err := meter.Meter("hsmsweep/deletion").Float64Histogram("http.client.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of requests to ARM, the answer's body included."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 30, 60))
	return observer{tracer.Tracer("hsmsweep/deletion"), duration, t}, err
}

// Do is azcore's.
func (o observer) Do(req *policy.Request) (*http.Response, error) {
	u, method := req.Raw().URL, req.Raw().Method
	ctx, span := o.tracer.Start(req.Raw().Context(), method, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", method),
		attribute.String("url.full", told(u)),
		attribute.String("server.address", u.Hostname()),
		port(u),
	))
	defer span.End()
	began := time.Now()
	resp, err := req.WithContext(ctx).Next()
	labels := append(o.trust.peer(u), attribute.String("http.request.method", method))
	if err != nil {
		failure := attribute.String("error.type", failureOf(err))
		span.SetAttributes(failure)
		span.SetStatus(codes.Error, "")
		labels = append(labels, failure)
	} else {
		labels = append(labels, answered(span, resp)...)
	}
	o.duration.Record(ctx, time.Since(began).Seconds(), metric.WithAttributes(labels...))
	return resp, err
}

// answered notes an answer on the span, and returns what of it is a label of the metric, too.
func answered(span trace.Span, resp *http.Response) []attribute.KeyValue {
	status := []attribute.KeyValue{attribute.Int("http.response.status_code", resp.StatusCode)}
	if resp.StatusCode >= http.StatusBadRequest {
		status = append(status, attribute.String("error.type", strconv.Itoa(resp.StatusCode)))
		span.SetStatus(codes.Error, "")
	}
	span.SetAttributes(status...)
	if id := resp.Header.Get("X-Ms-Request-Id"); id != "" {
		span.SetAttributes(attribute.String("azure.service.request.id", cut(id, 128)))
	}
	if wait := resp.Header.Get("Retry-After"); wait != "" {
		span.SetAttributes(attribute.StringSlice("http.response.header.retry-after", []string{cut(wait, 64)}))
	}
	return status
}

// told is as much of a URL as may be told: of an operation's query nobody knows what it grants.
func told(u *url.URL) string {
	plain := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	if version := u.Query().Get("api-version"); version != "" {
		plain.RawQuery = "api-version=" + url.QueryEscape(version)
	}
	return cut(plain.String(), 1024)
}

// peer is a host as labels, of which there are few: ARM has subdomains without number, and a --poll-host may have any port.
func (t trust) peer(u *url.URL) []attribute.KeyValue {
	host, home := strings.ToLower(u.Hostname()), strings.ToLower(t.arm.Hostname())
	if strings.HasSuffix(host, "."+home) {
		host = "*." + home
	}
	labels := []attribute.KeyValue{attribute.String("server.address", host)}
	if p := portOf(u); p == portOf(t.arm) || p == "443" || slices.Contains(t.allowed, net.JoinHostPort(host, p)) {
		labels = append(labels, port(u))
	}
	return labels
}

func port(u *url.URL) attribute.KeyValue {
	n, _ := strconv.Atoi(portOf(u)) // it was parsed as a URL's
	return attribute.Int("server.port", n)
}

// failureOf is why there was no answer, in one of three words.
func failureOf(err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return "_OTHER"
}
