package worker_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"hsmsweep/deletion"
	"hsmsweep/internal/emulator"
	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/internal/schema/schematest"
	"hsmsweep/queue"
	"hsmsweep/worker"
)

const (
	subscription = "/subscriptions/00000000-0000-0000-0000-000000000000"
	poolID       = subscription + "/resourceGroups/sample-group/providers/Microsoft.KeyVault/managedHSMs/sample-mhsm"
	armHost      = "management.azure.com"
)

// A system is everything in one bubble of virtual time: emulated Azure, the real SDKs over connections in memory, workers.
type system struct {
	*emulator.Emulator
	t           *testing.T
	amqp, arm   *emulator.Pipe
	tokens      *emulator.Pipe
	client      *azservicebus.Client // the outside's: submits and reads events
	spans       *tracetest.InMemoryExporter
	replicas    int // started so far
	log         *slog.Logger
	logged      *bytes.Buffer
	faults      atomic.Pointer[fault.Injector]
	unreachable atomic.Bool // replicas cannot connect to Service Bus
}

// inVirtualTime runs a test in a bubble. The seed describes ARM's pools.
func inVirtualTime(t *testing.T, seed string, test func(*testing.T, *system)) {
	t.Helper()
	inVirtualTimeWith(t, broker.DefaultConfig(), seed, test)
}

// inVirtualTimeWith is the same with other entities.
func inVirtualTimeWith(t *testing.T, entities broker.Config, seed string, test func(*testing.T, *system)) {
	t.Helper()
	inVirtualTimeLimited(t, entities, arm.Options{}, seed, test)
}

// inVirtualTimeLimited is the same with limits at ARM.
func inVirtualTimeLimited(t *testing.T, entities broker.Config, limits arm.Options, seed string, test func(*testing.T, *system)) {
	t.Helper()
	t.Setenv("IDENTITY_ENDPOINT", emulator.IdentityURL("identity.example"))
	defer unlessTimeStops()()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, entities, limits, seed)
		t.Cleanup(s.stop)
		test(t, s)
	})
}

