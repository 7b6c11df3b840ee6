package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

var (
	chaosRequests = flag.Int("chaos.requests", 800, "requests of each chaos test")
	chaosMishaps  = flag.Int("chaos.mishaps", 25, "kills, cuts or restarts of each chaos test")
	chaosSeed     = flag.Uint64("chaos.seed", 1, "chooses who is killed, and when")
)

// TestChaos runs everything as processes: Service Bus in one emulator, ARM and the tokens in another, three workers. While
// requests of all kinds go through, workers are killed, or their connections to Service Bus cut, or Service Bus is killed
// and started again over its state. Then every end is compared with what was planned.
func TestChaos(t *testing.T) {
	t.Parallel()
	for _, mishap := range []struct {
		name string
		do   func(*chaos)
	}{
		{"workers are killed", (*chaos).killWorker},
		{"connections are cut", func(c *chaos) { c.proxy.cut() }},
		{"Service Bus is killed", (*chaos).restartServiceBus},
	} {
		t.Run(mishap.name, func(t *testing.T) {
			requests, mishaps := *chaosRequests, *chaosMishaps
			if testing.Short() {
				requests, mishaps = requests/8, mishaps/5
			}
			c := startChaos(t, requests)
			for range mishaps {
				<-time.After(time.Duration(200+c.rng.IntN(200)) * time.Millisecond)
				mishap.do(c)
			}
			c.judge(mishaps)
		})
	}
}

// TestFrozen has the connections to Service Bus stay open and pass nothing on. The worker goes on over new ones by itself.
func TestFrozen(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes the minute after which AMQP gives a silent peer up")
	}
	t.Parallel()
	c := startChaos(t, 10)
	c.judge(0)
	c.proxy.freeze()
	c.submitFrom(10)
	c.judge(3) // the dead letters of the first ones are still there
}

// chaosKinds are the requests: how ARM answers, and how they end.
var chaosKinds = []struct {
	script, body, outcome, code string
}{
	{script: `{}`, outcome: "deleted"},
	{script: `{"deletes":[{"status":202,"retryAfter":"1","operation":{"polls":1,"retryAfter":"1"}}]}`, outcome: "deleted"},
	{script: `{"deletes":[{"status":202,"operation":{"header":"Azure-AsyncOperation","seconds":2,"retryAfter":"1"}}]}`, outcome: "deleted"},
	{script: `{"deletes":[{"status":409,"code":"ConflictError"},{"status":409,"code":"ConflictError"}]}`, outcome: "deleted"},
	{script: `{"deletes":[` + strings.Repeat(`{"status":409,"code":"ScopeLocked"},`, 99) + `{"status":409,"code":"ScopeLocked"}]}`, outcome: "rejected", code: "ScopeLocked"},
	{script: `{"deletes":[{"status":503},{"cut":true}]}`, outcome: "deleted"},
	{script: `{"deletes":[` + strings.Repeat(`{"status":202,"operation":{"header":"Azure-AsyncOperation","end":"Failed","code":"InUse"}},`, 99) + `{"status":202,"operation":{"header":"Azure-AsyncOperation","end":"Failed","code":"InUse"}}]}`, outcome: "failed", code: "InUse"},
	{script: `{}`, body: `{"connectionId":"CONNECTION","status":["Approved"]}`, outcome: "statusMismatch"},
	{body: `{"connectionId":"CONNECTION"}`, outcome: "absent"},
	{body: `{"connectionId":"CONNECTION","statuss":[]}`, outcome: "invalid", code: "InvalidRequest"},
}

// A chaos is the processes of one test.
type chaos struct {
	t          *testing.T
	rng        *rand.Rand
	requests   int
	folder     string
	amqpAddr   string
	serviceBus *process
	proxy      *proxy
	env        []string // of the workers
	workers    []*process
	client     *azservicebus.Client
	began      time.Time
}

