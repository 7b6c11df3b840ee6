package bench

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/go-json-experiment/json"

	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/servicebus/server"
)

const (
	queueName  = "connection-deletes"
	eventsName = "connection-events"

	subscriptionID = "00000000-0000-0000-0000-000000000000"
)

var workerVariables = flag.String("worker.env", "", "further variables of hsmsweep run, such as GOGC=400, separated by spaces")

// A scenario is so many requests for one consumer.
type scenario struct {
	name     string
	loop     string // empty: hsmsweep run
	requests int
	wait     time.Duration // of the operation that a DELETE starts, and of its Retry-After; 0: the DELETE is over at once
	parks    bool          // only that far
}

// A result is what a scenario came to. Costs are those of all its requests.
type result struct {
	scenario
	took        time.Duration
	sends       int
	deliveries  int // those that the SDK gave back, because they came between two calls, are among them twice
	management  int // requests to $management of the queue and of the entity for events
	consumerCPU time.Duration
	emulatorCPU time.Duration
	allocations int     // of each request; 0: not known
	peak        float64 // MiB
}

func (r result) perSecond() float64 { return float64(r.requests) / r.took.Seconds() }

// messages is what Service Bus would count of each request.
func (r result) messages() float64 { return float64(r.sends+r.deliveries) / float64(r.requests) }

// run runs a scenario from the start of its processes to their end.
func run(tb testing.TB, s scenario) result {
	tb.Helper()
	azure := startAzure(tb, seed(tb, s))
	consumer := startConsumer(tb, azure, s.loop)
	r := measure(tb, azure, consumer.Process.Pid, s)
	if said := strings.TrimSpace(consumer.end(tb)); s.loop != "" {
		var err error
		if r.allocations, err = strconv.Atoi(said); err != nil {
			tb.Fatal(err)
		}
	}
	azure.process.end(tb)
	return r
}

func startConsumer(tb testing.TB, azure azure, loop string) *process {
	tb.Helper()
	if loop == "" {
		env := slices.Concat(azure.env, strings.Fields(*workerVariables))
		return start(tb, env, hsmsweep, "run", "--http-addr=", "--concurrency="+strconv.Itoa(concurrency))
	}
	return start(tb, append(azure.env, loopVariable+"="+loop), os.Args[0])
}

// measure has a consumer that runs do a scenario's requests, after a few others that open its connections.
func measure(tb testing.TB, azure azure, consumer int, s scenario) result {
	tb.Helper()
	client := newClient(tb, azure)
	before := azure.counts(tb)
	submit(tb, client, warming, 2*concurrency, time.Now())
	await(tb, azure, before, scenario{requests: 2 * concurrency})

	due := time.Now().Add(time.Second/4 + time.Duration(s.requests)*timeToSubmit)
	submit(tb, client, measured, s.requests, due)
	if !time.Now().Before(due) {
		tb.Fatalf("%d requests were not submitted before they were due", s.requests)
	}
	before, r := azure.counts(tb), result{scenario: s}
	consumerCPU, emulatorCPU := cpu(tb, consumer), cpu(tb, azure.pid)
	done := await(tb, azure, before, s)
	r.took = time.Since(due)
	r.consumerCPU, r.emulatorCPU = cpu(tb, consumer)-consumerCPU, cpu(tb, azure.pid)-emulatorCPU
	r.sends = done[server.Operation{Name: "send", Entity: queueName}] + done[server.Operation{Name: "send", Entity: eventsName}]
	r.deliveries = done[server.Operation{Name: "deliver", Entity: queueName}]
	r.management = done.management(queueName) + done.management(eventsName)
	r.peak = memory(tb, consumer, "VmHWM")
	return r
}

func newClient(tb testing.TB, azure azure) *azservicebus.Client {
	tb.Helper()
	client, err := azservicebus.NewClientFromConnectionString(azure.variable("HSMSWEEP_CONNECTION_STRING"), nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = client.Close(context.WithoutCancel(tb.Context())) }) // its peer may have ended before
	return client
}