// unlessTimeStops ends the process, and says who stopped it, if virtual time stands still: it does so, without a word, while a
// goroutine waits for a mutex whose holder waits for time. The SDK holds some for the whole of a reconnection.
func unlessTimeStops() (over func() bool) {
	return time.AfterFunc(3*time.Minute, func() {
		stacks := make([]byte, 64<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		for stack := range strings.SplitSeq(string(stacks), "\n\n") {
			head, _, _ := strings.Cut(stack, "\n")
			if strings.Contains(head, "synctest bubble") && !strings.Contains(head, "durable") {
				fmt.Fprintf(os.Stderr, "%s\n\n", stack)
			}
		}
		fmt.Fprintln(os.Stderr, "virtual time has stood still for three minutes; above are those who hold it up")
		os.Exit(3)
	}).Stop
}

func start(t *testing.T, entities broker.Config, limits arm.Options, seed string) *system {
	s := &system{t: t, amqp: emulator.NewPipe(), arm: emulator.NewPipe(), tokens: emulator.NewPipe(),
		spans: tracetest.NewInMemoryExporter(), logged: &bytes.Buffer{}}
	azure, err := emulator.New(emulator.Options{Entities: entities, ARM: limits, Faults: leastRights(t).Then(s.fault)}, armHost)
	if err != nil {
		t.Fatal(err)
	}
	s.Emulator = azure
	if err := azure.ARM.Seed(strings.NewReader(seed)); err != nil {
		t.Fatal(err)
	}
	s.log = slog.New(slog.NewTextHandler(s.logged, nil))
	azure.Serve(s.amqp, s.arm, s.tokens)
	s.client = s.dial(s.amqp.Dial)
	t.Setenv("IDENTITY_HEADER", azure.Identity.Header())
	return s
}

// fault is what goes wrong with an operation; see inject.
func (s *system) fault(op fault.Operation) fault.Fault {
	if in := s.faults.Load(); in != nil {
		return in.For(op)
	}
	return fault.Fault{}
}

// inject has operations go wrong from now on; nil ends that.
func (s *system) inject(in fault.Injector) { s.faults.Store(&in) }

// credential gets a token for one replica. MSAL caches tokens for the whole process, by client id: one of its own keeps
// this replica's apart from all others.
func (s *system) credential(dial dialFunc) *azidentity.ManagedIdentityCredential {
	c, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
		ID: azidentity.ClientID(uuid.NewString()),
		ClientOptions: policy.ClientOptions{
			Transport: &http.Client{Transport: s.transport(dial)},
			Retry:     policy.RetryOptions{MaxRetries: 1}, // as in the program
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// stop ends the bubble and looks at what a client should never do.
func (s *system) stop() {
	s.close(s.client)
	// Where answers were lost on purpose, settling again is right.
	if v := s.Broker.Violations(); v.SettledTwice > 0 && s.faults.Load() == nil {
		s.t.Errorf("messages settled twice: %d", v.SettledTwice)
	}
	if err := s.Emulator.Close(); err != nil {
		s.t.Error(err)
	}
	if s.t.Failed() {
		s.t.Logf("the workers' log:\n%.20000s", s.logged)
	}
}

type dialFunc = func(context.Context) (net.Conn, error)

func (s *system) dial(dial dialFunc) *azservicebus.Client {
	client, err := azservicebus.NewClientFromConnectionString(emulator.ConnectionString("emulator"), &azservicebus.ClientOptions{
		NewWebSocketConn: func(ctx context.Context, _ azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
			return dial(ctx)
		},
		RetryOptions: azservicebus.RetryOptions{MaxRetries: 3, RetryDelay: 500 * time.Millisecond, MaxRetryDelay: 4 * time.Second},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return client
}

func (s *system) close(client *azservicebus.Client) {
	if err := client.Close(context.Background()); err != nil {
		s.t.Errorf("closing a client: %v", err)
	}
}

func (s *system) transport(dial dialFunc) *http.Transport {
	return &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		TLSClientConfig: &tls.Config{RootCAs: s.Authority.Pool()},
		// A connection left idle for ever would keep its goroutines, and the bubble, alive.
		IdleConnTimeout: time.Second,
	}
}

// A replica is one worker with clients and a network of its own.
type replica struct {
	network
	worker  *worker.Worker
	metrics *sdkmetric.ManualReader
	drain   context.CancelFunc
	ended   chan struct{}
}

// options are what a test may change about a replica.
type options struct {
	worker.Policy
	overHTTP func(http.RoundTripper) http.RoundTripper
	crash    crash
	killedBy string // path's end of a request to ARM with which the replica dies
}

// work starts a replica.
func (s *system) work(change ...func(*options)) *replica {
	scope, err := deletion.ParseScope(poolID)
	if err != nil {
		s.t.Fatal(err)
	}
	o := options{Policy: worker.Policy{SearchScopes: []deletion.Scope{scope}, DefaultRetryAfter: 15 * time.Second, MaxRetryAfter: time.Hour, GiveUpAfter: 24 * time.Hour, MaxDeliveries: 8},
		overHTTP: func(rt http.RoundTripper) http.RoundTripper { return rt }}
	for _, c := range change {
		c(&o)
	}
	r := &replica{network: network{crash: o.crash, crashed: make(chan struct{})}, metrics: sdkmetric.NewManualReader(), ended: make(chan struct{})}
	q, err := queue.Open(func() (*azservicebus.Client, error) { return s.dial(s.unlessUnreachable(r.dialler(s.amqp))), nil }, "connection-deletes", "connection-events", s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	s.replicas++
	about := resource.NewSchemaless(attribute.Int("service.instance.id", s.replicas))
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(s.spans), sdktrace.WithResource(about))
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(r.metrics))
	resourceManager, err := deletion.NewClient(deletion.Options{
		Tracer: tracer, Meter: meter,
		Credential: s.credential(r.dialler(s.tokens)), APIVersion: "2021-10-01", Transport: o.overHTTP(r.deadly(s.transport(r.dialler(s.arm)), o.killedBy)),
		Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: "https://" + armHost, Audience: emulator.Audience}}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	r.worker = worker.New(worker.Options{Queue: q, QueueName: "connection-deletes", ARM: resourceManager, Policy: o.Policy, Concurrency: 8,
		Grace: 25 * time.Second, Log: s.log, Tracer: tracer, Meter: meter})
	ctx, drain := context.WithCancel(context.Background())
	r.drain = drain
	go func() {
		defer close(r.ended)
		r.worker.Run(ctx)
		_ = q.Close(context.Background()) // after a cut there is nothing to say goodbye to
	}()
	s.t.Cleanup(func() { r.stop() })
	return r
}

// killedBy is for a replica that dies as soon as ARM would be asked about something.
func killedBy(suffix string) func(*options) { return func(o *options) { o.killedBy = suffix } }

func (r *replica) deadly(rt http.RoundTripper, suffix string) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		if suffix != "" && strings.HasSuffix(req.URL.Path, suffix) {
			r.die()
		}
		return rt.RoundTrip(req)
	})
}

