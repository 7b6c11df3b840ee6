package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"hsmsweep/worker"
)

type cancelCmd struct {
	connection
	RequestIDs   []string `arg:"" name:"request-id" help:"Ids of the requests, as parked lists them."`
	StopWatching bool     `help:"Also end requests whose operation ARM has begun. ARM may still delete the connection."`
	Expedite     bool     `help:"Do not cancel: have the requests due now."`
	JSON         bool     `help:"One JSON object a request on stdout."`
}

// Help is shown below the flags.
func (cancelCmd) Help() string {
	return `A request that waits is taken out of the queue, and its event tells that it was cancelled. It is too late once ARM
has begun the operation, while the request is being handled, and when it has ended. Where several messages carry one
request id, each is cancelled and has an event of its own. Exit code 1 if anything was not cancelled; should
an event not be published, it is printed on stdout.

--expedite ends waits for notBefore, conflict, denied, unavailable, restart, publish and panic, not those that ARM asked for.

Examples:
  hsmsweep cancel CHG0012345
  hsmsweep cancel --expedite CHG0012345 CHG0012346`
}

// Run is the command.
func (c *cancelCmd) Run(ctx context.Context, std streams) error {
	return c.operate(ctx, std, c.checkWish(), func(operator *worker.Operator) error {
		found, err := operator.Find(ctx, c.RequestIDs)
		if err != nil {
			return err
		}
		faults := c.missing(std.out, found)
		for _, w := range found {
			faults = append(faults, c.carryOut(ctx, operator, w, std.out))
		}
		return errors.Join(faults...)
	})
}

func (c *cancelCmd) checkWish() error {
	if c.StopWatching && c.Expedite {
		return errors.New("--stop-watching and --expedite exclude each other")
	}
	return nil
}

// missing reports ids that no message in the queue has.
func (c *cancelCmd) missing(out io.Writer, found []worker.Waiting) []error {
	var faults []error
	for _, id := range slices.Compact(slices.Sorted(slices.Values(c.RequestIDs))) {
		if !slices.ContainsFunc(found, func(w worker.Waiting) bool { return w.RequestID == id }) {
			err := errors.New("not found in the queue: it has ended, then there is an event, or it was never sent here")
			faults = append(faults, c.report(out, worker.Waiting{RequestID: id}, "notFound", err))
		}
	}
	return faults
}

func (c *cancelCmd) carryOut(ctx context.Context, operator *worker.Operator, w worker.Waiting, out io.Writer) error {
	result, err := "cancelled", error(nil)
	if c.Expedite {
		result, err = "expedited", operator.Expedite(ctx, w)
	} else {
		err = operator.Cancel(ctx, w, c.StopWatching)
	}
	switch {
	case errors.Is(err, worker.ErrTooLate):
		result = "tooLate"
	case err != nil:
		result = "failed"
	}
	return c.report(out, w, result, err)
}

// A cancellation is what cancel tells of a request.
type cancellation struct {
	RequestID    string          `json:"requestId"`
	ConnectionID string          `json:"connectionId,omitempty"`
	Result       string          `json:"result"` // cancelled, expedited, tooLate, notFound, failed
	Message      string          `json:"message,omitempty"`
	Event        json.RawMessage `json:"event,omitempty"` // that could not be published
}

// report prints what became of a request, and returns what went wrong with it.
func (c *cancelCmd) report(out io.Writer, w worker.Waiting, result string, err error) error {
	told := cancellation{RequestID: w.RequestID, ConnectionID: w.ConnectionID, Result: result}
	if err != nil {
		told.Message = err.Error()
		err = fmt.Errorf("%s: %w", printable(w.RequestID), err)
	}
	unpublished, ok := errors.AsType[*worker.UnpublishedError](err)
	if ok {
		told.Event = unpublished.Event.Body
	}
	var printing error
	switch {
	case c.JSON:
		lines := json.NewEncoder(out)
		lines.SetEscapeHTML(false)
		printing = lines.Encode(told)
	case ok:
		_, printing = fmt.Fprintf(out, "%s\n", told.Event)
	case err == nil:
		_, printing = fmt.Fprintf(out, "%s %s  %s\n", result, printable(w.RequestID), cmp.Or(w.ConnectionID, w.Selector, "-"))
	}
	return errors.Join(err, printing)
}
