package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
)

// A busCheck looks at Service Bus: can it be reached, does it let this identity in, and are the entities as the worker needs them.
type busCheck struct {
	connection
	settings   settings
	credential azcore.TokenCredential
}

// run goes on as far as there is something to be learnt: what depends on a thing that failed is told of once.
func (b *busCheck) run(ctx context.Context) []finding {
	findings := []finding{b.credentials(ctx), b.reach(ctx)}
	if count(findings, isOK)+count(findings, isWarning) < len(findings) {
		return append(findings, unclear("namespace.entities", "not looked at, because the namespace was not reached", ""))
	}
	var rights, settings []finding
	var running sync.WaitGroup
	running.Go(func() { rights = b.links(ctx) })
	running.Go(func() { settings = b.entities(ctx) })
	running.Wait()
	return slices.Concat(findings, rights, settings)
}

// busScope is what azservicebus asks tokens for, in every cloud.
const busScope = "https://servicebus.azure.net//.default"

// credentials finds out whether there is something to show at the door.
func (b *busCheck) credentials(ctx context.Context) finding {
	const check = "namespace.credential"
	if b.ConnectionString != "" {
		return judgeConnectionString(check, b.ConnectionString, time.Now())
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	_, err := b.credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{busScope}})
	return judgeToken(check, "Service Bus", err)
}

// reach connects as the SDK would, and says what is in the way: the SDK would try again until the time is up.
func (b *busCheck) reach(ctx context.Context) finding {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	host, plain := b.address()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
	if err == nil && !plain {
		name, _, _ := net.SplitHostPort(host) // address made it
		secure := tls.Client(conn, &tls.Config{ServerName: name})
		err = secure.HandshakeContext(ctx)
	}
	if conn != nil {
		_ = conn.Close() // nothing was said on it
	}
	return judgeReach("namespace.reach", host, err)
}

// address is the namespace's for AMQP, with a port, and whether it is spoken in plain text.
func (b *busCheck) address() (host string, plain bool) {
	host = b.Namespace
	if b.ConnectionString != "" {
		parts := connectionParts(b.ConnectionString)
		if u, err := url.Parse(parts["endpoint"]); err == nil {
			host = u.Host
		}
		plain = strings.EqualFold(parts["usedevelopmentemulator"], "true")
	}
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(strings.Trim(host, "[]"), map[bool]string{true: "5672", false: "5671"}[plain])
	}
	return host, plain
}

// connectionParts are a connection string's, by their names in lower case.
func connectionParts(text string) map[string]string {
	parts := map[string]string{}
	for part := range strings.SplitSeq(text, ";") {
		name, value, _ := strings.Cut(part, "=")
		parts[strings.ToLower(name)] = value
	}
	return parts
}

// A link is something that the worker opens, and the right that it needs for that.
type link struct {
	check, entity, flag string
	role, claim         string
	open                func(context.Context, *azservicebus.Client) error
}

func (b *busCheck) wanted() []link {
	const receiver, sender = "Azure Service Bus Data Receiver", "Azure Service Bus Data Sender"
	peeks := func(ctx context.Context, client *azservicebus.Client) error {
		link, err := client.NewReceiverForQueue(b.Queue, nil)
		if err == nil {
			_, err = link.PeekMessages(ctx, 1, nil)
		}
		return err
	}
	sends := func(entity string) func(context.Context, *azservicebus.Client) error {
		return func(ctx context.Context, client *azservicebus.Client) error {
			link, err := client.NewSender(entity, nil)
			if err == nil {
				_, err = link.NewMessageBatch(ctx, nil)
			}
			return err
		}
	}
	return []link{
		{"queue.receive", b.Queue, "--queue", receiver, "Listen", peeks},
		{"queue.send", b.Queue, "--queue", sender, "Send", sends(b.Queue)},
		{"events.send", b.Events, "--events", sender, "Send", sends(b.Events)},
	}
}

// links opens what the worker would, one after the other; nothing is sent or taken.
func (b *busCheck) links(ctx context.Context) (findings []finding) {
	client, err := b.dial(func() (azcore.TokenCredential, error) { return b.credential, nil })
	if err != nil {
		return []finding{failure("namespace.credential", err.Error(), "mend the connection string")}
	}
	defer closeClient(ctx, client)
	wanted := b.wanted()
	for i, l := range wanted {
		asked, cancel := context.WithTimeout(ctx, stepTimeout)
		err := l.open(asked, client)
		cancel()
		findings = append(findings, judgeLink(l, err))
		if silent(err) && i+1 < len(wanted) {
			return append(findings, unclear("namespace.entities", "the other links were not opened, because Service Bus does not answer", ""))
		}
	}
	return findings
}

