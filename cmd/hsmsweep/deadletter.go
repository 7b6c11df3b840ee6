package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"hsmsweep/worker"
)

type deadletterCmd struct {
	List     deadletterListCmd     `cmd:"" help:"Lists dead letters. Takes nothing away."`
	Show     deadletterShowCmd     `cmd:"" help:"Shows all that is known of dead letters: body, reason, state, trace. Takes nothing away."`
	Resubmit deadletterResubmitCmd `cmd:"" help:"Puts dead letters back into the queue, as new requests."`
	Drop     deadletterDropCmd     `cmd:"" help:"Deletes dead letters for good."`
}

// Help is shown below the flags.
func (deadletterCmd) Help() string {
	return `Examples:
  hsmsweep deadletter list --reason ScopeLocked
  hsmsweep deadletter show CHG0012345
  hsmsweep deadletter resubmit --reason AuthorizationFailed --rate 5
  hsmsweep deadletter drop --reason InvalidRequest --older 720h --yes`
}

// deadFilter chooses dead letters: those that every filter passes, all without one.
type deadFilter struct {
	connection
	RequestIDs []string `arg:"" optional:"" name:"request-id" help:"Only requests with these ids."`
	Reason     list     `help:"Only what has this dead-letter reason, an error code. Repeatable." placeholder:"CODE"`
	poolFilter
	Older time.Duration `help:"Only what became a dead letter longer ago than this."`
	JSON  bool          `help:"One JSON object a dead letter."`
}

func (f *deadFilter) checkFilters() error {
	if f.Older < 0 {
		return errors.Join(fmt.Errorf("--older is %s, expected no less than 0s", f.Older), f.checkPool())
	}
	return f.checkPool()
}

func (f *deadFilter) filter(page []worker.DeadLetter) []worker.DeadLetter {
	return slices.DeleteFunc(page, func(d worker.DeadLetter) bool {
		return len(f.RequestIDs) > 0 && !slices.Contains(f.RequestIDs, d.RequestID) ||
			len(f.Reason) > 0 && !slices.ContainsFunc(f.Reason, func(code string) bool { return strings.EqualFold(code, d.Reason) }) ||
			!f.passes(d.Pool) ||
			f.Older > 0 && time.Since(d.DeadLetteredAt) <= f.Older
	})
}

// missing are faults of ids that no dead letter has.
func (f *deadFilter) missing(found []worker.DeadLetter) error {
	var faults []error
	for _, id := range slices.Compact(slices.Sorted(slices.Values(f.RequestIDs))) {
		if !slices.ContainsFunc(found, func(d worker.DeadLetter) bool { return d.RequestID == id }) {
			faults = append(faults, fmt.Errorf("%s: no such dead letter", printable(id)))
		}
	}
	return errors.Join(faults...)
}

// find gives all dead letters that pass.
func (f *deadFilter) find(ctx context.Context, operator *worker.Operator) ([]worker.DeadLetter, error) {
	var found []worker.DeadLetter
	for page, err := range operator.DeadLetters(ctx) {
		if err != nil {
			return nil, err
		}
		found = append(found, f.filter(page)...)
	}
	return found, nil
}

type deadletterListCmd struct{ deadFilter }

// Help is shown below the flags.
func (deadletterListCmd) Help() string {
	return `Reads by peeking: nothing is locked or changed. DEAD is since the request became a dead letter, SENT since it was sent; of a message
that some other tool dead-lettered both are since it entered the queue. --json has everything but body and state, which show has.`
}

// Run is the command.
func (c *deadletterListCmd) Run(ctx context.Context, std streams) error {
	return c.operate(ctx, std, c.checkFilters(), func(operator *worker.Operator) error { return c.list(ctx, operator, std.out) })
}

// list prints page by page.
func (c *deadletterListCmd) list(ctx context.Context, operator *worker.Operator, to io.Writer) error {
	width, _, _ := screen(to)
	out := bufio.NewWriter(to)
	view := c.newView(out, width)
	for page, err := range operator.DeadLetters(ctx) {
		if err != nil {
			return err
		}
		if err := errors.Join(view.print(c.filter(page)), out.Flush()); err != nil {
			return err
		}
	}
	view.close()
	return out.Flush()
}

func (c *deadletterListCmd) newView(out io.Writer, width int) *listing[worker.DeadLetter] {
	return newListing(listing[worker.DeadLetter]{out: out, json: c.JSON, width: width, row: deadRow, long: true,
		head:  []string{"REQUEST", "CONNECTION", "REASON", "DEAD", "SENT", "AGAIN", "TICKET", "DESCRIPTION"},
		count: counted("No such dead letter.", "1 dead letter.", "%d dead letters.")})
}

func deadRow(d worker.DeadLetter, now time.Time) []string {
	return []string{d.RequestID, shortID(cmp.Or(d.ConnectionID, d.Selector)), d.Reason, roughly(now.Sub(d.DeadLetteredAt)), roughly(now.Sub(d.RequestedAt)),
		strconv.Itoa(d.Resubmits), ticketName(d.Ticket), d.Description}
}
