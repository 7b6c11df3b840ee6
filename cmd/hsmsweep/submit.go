package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"hsmsweep/deletion"
	"hsmsweep/worker"
)

type submitCmd struct {
	connection
	ConnectionIDs []string  `arg:"" optional:"" name:"connection-id" help:"ARM ids of private endpoint connections. None: requests as JSON lines on stdin."`
	RequestID     string    `help:"Id of the request, for a single connection." placeholder:"ID"`
	Status        list      `help:"Delete only in this link state. Repeatable." placeholder:"STATUS"`
	Endpoint      *string   `name:"private-endpoint-id" help:"Delete only while the connection belongs to this private endpoint." placeholder:"ID"`
	Reason        string    `help:"Why."`
	RequestedBy   string    `help:"Who asks."`
	TicketSystem  string    `help:"Ticket system, such as servicenow." placeholder:"NAME"`
	TicketID      string    `help:"Ticket number." placeholder:"ID"`
	TicketURL     string    `name:"ticket-url" help:"Ticket address." placeholder:"URL"`
	NotBefore     time.Time `help:"RFC 3339 time before which nothing is deleted." placeholder:"TIME"`
	DryRun        bool      `help:"Ask for a report; delete nothing."`
	JSON          bool      `help:"One JSON object a request on stdout."`
}

// Help is shown below the flags.
func (submitCmd) Help() string {
	return `Examples:
  hsmsweep submit --ticket-id CHG0012345 /subscriptions/…/managedHSMs/hsm1/privateEndpointConnections/pec1
  hsmsweep submit < requests.jsonl

Every request is checked before the first is sent.`
}

// Run is the command.
func (c *submitCmd) Run(ctx context.Context, std streams) error {
	if err := config(c.check(), c.checkGuards()); err != nil {
		return err
	}
	bodies, err := c.bodies(std.in)
	if err != nil {
		return err
	}
	tracing, err := startTracing(ctx)
	if err != nil {
		return err
	}
	log, err := newLogger(std.err, "text", "warn")
	if err != nil {
		return err
	}
	defer tracing.stop(log)
	client, err := c.dial(defaultCredential(cloud.AzurePublic))
	if err != nil {
		return err
	}
	defer closeClient(ctx, client)
	sender, err := client.NewSender(c.Queue, nil)
	if err != nil {
		return err
	}
	for i, body := range bodies {
		sent, err := send(ctx, sender, c.Queue, tracing, uuid.NewString(), body)
		if err != nil {
			return fmt.Errorf("%d of %d requests were sent; the next failed: %w", i, len(bodies), err)
		}
		if err := c.print(std.out, sent); err != nil {
			return err
		}
	}
	return nil
}

// checkGuards checks what the flags say of every request. A guard that is there and empty is a fault, not no guard.
func (c *submitCmd) checkGuards() error {
	var faults []error
	if c.RequestID != "" && len(c.ConnectionIDs) != 1 {
		faults = append(faults, errors.New("--request-id goes with exactly one connection id"))
	}
	if c.Endpoint != nil {
		if _, err := deletion.ParseEndpointID(*c.Endpoint); err != nil {
			faults = append(faults, fmt.Errorf("--private-endpoint-id: %w", err))
		}
	}
	for _, status := range c.Status {
		if _, err := deletion.ParseLinkStatus(status); err != nil {
			faults = append(faults, fmt.Errorf("--status: %w", err))
		}
	}
	return errors.Join(faults...)
}

// bodies makes or reads the requests, and checks each as the worker will.
func (c *submitCmd) bodies(in io.Reader) ([][]byte, error) {
	if len(c.ConnectionIDs) == 0 {
		return readLines(in)
	}
	var bodies [][]byte
	var faults []error
	for _, id := range c.ConnectionIDs {
		body, err := json.Marshal(c.request(id))
		if err == nil {
			err = worker.Check(body)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", id, err))
		}
		bodies = append(bodies, body)
	}
	return bodies, errors.Join(faults...)
}

// request is a native request, as contract and README describe it.
func (c *submitCmd) request(connectionID string) map[string]any {
	r := map[string]any{"connectionId": connectionID}
	if c.Endpoint != nil {
		r["privateEndpointId"] = *c.Endpoint
	}
	for field, value := range map[string]string{"requestId": c.RequestID, "reason": c.Reason, "requestedBy": c.RequestedBy} {
		if value != "" {
			r[field] = value
		}
	}
	ticket := map[string]string{}
	for field, value := range map[string]string{"system": c.TicketSystem, "id": c.TicketID, "url": c.TicketURL} {
		if value != "" {
			ticket[field] = value
		}
	}
	if len(ticket) > 0 {
		r["ticket"] = ticket
	}
	if len(c.Status) > 0 {
		r["status"] = c.Status
	}
	if !c.NotBefore.IsZero() {
		r["notBefore"] = c.NotBefore
	}
	if c.DryRun {
		r["dryRun"] = true
	}
	return r
}

// readLines reads one request a line; empty lines do not count.
func readLines(in io.Reader) ([][]byte, error) {
	const longestLine = 256 << 10 // no tier's smallest limit is larger
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, longestLine)
	var bodies [][]byte
	var faults []error
	n := 0
	for lines.Scan() {
		n++
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if err := worker.Check(line); err != nil {
			faults = append(faults, fmt.Errorf("line %d: %w", n, err))
		}
		bodies = append(bodies, bytes.Clone(line))
	}
	if err := lines.Err(); err != nil {
		faults = append(faults, fmt.Errorf("line %d: %w", n+1, err))
	}
	if len(bodies) == 0 && len(faults) == 0 {
		faults = append(faults, errors.New("nothing to submit: give connection ids as arguments, or one JSON request a line on stdin"))
	}
	return bodies, errors.Join(faults...)
}

// A submission is what submit tells of a message that it sent.
type submission struct {
	RequestID string `json:"requestId"`
	MessageID string `json:"messageId"`
	TraceID   string `json:"traceId"`
}

// send puts one request on the queue and begins its trace.
func send(ctx context.Context, sender *azservicebus.Sender, queue string, tracer trace.TracerProvider, messageID string, body []byte) (submission, error) {
	ctx, span := tracer.Tracer("hsmsweep/submit").Start(ctx, "send "+queue, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("messaging.system", "servicebus"),
		attribute.String("messaging.operation.name", "send"),
		attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.name", queue),
		attribute.String("messaging.message.id", messageID),
	))
	defer span.End()
	properties := map[string]any{}
	worker.InjectTrace(ctx, properties)
	err := sender.SendMessage(ctx, &azservicebus.Message{
		MessageID: &messageID, Body: body, ContentType: new("application/json"), ApplicationProperties: properties,
	}, nil)
	if err != nil {
		span.RecordError(err)
	}
	return submission{RequestID: worker.RequestIDOf(body, messageID), MessageID: messageID, TraceID: span.SpanContext().TraceID().String()}, err
}

func (c *submitCmd) print(out io.Writer, s submission) error {
	if c.JSON {
		return json.NewEncoder(out).Encode(s)
	}
	_, err := fmt.Fprintf(out, "submitted %s\n", s.RequestID)
	return err
}

// closeClient says goodbye to Service Bus, within bounds. What was to be done is done by then, so that a failure is nobody's concern.
func closeClient(ctx context.Context, client *azservicebus.Client) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = client.Close(ctx)
}
