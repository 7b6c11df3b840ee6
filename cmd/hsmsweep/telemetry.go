package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// tracing is the provider of spans. It makes ids even where nothing is exported, so that logs and events always have one.
type tracing struct{ *sdktrace.TracerProvider }

// startTracing exports by the standard OTEL_* variables.
func startTracing(ctx context.Context) (tracing, error) {
	about, err := describe(ctx)
	if err != nil {
		return tracing{}, err
	}
	options := []sdktrace.TracerProviderOption{sdktrace.WithResource(about)}
	if exports("TRACES") {
		exporter, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return tracing{}, wrongExporter(err)
		}
		options = append(options, sdktrace.WithBatcher(exporter))
	}
	return tracing{sdktrace.NewTracerProvider(options...)}, nil
}

// stop sends what is left.
func (t tracing) stop(log *slog.Logger) { flush(log, "spans", t.Shutdown) }

// telemetry is everything by which a worker is seen from outside, except for its lines on stderr.
type telemetry struct {
	tracing
	meter   *sdkmetric.MeterProvider
	metrics http.Handler           // for Prometheus to scrape
	logs    *sdklog.LoggerProvider // nil: logs are not exported
}

// startTelemetry exports spans, metrics and logs by the standard OTEL_* variables, each by itself. Metrics can be scraped in any case.
func startTelemetry(ctx context.Context) (*telemetry, error) {
	about, err := describe(ctx)
	if err != nil {
		return nil, err
	}
	t := &telemetry{}
	if t.tracing, err = startTracing(ctx); err != nil {
		return nil, err
	}
	scraped := prometheus.NewRegistry()
	scraper, err := otelprometheus.New(otelprometheus.WithRegisterer(scraped), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return nil, err
	}
	t.metrics = promhttp.HandlerFor(scraped, promhttp.HandlerOpts{})
	readers := []sdkmetric.Option{sdkmetric.WithResource(about), sdkmetric.WithReader(scraper)}
	if exports("METRICS") {
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return nil, wrongExporter(err)
		}
		readers = append(readers, sdkmetric.WithReader(reader))
	}
	t.meter = sdkmetric.NewMeterProvider(readers...)
	if exports("LOGS") {
		exporter, err := autoexport.NewLogExporter(ctx)
		if err != nil {
			return nil, wrongExporter(err)
		}
		t.logs = sdklog.NewLoggerProvider(sdklog.WithResource(about), sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)))
	}
	return t, nil
}

// logger is a logger whose lines are exported too. What goes wrong with exporting is for the local one alone to say.
func (t *telemetry) logger(local *slog.Logger) *slog.Logger {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		local.Warn("telemetry is not exported; the work goes on", "error", err)
	}))
	if t.logs == nil {
		return local
	}
	exported := otelslog.NewHandler("hsmsweep", otelslog.WithLoggerProvider(t.logs))
	return slog.New(slog.NewMultiHandler(local.Handler(), alike{exported, local.Handler()}))
}

// stop sends what is left, the last lines of the log at the end.
func (t *telemetry) stop(log *slog.Logger) {
	t.tracing.stop(log)
	flush(log, "metrics", t.meter.Shutdown)
	if t.logs != nil {
		flush(log, "log lines", t.logs.Shutdown)
	}
}

// flush bounds the end of an exporter, whose collector may be gone.
func flush(log *slog.Logger, what string, shutdown func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := shutdown(ctx); err != nil {
		log.Warn("the last "+what+" were not exported", "error", err)
	}
}

// exports tells whether a signal is exported. Without any variable nothing is: the standard's default would be a collector on this
// host, which is seldom there.
func exports(signal string) bool {
	return os.Getenv("OTEL_"+signal+"_EXPORTER") != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}

// describe says who tells: what OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say wins.
func describe(ctx context.Context) (*resource.Resource, error) {
	replica, _ := os.Hostname() // in a container app the replica's name
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(attribute.String("service.name", "hsmsweep"),
		attribute.String("service.version", version), attribute.String("service.instance.id", replica)), resource.WithFromEnv())
	if err != nil {
		return nil, config(fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err))
	}
	return about, nil
}

func wrongExporter(err error) error {
	return config(fmt.Errorf("OpenTelemetry's exporter (OTEL_* variables): %w", err))
}
