package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"hsmsweep/internal/emulator"
	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/queue"
	"hsmsweep/worker"
)

// demoTimeout is when a sample that has not ended is given up. The whole demo takes less than ten seconds.
const demoTimeout = 30 * time.Second

// shownTrace is the sample whose trace is drawn: it has the most hops.
const shownTrace = "location"

type demoCmd struct {
	Requests  string `help:"Your own requests, one JSON object a line, in place of the samples. Every connection they name exists." type:"path" placeholder:"FILE"`
	Dashboard bool   `help:"Also serve the dashboard, and go on with it until interrupted."`
}

// Help is shown below the flags.
func (demoCmd) Help() string {
	return `Starts an emulated Service Bus, ARM and identity endpoint and a worker in this process, all on loopback, sends
the samples and shows what becomes of each. Exit code 0 only if every one ended as it should. With --dashboard
the page's address is printed, and a browser opened where there is one; when the samples have ended, requests
follow that wait, to be looked at, cancelled and expedited.`
}

// Run is the command.
func (c *demoCmd) Run(ctx context.Context, std streams) error {
	wanted := samples
	if c.Requests != "" {
		var err error
		if wanted, err = ownSamples(c.Requests); err != nil {
			return config(fmt.Errorf("--requests: %w", err))
		}
	}
	d, err := startDemo(ctx, c.Requests != "")
	if err != nil {
		return err
	}
	defer d.close()
	if !c.Dashboard {
		return c.demonstrate(ctx, d, wanted, std.out)
	}
	watched, stop, err := d.serveDashboard(ctx, std)
	if err != nil {
		return err
	}
	return errors.Join(c.demonstrate(ctx, d, wanted, std.out), d.linger(watched, c.Requests == "", std.out), stop())
}

// demonstrate shows the samples on their way and judges their ends.
func (c *demoCmd) demonstrate(ctx context.Context, d *demo, wanted []sample, out io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, demoTimeout, fmt.Errorf("not every request ended within %s", demoTimeout))
	defer cancel()
	show := newShow(out, wanted)
	stop, err := d.work(ctx, slog.New(show))
	if err != nil {
		return err
	}
	ended, err := d.carryThrough(ctx, wanted, show)
	stop()
	show.close(ended)
	if c.Requests == "" {
		printWaterfall(out, shownTrace, d.spans.traceOf(shownTrace))
	}
	if err != nil {
		return err
	}
	return errors.Join(c.judge(d, wanted, ended)...)
}

// A demo is the emulated Azure and the clients to it.
type demo struct {
	azure    *emulator.Emulator
	addr     string // of Service Bus
	settings settings
	dial     queue.Dial
	client   *azservicebus.Client // that submits and reads events
	tracing  tracing
	spans    recorder
}

// startDemo serves Azure on free ports of the loopback interface.
func startDemo(ctx context.Context, everythingExists bool) (*demo, error) {
	entities := broker.DefaultConfig()
	// The demo takes its events away; the dashboard reads a subscription of its own.
	entities.Topics[0].Subscriptions = append(entities.Topics[0].Subscriptions, broker.SubscriptionConfig{Name: dashboardSubscription})
	azure, err := emulator.New(emulator.Options{Entities: entities, ARM: arm.Options{AutoCreate: everythingExists}})
	if err != nil {
		return nil, err
	}
	addrs, err := emulator.Loopback()
	if err != nil {
		return nil, err
	}
	azure.Serve(addrs[0], addrs[1], addrs[2])
	d := &demo{azure: azure, addr: addrs[0].Addr().String()}

	// The managed identity is found as it is in a container app: by its environment.
	os.Setenv("IDENTITY_ENDPOINT", emulator.IdentityURL(addrs[2].Addr().String()))
	os.Setenv("IDENTITY_HEADER", azure.Identity.Header())
	os.Setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
	run := runCmd{
		connection: connection{ConnectionString: emulator.ConnectionString(addrs[0].Addr().String()), Queue: defaultQueue, Events: defaultEvents},
		Cloud:      "public", ArmEndpoint: "https://" + addrs[1].Addr().String(), ArmAudience: emulator.Audience, APIVersion: "2021-10-01",
		Concurrency: 64, DefaultRetryAfter: 15 * time.Second, MaxRetryAfter: time.Hour, GiveUpAfter: 24 * time.Hour, MaxDeliveries: 8, ShutdownGrace: 5 * time.Second,
	}
	if !everythingExists {
		run.AllowScope, run.SearchScope, run.ProtectLastApproved = sampleScopes, sampleScopes[:1], true
		if err := seedSamples(azure.ARM); err != nil {
			return nil, err
		}
	}
	if d.settings, err = run.settings(); err != nil {
		return nil, err
	}
	d.dial = func() (*azservicebus.Client, error) { return run.dial(nil) }
	if d.client, err = d.dial(); err != nil {
		return nil, err
	}
	if d.tracing, err = startTracing(ctx); err != nil {
		return nil, err
	}
	d.tracing.RegisterSpanProcessor(sdktrace.NewSimpleSpanProcessor(&d.spans))
	return d, nil
}