// timeToSubmit is more than one message takes, in a batch, on a busy machine.
const timeToSubmit = 200 * time.Microsecond

// await returns once a scenario's requests have ended, or are parked, and nothing is in hand any more.
func await(tb testing.TB, azure azure, before counts, s scenario) counts {
	tb.Helper()
	told := eventsName
	if s.parks {
		told = queueName
	}
	last, progress := 0, time.Now()
	for {
		done := azure.counts(tb).since(before)
		over, inHand := done[server.Operation{Name: "send", Entity: told}], done[server.Operation{Name: "deliver", Entity: queueName}]-done[server.Operation{Name: "settle", Entity: queueName}]
		if over >= s.requests && inHand == 0 {
			return done
		}
		if over > last {
			last, progress = over, time.Now()
		}
		if time.Since(progress) > patience {
			tb.Fatalf("%s: nothing for %s: %v", s.name, patience, done)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// The prefixes of connections' names.
const (
	warming  = "warm"
	measured = "connection"
)

func connectionID(kind string, i int) string {
	return fmt.Sprintf("%s/privateEndpointConnections/%s-%d", poolID(i/connectionsOfPool), kind, i)
}

const connectionsOfPool = 1000

func poolID(i int) string {
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/bench/providers/Microsoft.KeyVault/managedHSMs/bench-%d", subscriptionID, i)
}

// submit sends requests that are due at an instant.
func submit(tb testing.TB, client *azservicebus.Client, kind string, n int, due time.Time) {
	tb.Helper()
	sender, err := client.NewSender(queueName, nil)
	if err != nil {
		tb.Fatal(err)
	}
	defer sender.Close(tb.Context())
	const size = 100
	for from := 0; from < n; from += size {
		batch, err := sender.NewMessageBatch(tb.Context(), nil)
		if err != nil {
			tb.Fatal(err)
		}
		for i := from; i < min(from+size, n); i++ {
			err = cmp.Or(err, batch.AddMessage(request(kind, i, due), nil))
		}
		if err = cmp.Or(err, sender.SendMessageBatch(tb.Context(), batch, nil)); err != nil {
			tb.Fatal(err)
		}
	}
}

// request has everything that a ticket system would send.
func request(kind string, i int, due time.Time) *azservicebus.Message {
	body := fmt.Sprintf(`{"connectionId":%q,"requestId":"CHG%07d-%s","requestedBy":"jane@example.com","reason":"payments-dev retired",`+
		`"ticket":{"system":"servicenow","id":"CHG%07d","url":"https://example.service-now.com/CHG%07d"}}`, connectionID(kind, i), i, kind, i, i)
	return &azservicebus.Message{MessageID: new(fmt.Sprint(kind, "-", i)), Body: []byte(body), ScheduledEnqueueTime: &due}
}

// seed writes a file that tells how ARM answers, where that is not at once.
func seed(tb testing.TB, s scenario) string {
	tb.Helper()
	if s.wait == 0 {
		return ""
	}
	script := arm.Script{Deletes: []arm.Answer{{Status: 202, RetryAfter: strconv.Itoa(int(s.wait.Seconds())),
		Operation: &arm.Operation{Seconds: s.wait.Seconds(), RetryAfter: "1"}}}}
	var pools []arm.Pool
	add := func(c arm.Connection, i int) {
		if at := i / connectionsOfPool; at == len(pools) {
			pools = append(pools, arm.Pool{ID: poolID(at)})
		}
		pool := &pools[i/connectionsOfPool]
		pool.Connections = append(pool.Connections, c)
	}
	for i := range s.requests {
		add(arm.Connection{Name: fmt.Sprint(measured, "-", i), Script: script}, i)
	}
	for i := range 2 * concurrency {
		add(arm.Connection{Name: fmt.Sprint(warming, "-", i)}, i)
	}
	text, err := json.Marshal(map[string]any{"pools": pools})
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(tb.TempDir(), "arm.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}
