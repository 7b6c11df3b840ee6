package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"hsmsweep/deletion"
	"hsmsweep/queue"
	"hsmsweep/worker"
)

type runCmd struct {
	connection
	Cloud               string        `help:"public, usgovernment or china." default:"public"`
	ArmEndpoint         string        `help:"Another ARM endpoint, for private clouds and simulators." placeholder:"URL"`
	ArmAudience         string        `help:"The token audience that goes with it." placeholder:"URL"`
	APIVersion          string        `name:"api-version" help:"ARM api-version of the operation." default:"2021-10-01"`
	PollHost            list          `help:"Further host to which an operation URL may point: HOST or HOST:PORT. Repeatable." placeholder:"HOST"`
	AllowScope          list          `help:"ARM id of a subscription, resource group or pool; a request outside all of them is refused. Repeatable." placeholder:"ID"`
	RequireStatus       list          `help:"Delete only connections in this link state, else skip. Repeatable." placeholder:"STATUS"`
	SearchScope         list          `help:"ARM id of a subscription, resource group or pool in which the connections of a private endpoint are looked for. Repeatable." placeholder:"ID"`
	ProtectLastApproved bool          `help:"Refuse to delete the last Approved connection of a pool whose public access is off."`
	DryRun              bool          `help:"Decide and report; delete nothing."`
	Verify              bool          `help:"After success read the connection back until it is gone."`
	Concurrency         int           `help:"Messages handled at a time." default:"64"`
	DefaultRetryAfter   time.Duration `help:"Wait when a 202 carries no Retry-After." default:"15s"`
	MaxRetryAfter       time.Duration `help:"Cap on any wait the server asks for." default:"1h"`
	GiveUpAfter         time.Duration `help:"Age of a request at which it fails as timed out." default:"24h"`
	MaxDeliveries       int           `help:"Deliveries of one message after which it is dead-lettered with an event; keep it below the queue's limit." default:"8"`
	ShutdownGrace       time.Duration `help:"Time for handlers in flight at SIGTERM." default:"25s"`
	HTTPAddr            string        `name:"http-addr" help:"Address of /healthz, /readyz and /metrics; empty turns it off." default:":8080"`
	LogFormat           string        `help:"json or text; json unless stderr is a terminal." default:""`
	LogLevel            string        `help:"debug, info, warn or error." default:"info"`
}

// Run is the command.
func (c *runCmd) Run(ctx context.Context, std streams) error {
	settings, wrong := c.settings()
	log, err := newLogger(std.err, c.LogFormat, c.LogLevel)
	if err := config(wrong, err); err != nil {
		return err
	}
	telemetry, err := startTelemetry(ctx)
	if err != nil {
		return err
	}
	defer telemetry.stop(log)
	log = telemetry.logger(log)

	// One credential, hence one token cache, for Service Bus and ARM.
	credential, err := defaultCredential(settings.cloud)()
	if err != nil {
		return err
	}
	dial := func() (*azservicebus.Client, error) {
		return c.dial(func() (azcore.TokenCredential, error) { return credential, nil })
	}
	w, q, err := settings.worker(dial, credential, nil, log, telemetry.tracing, telemetry.meter)
	if err != nil {
		return err
	}
	stopHTTP, err := serveHealth(c.HTTPAddr, w, telemetry.metrics, log)
	if err != nil {
		return config(fmt.Errorf("--http-addr: %w", err))
	}
	defer stopHTTP()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	log.InfoContext(ctx, "working", "queue", c.Queue, "events", c.Events, "arm", settings.cloud.Services[cloud.ResourceManager].Endpoint,
		"concurrency", c.Concurrency, "dryRun", c.DryRun)
	work(ctx, w, q, log)
	log.InfoContext(ctx, "drained")
	return nil
}

// gcPercent is twice Go's default: what waits takes no memory, so that the garbage of twice as many steps is 4 MB more, and costs an
// eighth less of processor time (go test -bench SideBySide ./internal/bench). GOGC wins.
const gcPercent = 200

// work runs a worker until ctx ends and it has drained, and ends its connection.
func work(ctx context.Context, w *worker.Worker, q *queue.Queue, log *slog.Logger) {
	w.Run(ctx)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := q.Close(closing); err != nil {
		log.DebugContext(ctx, "the connection did not end properly", "error", err)
	}
}

// closeTimeout bounds the goodbye to Service Bus, whose peer may be gone already.
const closeTimeout = 3 * time.Second

// settings are the flags of run, understood.
type settings struct {
	queue, events, apiVersion string
	cloud                     cloud.Configuration
	pollHosts                 []string
	policy                    worker.Policy
	concurrency               int
	grace                     time.Duration
}