// entities reads the settings, as far as that is allowed.
func (b *busCheck) entities(ctx context.Context) (findings []finding) {
	client, err := b.administration()
	if err != nil {
		return []finding{unclear("queue.settings", err.Error(), "")}
	}
	queue, when, err := read(ctx, func(ctx context.Context) (*entity, error) { return readQueue(ctx, client, b.Queue) })
	if when.answered() {
		findings = append(findings, judgeClock("namespace.clock", "Service Bus", when))
	}
	lock := longestLock
	switch {
	case queue == nil:
		findings = append(findings, unreadSettings("queue.settings", b.Queue, queueSettings, err))
	case queue.kind != "queue":
		findings = append(findings, failure("queue.settings", b.Queue+" is no queue", "name the queue for requests as --queue"))
	default:
		findings = append(findings, judgeQueue(*queue, b.settings)...)
		lock = max(queue.lock, shortestLock)
	}
	if err != nil && !when.answered() { // the next would wait as long
		return append(findings, unclear("events.settings", "not looked at either", ""))
	}
	events, _, err := read(ctx, func(ctx context.Context) (*entity, error) { return readTopicOrQueue(ctx, client, b.Events) })
	if events == nil {
		return append(findings, unreadSettings("events.settings", b.Events, eventsSettings, err))
	}
	findings = append(findings, judgeEvents(*events, lock, b.settings.grace)...)
	return append(findings, b.subscription(ctx, client, events.kind)...)
}

// longestLock is Service Bus's, for where the queue's is not known.
const longestLock = 5 * time.Minute

// subscription looks at what the command events reads; the worker does without.
func (b *busCheck) subscription(ctx context.Context, client *admin.Client, kind string) []finding {
	const check = "subscription"
	switch {
	case kind == "queue" && b.Subscription != "":
		return []finding{warning(check, b.Events+" is a queue, and the command events looks for a subscription of it",
			"give events an empty --subscription")}
	case kind == "queue":
		return nil
	case b.Subscription == "":
		return []finding{warning(check, b.Events+" is a topic, and the command events looks for a queue",
			"name one of its subscriptions as --subscription")}
	}
	found, _, err := read(ctx, func(ctx context.Context) (*entity, error) {
		return readSubscription(ctx, client, b.Events, b.Subscription)
	})
	switch {
	case err != nil:
		return []finding{unreadSettings("subscription.settings", b.Subscription, "", err)}
	case found == nil:
		return []finding{warning(check, fmt.Sprintf("%s has no subscription %s: if it has no other, all events are lost", b.Events, b.Subscription),
			"make it, or name another as --subscription")}
	}
	return judgeSubscription(*found)
}

// administration is a client of the ATOM API, which is https at the namespace's host. It asks once.
func (b *busCheck) administration() (*admin.Client, error) {
	options := &admin.ClientOptions{ClientOptions: azcore.ClientOptions{
		Retry:     policy.RetryOptions{MaxRetries: -1},
		Telemetry: policy.TelemetryOptions{ApplicationID: "hsmsweep"},
	}}
	if b.ConnectionString != "" {
		return admin.NewClientFromConnectionString(b.ConnectionString, options)
	}
	return admin.NewClient(b.Namespace, b.credential, options)
}

// A moment is when a service was asked, and what its clock said when it answered.
type moment struct {
	asked, heard time.Time
	date         time.Time // zero: there was no answer, or no date in it
}

func (m moment) answered() bool { return !m.date.IsZero() }

// read asks within a step's time and notes the clock of whoever answers.
func read[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, moment, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	var raw *http.Response
	when := moment{asked: time.Now()}
	got, err := ask(policy.WithCaptureResponse(ctx, &raw))
	when.heard = time.Now()
	if raw != nil {
		when.date, _ = http.ParseTime(raw.Header.Get("Date")) // none is no answer
	}
	return got, when, err
}

// readQueue is nil where there is none, or none that may be seen.
func readQueue(ctx context.Context, client *admin.Client, name string) (*entity, error) {
	got, err := client.GetQueue(ctx, name, nil)
	if err != nil || got == nil {
		return nil, err
	}
	if got.Status == nil { // the SDK takes the description of whatever has the name, and finds nothing in it
		return &entity{kind: "topic", name: name}, nil
	}
	e := queueEntity(name, got.QueueProperties)
	if room, err := client.GetQueueRuntimeProperties(ctx, name, nil); err == nil && room != nil {
		e.bytes, e.sized = room.SizeInBytes, true
	}
	return &e, nil
}

func readTopicOrQueue(ctx context.Context, client *admin.Client, name string) (*entity, error) {
	got, err := client.GetTopic(ctx, name, nil)
	if err != nil {
		return nil, err
	}
	if got == nil || got.Status == nil {
		return readQueue(ctx, client, name)
	}
	e := topicEntity(name, got.TopicProperties)
	if room, err := client.GetTopicRuntimeProperties(ctx, name, nil); err == nil && room != nil {
		e.bytes, e.sized = room.SizeInBytes, true
	}
	return &e, nil
}

func readSubscription(ctx context.Context, client *admin.Client, topic, name string) (*entity, error) {
	got, err := client.GetSubscription(ctx, topic, name, nil)
	if err != nil || got == nil {
		return nil, err
	}
	e := subscriptionEntity(name, got.SubscriptionProperties)
	return &e, nil
}