func startChaos(t *testing.T, requests int) *chaos {
	c := &chaos{t: t, rng: rand.New(rand.NewPCG(*chaosSeed, 0)), requests: requests, folder: t.TempDir(), began: time.Now()}
	seed, config := filepath.Join(c.folder, "arm.json"), filepath.Join(c.folder, "Config.json")
	c.write(seed, c.pool())
	// Locks are short, so that what the dead have locked comes back soon; the broker never gives up first.
	c.write(config, `{"UserConfig":{"Namespaces":[{"Name":"chaos","Queues":[{"Name":"connection-deletes","Properties":{"LockDuration":"PT5S","MaxDeliveryCount":100,
		"RequiresDuplicateDetection":true,"DuplicateDetectionHistoryTimeWindow":"PT10M"}}],"Topics":[{"Name":"connection-events","Properties":{
		"RequiresDuplicateDetection":true,"DuplicateDetectionHistoryTimeWindow":"P1D"},"Subscriptions":[{"Name":"all"}]}]}]}}`)

	azure, env, err := startEmulator(c.folder, "--arm-seed="+seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(azure.kill)
	c.amqpAddr = freeAddr(t)
	c.startServiceBus()
	t.Cleanup(func() { c.serviceBus.kill() })
	c.proxy = startProxy(t, c.amqpAddr)
	connectionString := func(addr string) string {
		return fmt.Sprintf("Endpoint=sb://%s;SharedAccessSignature=SharedAccessSignature sr=x&sig=x&se=4102444800&skn=x;UseDevelopmentEmulator=true", addr)
	}
	env = slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, "HSMSWEEP_CONNECTION_STRING=") })
	c.env = append(env, "HSMSWEEP_CONNECTION_STRING="+connectionString(c.proxy.Addr().String()))
	c.client, err = azservicebus.NewClientFromConnectionString(connectionString(c.amqpAddr), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.client.Close(context.Background()) }) // its peer may have been killed
	c.submit()
	for range 3 {
		c.workers = append(c.workers, c.startWorker())
	}
	t.Cleanup(func() {
		for i, w := range c.workers {
			w.kill()
			if t.Failed() {
				t.Logf("worker %d:\n%.5000s", i, w.err.text())
			}
		}
	})
	return c
}