// settings checks everything that can be checked without a network, and names every fault at once.
func (c *runCmd) settings() (settings, error) {
	faults := []error{c.check()}
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	s := settings{queue: c.Queue, events: c.Events, apiVersion: c.APIVersion, pollHosts: c.PollHost, concurrency: c.Concurrency, grace: c.ShutdownGrace,
		policy: worker.Policy{ProtectLastApproved: c.ProtectLastApproved, DryRun: c.DryRun, Verify: c.Verify, DefaultRetryAfter: c.DefaultRetryAfter, MaxRetryAfter: c.MaxRetryAfter,
			GiveUpAfter: c.GiveUpAfter, MaxDeliveries: c.MaxDeliveries}}
	var err error
	if s.cloud, err = c.where(); err != nil {
		faults = append(faults, err)
	}
	scopes := func(flag string, ids list) (parsed []deletion.Scope) {
		for _, id := range ids {
			scope, err := deletion.ParseScope(id)
			if err != nil {
				fault("%s: %w", flag, err)
			}
			parsed = append(parsed, scope)
		}
		return parsed
	}
	s.policy.AllowScopes, s.policy.SearchScopes = scopes("--allow-scope", c.AllowScope), scopes("--search-scope", c.SearchScope)
	for _, word := range c.RequireStatus {
		status, err := deletion.ParseLinkStatus(word)
		if err != nil {
			fault("--require-status: %w", err)
		}
		s.policy.RequireStatuses = append(s.policy.RequireStatuses, status)
	}
	for _, host := range c.PollHost {
		if u, err := url.Parse("https://" + host); err != nil || u.Host != host || u.Hostname() == "" {
			fault("--poll-host is %q, expected HOST or HOST:PORT", host)
		}
	}
	for flag, d := range map[string]time.Duration{"--default-retry-after": c.DefaultRetryAfter, "--max-retry-after": c.MaxRetryAfter,
		"--give-up-after": c.GiveUpAfter} {
		if d <= 0 {
			fault("%s is %s, expected more than nothing", flag, d)
		}
	}
	if c.ShutdownGrace < 0 {
		fault("--shutdown-grace is %s, expected no less than nothing", c.ShutdownGrace)
	}
	if c.Concurrency < 1 || c.Concurrency > 5000 {
		fault("--concurrency is %d, expected 1 to 5000", c.Concurrency)
	}
	if c.MaxDeliveries < 1 {
		fault("--max-deliveries is %d, expected at least 1", c.MaxDeliveries)
	}
	if c.APIVersion == "" {
		fault("--api-version is empty")
	}
	return s, config(faults...)
}

// where finds ARM: a cloud by name, or an endpoint in its place.
func (c *runCmd) where() (cloud.Configuration, error) {
	base, ok := map[string]cloud.Configuration{"public": cloud.AzurePublic, "usgovernment": cloud.AzureGovernment, "china": cloud.AzureChina}[c.Cloud]
	if !ok {
		return base, fmt.Errorf("--cloud is %q, expected public, usgovernment or china", c.Cloud)
	}
	service := base.Services[cloud.ResourceManager]
	if c.ArmEndpoint != "" {
		u, err := url.Parse(c.ArmEndpoint)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Path != "" && u.Path != "/" {
			return base, fmt.Errorf("--arm-endpoint is %q, expected https://HOST", c.ArmEndpoint)
		}
		service.Endpoint = "https://" + u.Host
	}
	if c.ArmAudience != "" {
		service.Audience = c.ArmAudience
	}
	return cloud.Configuration{ActiveDirectoryAuthorityHost: base.ActiveDirectoryAuthorityHost,
		Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: service}}, nil
}

// worker puts the parts together. A nil transport is HTTP's usual one.
func (s settings) worker(dial queue.Dial, credential azcore.TokenCredential, transport http.RoundTripper, log *slog.Logger, tracer trace.TracerProvider, meter metric.MeterProvider) (*worker.Worker, *queue.Queue, error) {
	arm, err := deletion.NewClient(deletion.Options{Credential: credential, Cloud: s.cloud, APIVersion: s.apiVersion, PollHosts: s.pollHosts,
		Transport: transport, Tracer: tracer, Meter: meter})
	if err != nil {
		return nil, nil, err
	}
	q, err := queue.Open(dial, s.queue, s.events, log)
	if err != nil {
		return nil, nil, err
	}
	return worker.New(worker.Options{Queue: q, QueueName: s.queue, ARM: arm, Policy: s.policy, Concurrency: s.concurrency,
		Grace: s.grace, Log: log, Tracer: tracer, Meter: meter}), q, nil
}
