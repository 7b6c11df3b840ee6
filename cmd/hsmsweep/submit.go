package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/deletion"
)

type submitCmd struct {
	connection
	ConnectionIDs []string  `arg:"" optional:"" name:"connection-id" help:"ARM ids of private endpoint connections. None, and no selector: requests as JSON lines on stdin."`
	CSV           *string   `name:"csv" help:"Requests from a CSV file with a header row; - is stdin." placeholder:"FILE"`
	Pool          *string   `name:"managed-hsm-id" help:"Select every connection of this pool in one of the states of --status." placeholder:"ID"`
	Endpoint      *string   `name:"private-endpoint-id" help:"Delete only while the connection belongs to this private endpoint. Without connection ids: select every connection that belongs to it." placeholder:"ID"`
	RequestID     string    `help:"Id of the request, for a single one." placeholder:"ID"`
	Status        list      `help:"Delete only in this link state. Repeatable." placeholder:"STATUS"`
	Reason        string    `help:"Why."`
	RequestedBy   string    `help:"Who asks."`
	TicketSystem  string    `help:"Ticket system, such as servicenow." placeholder:"NAME"`
	TicketID      string    `help:"Ticket number." placeholder:"ID"`
	TicketURL     string    `name:"ticket-url" help:"Ticket address." placeholder:"URL"`
	NotBefore     time.Time `help:"RFC 3339 time before which nothing is deleted." placeholder:"TIME"`
	DryRun        bool      `help:"Ask for a report; delete nothing."`
	Force         bool      `help:"Delete even what the worker's --protect-last-approved would keep."`
	JSON          bool      `help:"One JSON object a request on stdout."`
}

// Help is shown below the flags.
func (submitCmd) Help() string {
	return `Examples:
  hsmsweep submit --ticket-id CHG0012345 /subscriptions/…/managedHSMs/hsm1/privateEndpointConnections/pec1
  hsmsweep submit --managed-hsm-id /subscriptions/…/managedHSMs/hsm1 --status Disconnected
  hsmsweep submit < requests.jsonl
  hsmsweep submit --csv requests.csv

Every request is checked before the first is sent. What is wrong is told by line, and then nothing is sent.

A CSV file is UTF-8, with commas or semicolons between the cells, and these columns in any order and case: ` + strings.Join(columns, ", ") + `.
ticket.system, ticket.id and ticket.url are other spellings. Several states in a status cell have a semicolon or a space between them.

An empty cell leaves its field out. Where that would drop a guard the row is refused instead: an empty status, dryRun or
notBefore, an empty privateEndpointId beside a connectionId, and the other way round. Fill it in, or remove the column.

Flags that describe a request go with connection ids and selectors. Rows, of CSV or JSON, say everything themselves.

Rows are safe to repeat: the message id is made of what the row says, so that running the same file again within the
queue's duplicate window adds nothing. A row that stands twice in one file is two requests. Connection ids and
selectors get a new message id each time: the same one submitted twice is two requests.`
}

// Run is the command.
func (c *submitCmd) Run(ctx context.Context, std streams) error {
	if err := config(c.check(), c.checkSource(), c.checkGuards()); err != nil {
		return err
	}
	drafts, err := c.drafts(std)
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
	batches, err := pack(ctx, sender, c.Queue, tracing, drafts)
	if err != nil {
		return err
	}
	sent, err := sendAll(ctx, sender, batches, newTeller(std, c.JSON, len(drafts)))
	if err != nil {
		advice := ""
		if c.readsRows() {
			advice = "running the same file again is safe: what was sent is recognised within the queue's duplicate window; "
		}
		return fmt.Errorf("%d of %d requests were sent; %sthe next failed: %w", sent, len(drafts), advice, err)
	}
	return nil
}

// drafts are the requests that are to be sent, checked as the worker will.
func (c *submitCmd) drafts(std streams) ([]draft, error) {
	switch {
	case c.CSV != nil:
		return c.readFile(std.in)
	case c.readsRows():
		return readLines(std.in)
	case c.selects():
		if err := c.checkIdle(std); err != nil {
			return nil, err
		}
		return c.described("")
	}
	return c.described(c.ConnectionIDs...)
}

// selects tells whether a flag selects the connections, of a single request.
func (c *submitCmd) selects() bool {
	return len(c.ConnectionIDs) == 0 && c.CSV == nil && (c.Pool != nil || c.Endpoint != nil)
}

// readsRows tells whether the requests are rows, of CSV or JSON, which say everything themselves.
func (c *submitCmd) readsRows() bool { return len(c.ConnectionIDs) == 0 && !c.selects() }

// checkSource checks that requests come from one place, and that no flag is given that would be dropped there in silence.
func (c *submitCmd) checkSource() error {
	var faults []error
	refuse := func(wrong bool, words string) {
		if wrong {
			faults = append(faults, errors.New(words))
		}
	}
	ids := len(c.ConnectionIDs)
	refuse(c.CSV != nil && *c.CSV == "", "--csv is empty; name a file, or - for stdin")
	refuse(c.CSV != nil && ids > 0, "--csv cannot stand beside connection ids; put them into the file")
	refuse(c.Pool != nil && ids > 0, "--managed-hsm-id cannot stand beside connection ids")
	refuse(c.Pool != nil && c.Endpoint != nil, "--managed-hsm-id and --private-endpoint-id exclude each other")
	refuse(c.Pool != nil && len(c.Status) == 0, "--managed-hsm-id needs --status: in which state a connection of the pool is to be deleted")
	refuse(c.RequestID != "" && ids > 1, "--request-id goes with exactly one connection id")
	if flags := c.describing(); c.readsRows() && len(flags) > 0 {
		refuse(true, strings.Join(flags, ", ")+": goes with connection ids or a selector, not with rows; say it in a column of the CSV file, or a field of the JSON lines")
	}
	return errors.Join(faults...)
}

// describing are the flags given that describe a request.
func (c *submitCmd) describing() []string {
	var given []string
	for _, flag := range []struct {
		name  string
		given bool
	}{
		{"--managed-hsm-id", c.Pool != nil}, {"--private-endpoint-id", c.Endpoint != nil}, {"--request-id", c.RequestID != ""},
		{"--status", len(c.Status) > 0}, {"--reason", c.Reason != ""}, {"--requested-by", c.RequestedBy != ""},
		{"--ticket-system", c.TicketSystem != ""}, {"--ticket-id", c.TicketID != ""}, {"--ticket-url", c.TicketURL != ""},
		{"--not-before", !c.NotBefore.IsZero()}, {"--dry-run", c.DryRun}, {"--force", c.Force},
	} {
		if flag.given {
			given = append(given, flag.name)
		}
	}
	return given
}

// checkGuards checks what the flags say of every request. A guard that is there and empty is a fault, not no guard.
func (c *submitCmd) checkGuards() error {
	var faults []error
	if c.Pool != nil {
		if _, err := deletion.ParsePoolID(*c.Pool); err != nil {
			faults = append(faults, fmt.Errorf("--managed-hsm-id: %w", err))
		}
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

// closeClient says goodbye to Service Bus, within bounds. What was to be done is done by then, so that a failure is nobody's concern.
func closeClient(ctx context.Context, client *azservicebus.Client) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = client.Close(ctx)
}