func (c *chaos) write(file, text string) {
	c.t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// freeAddr is an address that nobody listens at just now.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

const chaosPool = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/chaos/providers/Microsoft.KeyVault/managedHSMs/chaos"

func connectionOf(i int) string {
	return fmt.Sprintf("%s/privateEndpointConnections/c%d", chaosPool, i)
}

func (c *chaos) pool() string {
	var connections []string
	for i := range c.requests {
		if kind := chaosKinds[i%len(chaosKinds)]; kind.script != "" {
			connections = append(connections, fmt.Sprintf(`{"name":"c%d","status":"Disconnected","script":%s}`, i, kind.script))
		}
	}
	return fmt.Sprintf(`{"pools":[{"id":%q,"connections":[%s]}]}`, chaosPool, strings.Join(connections, ","))
}

func (c *chaos) startServiceBus() {
	c.t.Helper()
	var err error
	c.serviceBus, err = start(c.folder, nil, "emulator", "--amqp-addr="+c.amqpAddr, "--admin-addr=127.0.0.1:0", "--arm-addr=127.0.0.1:0", "--identity-addr=127.0.0.1:0",
		"--config="+filepath.Join(c.folder, "Config.json"), "--state-dir="+filepath.Join(c.folder, "state"))
	if err == nil {
		err = c.serviceBus.wait(&c.serviceBus.out, func(text string) bool { return strings.Count(text, "\n") >= len(emulatorVariables) })
	}
	if err != nil {
		c.t.Fatalf("Service Bus: %v\n%s", err, c.serviceBus.err.text())
	}
}

func (c *chaos) startWorker() *process {
	c.t.Helper()
	p, err := start(c.folder, c.env, "run", "--http-addr=", "--concurrency=16", "--max-deliveries=90", "--default-retry-after=1s", "--log-level=error")
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

func (c *chaos) killWorker() {
	i := c.rng.IntN(len(c.workers))
	c.workers[i].kill()
	c.workers[i] = c.startWorker()
}

func (c *chaos) restartServiceBus() {
	c.serviceBus.kill()
	c.startServiceBus()
}

// submit sends all requests. Every tenth pair goes by one request id.
func (c *chaos) submit() { c.submitFrom(0) }

// submitFrom sends them again, as messages with numbers from n on.
func (c *chaos) submitFrom(n int) {
	c.t.Helper()
	sender, err := c.client.NewSender(defaultQueue, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	for i := range c.requests {
		kind := chaosKinds[i%len(chaosKinds)]
		body := strings.ReplaceAll(kind.body, "CONNECTION", connectionOf(i))
		if body == "" {
			body = fmt.Sprintf(`{"connectionId":%q,"requestId":"ticket-%d"}`, connectionOf(i), i/20)
		}
		if err := sender.SendMessage(c.t.Context(), &azservicebus.Message{MessageID: new(fmt.Sprint("m", n+i)), Body: []byte(body)}, nil); err != nil {
			c.t.Fatal(err)
		}
	}
}

// judge waits for the end of every request and compares it with the plan.
func (c *chaos) judge(mishaps int) {
	t := c.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	receiver, err := c.client.NewReceiverForSubscription(defaultEvents, defaultSubscription, &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.Close(context.Background()) // its credit would take the next events
	type counted struct{ outcome, code string }
	ends, ids := map[string][]counted{}, map[string]bool{}
	byOutcome := map[string]int{}
	for n := 0; n < c.requests; {
		messages, err := receiver.ReceiveMessages(ctx, 500, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: time.Millisecond})
		if err != nil {
			t.Errorf("after %d of %d events: %v", n, c.requests, err)
			break
		}
		for _, m := range messages {
			n++
			var e ending
			if err := json.Unmarshal(m.Body, &e); err != nil {
				t.Fatal(err)
			}
			if ids[m.MessageID] {
				t.Errorf("two events with the id %s", m.MessageID)
			}
			ids[m.MessageID] = true
			end := counted{outcome: string(e.Data.Outcome)}
			if e.Data.Error != nil && end.outcome != "absent" {
				end.code = e.Data.Error.Code
			}
			byOutcome[end.outcome]++
			connection := e.Data.ConnectionID
			if connection == "" { // a misspelt request
				connection = "message " + strings.Split(m.MessageID, "@")[0]
			}
			ends[connection] = append(ends[connection], end)
		}
	}
	took := time.Since(c.began)
	absent := 0
	failed := 0
	for i := range c.requests {
		kind := chaosKinds[i%len(chaosKinds)]
		got := append(ends[connectionOf(i)], ends[fmt.Sprint("message m", i)]...)
		if kind.code != "" {
			failed++
		}
		switch {
		case len(got) != 1:
			t.Errorf("request %d ended %d times: %v", i, len(got), got)
		case got[0] == counted{"absent", ""} && kind.outcome == "deleted":
			absent++ // a crash between ARM's answer and the event
		case got[0] != counted{kind.outcome, kind.code}:
			t.Errorf("request %d ended as %v, planned was %s %s", i, got[0], kind.outcome, kind.code)
		}
	}
	twice := c.wantLeft(ctx, failed, mishaps)
	if more, _ := receiver.PeekMessages(ctx, 1, nil); len(more) > 0 {
		t.Errorf("another event: %s", more[0].MessageID)
	}
	t.Logf("%d requests, %d mishaps, seed %d: all ended in %s as %v; %d of them absent where deleted was planned, %d dead letters there twice",
		c.requests, mishaps, *chaosSeed, took.Round(time.Second), byOutcome, absent, twice)
}

// wantLeft waits until the request queue is empty, and tells how many dead letters there are too many: a message and its
// successor, where the step was repeated between publishing and settling.
func (c *chaos) wantLeft(ctx context.Context, dead, mishaps int) (twice int) {
	c.t.Helper()
	queue, err := c.client.NewReceiverForQueue(defaultQueue, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	eventually(c.t, "the queue is empty", func() bool {
		left, err := queue.PeekMessages(ctx, 1, &azservicebus.PeekMessagesOptions{FromSequenceNumber: new(int64(0))})
		return err == nil && len(left) == 0
	})
	letters, err := c.client.NewReceiverForQueue(defaultQueue, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	if err != nil {
		c.t.Fatal(err)
	}
	n := 0
	for {
		messages, err := letters.PeekMessages(ctx, 250, nil)
		if err != nil {
			c.t.Fatal(err)
		}
		if len(messages) == 0 {
			break
		}
		n += len(messages)
	}
	if n < dead || n > dead+mishaps {
		c.t.Errorf("%d dead letters, want %d", n, dead)
	}
	return n - dead
}