func (d *demo) close() {
	closeClient(context.Background(), d.client)
	d.tracing.stop(slog.New(slog.DiscardHandler))
	// The process ends with this; nothing is left to be told.
	_ = d.azure.Close()
}

// work runs the worker until stop, which waits for it.
func (d *demo) work(ctx context.Context, log *slog.Logger) (stop func(), err error) {
	credential, err := defaultCredential(d.settings.cloud)()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: d.azure.Authority.Pool()}, MaxIdleConnsPerHost: 64}
	w, q, err := d.settings.worker(d.dial, credential, transport, log, d.tracing, nil)
	if err != nil {
		return nil, err
	}
	ctx, drain := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		work(ctx, w, q, log)
		transport.CloseIdleConnections()
	}()
	return func() { drain(); <-ended }, nil
}

// carryThrough sends the samples and waits for an event of each.
func (d *demo) carryThrough(ctx context.Context, wanted []sample, show *show) (map[string][]ending, error) {
	sender, err := d.client.NewSender(d.settings.queue, nil)
	if err != nil {
		return nil, err
	}
	events, err := d.client.NewReceiverForSubscription(d.settings.events, defaultSubscription, &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
	if err != nil {
		return nil, err
	}
	pending := map[string]bool{}
	for _, s := range wanted {
		pending[s.name] = true
		if s.comesOf {
			continue
		}
		if _, err := send(ctx, sender, d.settings.queue, d.tracing, s.name, []byte(s.text())); err != nil {
			return nil, err
		}
	}
	ended := map[string][]ending{}
	for len(pending) > 0 {
		messages, err := events.ReceiveMessages(ctx, len(wanted), &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: time.Millisecond})
		if err != nil {
			return ended, cmp.Or(context.Cause(ctx), err)
		}
		for _, m := range messages {
			var e ending
			if err := json.Unmarshal(m.Body, &e); err != nil {
				return ended, err
			}
			ended[e.Data.RequestID] = append(ended[e.Data.RequestID], e)
			delete(pending, e.Data.RequestID)
			for _, child := range e.Data.Children {
				if ended[child] == nil {
					pending[child] = true
				}
			}
			show.ended(e)
		}
	}
	return ended, nil
}

// An ending is an event as far as the demo reads it.
type ending struct {
	ID   string           `json:"id"`
	Data worker.EventData `json:"data"`
}

func (e ending) code() string {
	if e.Data.Error == nil {
		return ""
	}
	return e.Data.Error.Code
}

// judge compares every end with what it should have been, and what is left with nothing.
func (c *demoCmd) judge(d *demo, wanted []sample, ended map[string][]ending) []error {
	var faults []error
	dead := 0
	for _, s := range wanted {
		for _, e := range ended[s.name] {
			if e.Data.Error != nil && e.Data.Outcome != worker.EndAbsent {
				dead++
			}
			if c.Requests == "" && (e.Data.Outcome != s.end || e.code() != s.code) {
				faults = append(faults, fmt.Errorf("%s ended as %s %s, expected %s %s", s.name, e.Data.Outcome, e.code(), s.end, s.code))
			}
		}
		if n := len(ended[s.name]); n != 1 {
			faults = append(faults, fmt.Errorf("%s has %d events, expected 1", s.name, n))
		}
		if n := d.azure.ARM.Deletes(s.connectionID()); c.Requests == "" && n != s.deletes {
			faults = append(faults, fmt.Errorf("%s: ARM saw %d DELETEs, expected %d", s.name, n, s.deletes))
		}
	}
	queue, err := d.azure.Broker.Entity(d.settings.queue)
	if err != nil {
		return append(faults, err)
	}
	if left := queue.Counts(); left.Active != 0 || left.Scheduled != 0 || left.DeadLetter != dead {
		faults = append(faults, fmt.Errorf("the queue has %d active, %d scheduled and %d dead-lettered messages, expected 0, 0 and %d", left.Active, left.Scheduled, left.DeadLetter, dead))
	}
	return faults
}

// ownSamples reads the reader's lines. They are sent as they are: what is wrong with them is for the worker to say.
func ownSamples(file string) ([]sample, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var own []sample
	lines := bufio.NewReader(bytes.NewReader(text))
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			s := sample{body: string(line)}
			s.name = worker.RequestIDOf(line, fmt.Sprintf("line-%d", n))
			own = append(own, s)
		}
		if errors.Is(err, io.EOF) {
			break
		}
	}
	if len(own) == 0 {
		return nil, fmt.Errorf("%s has no lines", file)
	}
	return own, nil
}
