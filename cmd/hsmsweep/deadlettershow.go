package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"hsmsweep/worker"
)

type deadletterShowCmd struct{ deadFilter }

// Help is shown below the flags.
func (deadletterShowCmd) Help() string {
	return `Reads by peeking: nothing is locked or changed. The state is what the request carried from hop to hop; the trace id leads to all
that was done for it. --json has the body as body, or as bodyBase64 where it is no text.`
}

// Run is the command.
func (c *deadletterShowCmd) Run(ctx context.Context, std streams) error {
	return c.operate(ctx, std, c.checkFilters(), func(operator *worker.Operator) error { return c.show(ctx, operator, std.out) })
}

func (c *deadletterShowCmd) show(ctx context.Context, operator *worker.Operator, out io.Writer) error {
	found, err := c.find(ctx, operator)
	if err != nil {
		return err
	}
	for i, d := range found {
		if c.JSON {
			err = showJSON(out, d)
		} else {
			err = showText(out, d, i > 0)
		}
		if err != nil {
			return err
		}
	}
	if len(found) == 0 && len(c.RequestIDs) == 0 && !c.JSON {
		fmt.Fprintln(out, "No such dead letter.")
	}
	return c.missing(found)
}

func showJSON(out io.Writer, d worker.DeadLetter) error {
	shown := struct {
		worker.DeadLetter
		Attempt    json.RawMessage `json:"attempt,omitempty"`
		Body       *string         `json:"body,omitempty"`
		BodyBase64 []byte          `json:"bodyBase64,omitempty"`
	}{DeadLetter: d}
	switch {
	case d.Body == nil: // of an AMQP value or sequence
	case utf8.Valid(d.Body):
		shown.Body = new(string(d.Body))
	default:
		shown.BodyBase64 = d.Body
	}
	if shown.Attempt = json.RawMessage(d.Attempt); !json.Valid(shown.Attempt) {
		shown.Attempt, _ = json.Marshal(d.Attempt) // a text always can
	}
	if d.Attempt == "" {
		shown.Attempt = nil
	}
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	return lines.Encode(shown)
}

// showText prints one line a fact. The body comes last, as it is, but for what would act upon a terminal.
func showText(out io.Writer, d worker.DeadLetter, again bool) error {
	if again {
		fmt.Fprintln(out)
	}
	ticket := ""
	if t := d.Ticket; t != nil {
		ticket = fmt.Sprintf("%s %s %s", t.System, t.ID, t.URL)
	}
	body := string(d.Body)
	if d.Body == nil {
		body = "none: not one AMQP data section"
	}
	now := time.Now()
	rows := [][]string{
		{"request", d.RequestID},
		{"connection", cmp.Or(d.ConnectionID, d.Selector)},
		{"reason", d.Reason},
		{"description", d.Description},
		{"dead since", since(d.DeadLetteredAt, now)},
		{"sent", since(d.RequestedAt, now)},
		{"did", fmt.Sprintf("%s, %s, %s; resubmitted before: %d", times(d.Hops+1, "hop"), times(d.Attempts, "DELETE"), times(d.Polls, "poll"), d.Resubmits)},
		{"ticket", ticket},
		{"trace id", d.TraceID},
		{"message", fmt.Sprintf("%s, number %d", cmp.Or(d.MessageID, "without an id"), d.SequenceNumber)},
		{"state", d.Attempt},
		{"body", body},
	}
	var faults []error
	for _, row := range rows {
		_, err := fmt.Fprintf(out, "%-12s %s\n", row[0], cmp.Or(printable(row[1]), "-"))
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

func since(at, now time.Time) string {
	return fmt.Sprintf("%s, %s ago", at.Format(time.RFC3339), roughly(now.Sub(at)))
}

func times(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