func (s *system) unlessUnreachable(dial dialFunc) dialFunc {
	return func(ctx context.Context) (net.Conn, error) {
		if s.unreachable.Load() {
			return nil, errors.New("connection refused")
		}
		return dial(ctx)
	}
}

// stop drains the replica, if it was not drained yet, and tells how long that took.
func (r *replica) stop() time.Duration {
	began := time.Now()
	r.drain()
	<-r.ended
	return time.Since(began)
}

// submit puts a body on the queue.
func (s *system) submit(messageID, body string) {
	s.t.Helper()
	sender, err := s.client.NewSender("connection-deletes", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer sender.Close(context.Background())
	if err := sender.SendMessage(context.Background(), &azservicebus.Message{MessageID: &messageID, Body: []byte(body)}, nil); err != nil {
		s.t.Fatal(err)
	}
}

// An event as it was received.
type event struct {
	ID, Type, Source, Subject, TraceParent string
	Data                                   worker.EventData
	received                               *azservicebus.ReceivedMessage
}

// events waits for n events and takes them.
func (s *system) events(n int) []event {
	s.t.Helper()
	receiver, err := s.client.NewReceiverForSubscription("connection-events", "all", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
	if err != nil {
		s.t.Fatal(err)
	}
	defer receiver.Close(context.Background())
	ctx, cancel := context.WithTimeout(context.Background(), 7*24*time.Hour)
	defer cancel()
	var events []event
	for len(events) < n {
		messages, err := receiver.ReceiveMessages(ctx, 1, nil)
		if err != nil {
			s.t.Fatalf("waiting for event %d of %d: %v\n%s", len(events)+1, n, err, s.logged)
		}
		for _, m := range messages {
			if err := described(s.t)(m.Body); err != nil {
				s.t.Errorf("an event is not what schema event says: %v\n%s", err, m.Body)
			}
			e := event{received: m}
			if err := json.Unmarshal(m.Body, &e); err != nil {
				s.t.Fatal(err)
			}
			events = append(events, e)
		}
	}
	return events
}

// described judges events by the schema that the program prints.
func described(t testing.TB) func([]byte) error {
	eventSchema.Do(func() { judgeEvent = schematest.Compile(t, worker.EventSchema()) })
	return judgeEvent
}

var (
	eventSchema sync.Once
	judgeEvent  func([]byte) error
)

// counts are the queue's, once everything has come to rest.
func (s *system) counts() broker.Counts {
	s.t.Helper()
	synctest.Wait()
	e, err := s.Broker.Entity("connection-deletes")
	if err != nil {
		s.t.Fatal(err)
	}
	return e.Counts()
}

// seed makes a pool with one connection named pec, with a script.
func seed(script string) string {
	if script == "" {
		script = "{}"
	}
	return fmt.Sprintf(`{"pools":[{"id":%q,"connections":[{"name":"pec","status":"Disconnected","privateEndpointId":"%s/resourceGroups/net/providers/Microsoft.Network/privateEndpoints/pe1","script":%s}]}]}`,
		poolID, subscription, script)
}

func request(name string) string {
	return fmt.Sprintf(`{"connectionId":"%s/privateEndpointConnections/%s"}`, poolID, name)
}
