package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/worker"
)

type eventsCmd struct {
	connection
	Outcome list          `help:"Only events with this outcome. Repeatable." placeholder:"OUTCOME"`
	Ticket  string        `help:"Only events of the ticket with this id." placeholder:"ID"`
	JSON    bool          `help:"One event a line, as it was published."`
	Count   int           `help:"End after so many events that are shown; 0 follows until interrupted."`
	Timeout time.Duration `help:"End with exit code 1 when --count events have not come within this time; 0 waits." default:"0s"`
}

// Help is shown below the flags.
func (eventsCmd) Help() string {
	return `Reads by peeking, beginning with the oldest event that is still there: nothing is locked or taken away, so
any number of people can follow and other readers of the subscription miss nothing. Outcomes are
` + strings.Join(worker.Outcomes(), ", ") + `.

Examples:
  hsmsweep events --outcome rejected,failed,timedOut
  hsmsweep events --ticket CHG0012345 --count 1 --timeout 1h --json`
}

// Run is the command.
func (c *eventsCmd) Run(ctx context.Context, std streams) error {
	if err := config(c.check(), c.checkEnd(), c.checkFilters()); err != nil {
		return err
	}
	client, err := c.dial(defaultCredential(cloud.AzurePublic))
	if err != nil {
		return err
	}
	defer closeClient(ctx, client)
	receiver, err := c.openEvents(client)
	if err != nil {
		return err
	}
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("fewer than %d events within %s", c.Count, c.Timeout))
		defer cancel()
	}
	return c.follow(ctx, receiver, std.out)
}

// openEvents opens the entity for events, to read from.
func (c *connection) openEvents(client *azservicebus.Client) (*azservicebus.Receiver, error) {
	if c.Subscription == "" {
		return client.NewReceiverForQueue(c.Events, nil)
	}
	return client.NewReceiverForSubscription(c.Events, c.Subscription, nil)
}

func (c *eventsCmd) checkEnd() error {
	switch {
	case c.Count < 0:
		return fmt.Errorf("--count is %d, expected no less than 0", c.Count)
	case c.Timeout < 0:
		return fmt.Errorf("--timeout is %s, expected no less than 0s", c.Timeout)
	case c.Timeout > 0 && c.Count == 0:
		return errors.New("--timeout needs --count: it says how long to wait for so many events")
	}
	return nil
}

func (c *eventsCmd) checkFilters() error {
	var faults []error
	for _, word := range c.Outcome {
		if !slices.Contains(worker.Outcomes(), word) {
			faults = append(faults, fmt.Errorf("--outcome is %q, expected one of %s", word, strings.Join(worker.Outcomes(), ", ")))
		}
	}
	return errors.Join(faults...)
}

// peekPause is how often an empty subscription is looked at again; a look is a request to $management.
const peekPause = time.Second

func (c *eventsCmd) follow(ctx context.Context, receiver *azservicebus.Receiver, out io.Writer) error {
	for seen := 0; ; {
		messages, err := receiver.PeekMessages(ctx, 100, nil)
		if err != nil && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) { // the SDK may see the deadline first
			return err
		}
		for _, m := range messages {
			shown, err := c.print(out, m.Body)
			switch {
			case err != nil:
				return err
			case !shown:
				continue
			}
			if seen++; seen == c.Count {
				return nil
			}
		}
		if len(messages) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return c.interrupted(ctx)
		case <-time.After(peekPause):
		}
	}
}

// interrupted tells a time-out, which is a failure, from a person's Ctrl-C, which is how following ends.
func (c *eventsCmd) interrupted(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	return nil
}

// print shows an event, if it is one of those that were asked for.
func (c *eventsCmd) print(out io.Writer, body []byte) (shown bool, err error) {
	var event struct {
		Time time.Time        `json:"time"`
		Data worker.EventData `json:"data"`
	}
	if err := json.Unmarshal(body, &event); err != nil && !c.JSON {
		return false, fmt.Errorf("a message of the events entity is no event of hsmsweep: %w", err)
	}
	d := event.Data
	if len(c.Outcome) > 0 && !slices.Contains(c.Outcome, string(d.Outcome)) || c.Ticket != "" && (d.Ticket == nil || d.Ticket.ID != c.Ticket) {
		return false, nil
	}
	if c.JSON {
		var line bytes.Buffer
		if err := json.Compact(&line, body); err != nil {
			return false, fmt.Errorf("a message of the events entity is no JSON: %w", err)
		}
		line.WriteByte('\n')
		_, err := line.WriteTo(out)
		return true, err
	}
	detail := ""
	switch {
	case d.Error != nil:
		detail = "  " + d.Error.Code + ": " + d.Error.Message
	case d.ChildCount > 0:
		detail = fmt.Sprintf("  %d requests", d.ChildCount)
	case d.Expected != "":
		detail = "  expected " + d.Expected + ", found " + d.Found
	}
	line := fmt.Sprintf("%s  %-16s %s  %s%s", event.Time.Format(time.RFC3339), d.Outcome, d.RequestID, cmp.Or(d.ConnectionID, "-"), detail)
	_, err = fmt.Fprintln(out, printable(line))
	return true, err
}
