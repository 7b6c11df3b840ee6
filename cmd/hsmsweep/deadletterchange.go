package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hsmsweep/worker"
)

// mostLocked is how many dead letters are locked at a time, so that the last of them is done before its lock runs out.
const mostLocked = 250

// deadChange is what resubmit and drop have in common.
type deadChange struct {
	deadFilter
	Yes    bool `help:"Do not ask. Needed where there is no terminal to ask on."`
	DryRun bool `help:"Only tell which dead letters it would be."`
}

type deadletterResubmitCmd struct {
	deadChange
	Rate float64 `help:"At most so many a second; 0 is as many as can be."`
}

// Help is shown below the flags.
func (deadletterResubmitCmd) Help() string {
	return `Each becomes a new request with the same body, byte for byte, the sender's properties and the same request id; its state is left
behind, its event has an id of its own, and its trace is a new one with a link to the old. It is sent before the dead letter is completed,
under a message id that is the same if the command is repeated, so that a command that was killed in between adds nothing when
it is given again within the queue's duplicate window. Without filters all dead letters are meant. What the broker dead-lettered by
itself is left alone: a worker takes it back. Exit code 1 if one that was meant was not resubmitted.`
}

// Run is the command.
func (c *deadletterResubmitCmd) Run(ctx context.Context, std streams) error {
	return c.change(ctx, std, "resubmit", "resubmitted", c.checkRate(), func(ctx context.Context, o *worker.Operator, found []worker.DeadLetter, told worker.Settled) error {
		pace, stop := c.pace()
		defer stop()
		return o.Resubmit(ctx, found, c.atATime(), pace, told)
	})
}

func (c *deadletterResubmitCmd) checkRate() error {
	if !(c.Rate >= 0 && c.Rate <= 1e6) {
		return fmt.Errorf("--rate is %g, expected 0 to a million a second", c.Rate)
	}
	return nil
}

// atATime is how many are locked at a time, so that the last of them has its turn within ten seconds.
func (c *deadletterResubmitCmd) atATime() int {
	if c.Rate == 0 {
		return mostLocked
	}
	return max(1, min(mostLocked, int(10*c.Rate)))
}

// pace waits for the next one's turn.
func (c *deadletterResubmitCmd) pace() (wait func(context.Context) error, stop func()) {
	if c.Rate == 0 {
		return func(ctx context.Context) error { return ctx.Err() }, func() {}
	}
	turns := time.NewTicker(time.Duration(float64(time.Second) / c.Rate))
	first := true
	return func(ctx context.Context) error {
		if first {
			first = false
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-turns.C:
			return nil
		}
	}, turns.Stop
}

type deadletterDropCmd struct{ deadChange }

// Help is shown below the flags.
func (deadletterDropCmd) Help() string {
	return `What is dropped is gone; its event was published when it became a dead letter. Without filters all dead letters are meant. What
the broker dead-lettered by itself is left alone, since no event has told of it yet: a worker takes it back. Exit code 1 if one that
was meant was not dropped.`
}

// Run is the command.
func (c *deadletterDropCmd) Run(ctx context.Context, std streams) error {
	return c.change(ctx, std, "drop", "dropped", nil, func(ctx context.Context, o *worker.Operator, found []worker.DeadLetter, told worker.Settled) error {
		return o.Drop(ctx, found, mostLocked, told)
	})
}

// change finds the dead letters that are meant, asks, and does it.
func (c *deadChange) change(ctx context.Context, std streams, verb, done string, wrong error,
	do func(context.Context, *worker.Operator, []worker.DeadLetter, worker.Settled) error) error {
	canAsk := isTerminal(std.in) && isTerminal(std.err)
	if !c.Yes && !c.DryRun && !canAsk {
		wrong = errors.Join(wrong, fmt.Errorf("--yes is needed to %s dead letters where nobody can be asked; --dry-run tells which", verb))
	}
	return c.operate(ctx, std, errors.Join(c.checkFilters(), wrong), func(operator *worker.Operator) error {
		return c.carryOut(ctx, operator, std, verb, done, do)
	})
}

func (c *deadChange) carryOut(ctx context.Context, operator *worker.Operator, std streams, verb, done string,
	do func(context.Context, *worker.Operator, []worker.DeadLetter, worker.Settled) error) error {
	found, err := c.find(ctx, operator)
	if err != nil {
		return err
	}
	missing := c.missing(found)
	out := bufio.NewWriter(std.out)
	report := deadReport{out: out, json: c.JSON, done: done}
	switch {
	case len(found) == 0:
		if !c.JSON && missing == nil {
			fmt.Fprintln(out, "No such dead letter.")
		}
	case c.DryRun:
		report.done = "would " + verb
		for _, d := range found {
			report.settled(d, nil)
		}
	case !c.Yes && !confirmed(std, verb, found):
		return errors.Join(missing, errors.New("nothing was changed"))
	default:
		err = do(ctx, operator, found, report.settled)
	}
	return errors.Join(missing, err, errors.Join(report.faults...), out.Flush())
}

// confirmed asks on the terminal. Nothing but yes is yes.
func confirmed(std streams, verb string, found []worker.DeadLetter) bool {
	reasons := map[string]int{}
	for _, d := range found {
		reasons[cmp.Or(printable(d.Reason), "without a reason")]++
	}
	var parts []string
	for _, reason := range slices.SortedFunc(maps.Keys(reasons), func(a, b string) int { return cmp.Or(reasons[b]-reasons[a], cmp.Compare(a, b)) }) {
		parts = append(parts, fmt.Sprintf("%d %s", reasons[reason], reason))
	}
	fmt.Fprintf(std.err, "%s %s (%s)? [y/N] ", strings.ToUpper(verb[:1])+verb[1:], times(len(found), "dead letter"), strings.Join(parts, ", "))
	answer, _ := bufio.NewReader(std.in).ReadString('\n') // no answer is no
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// A deadReport tells what became of each dead letter.
type deadReport struct {
	out    *bufio.Writer
	json   bool
	done   string
	faults []error
}

// A deadChanged is what resubmit and drop tell of a dead letter.
type deadChanged struct {
	RequestID      string `json:"requestId"`
	ConnectionID   string `json:"connectionId,omitempty"`
	Reason         string `json:"reason"`
	SequenceNumber int64  `json:"sequenceNumber"`
	Result         string `json:"result"` // resubmitted, dropped, dryRun, failed
	Message        string `json:"message,omitempty"`
}

func (r *deadReport) settled(d worker.DeadLetter, err error) {
	told := deadChanged{RequestID: d.RequestID, ConnectionID: d.ConnectionID, Reason: d.Reason, SequenceNumber: d.SequenceNumber, Result: r.done}
	if strings.HasPrefix(r.done, "would ") {
		told.Result = "dryRun"
	}
	if err != nil {
		told.Result, told.Message = "failed", err.Error()
		r.faults = append(r.faults, fmt.Errorf("%s (%s): %w", printable(d.RequestID), printable(d.Reason), err))
	}
	switch {
	case r.json:
		lines := json.NewEncoder(r.out)
		lines.SetEscapeHTML(false)
		r.faults = append(r.faults, lines.Encode(told))
	case err == nil:
		_, err := fmt.Fprintf(r.out, "%s %s  %s  %s\n", r.done, printable(d.RequestID), cmp.Or(d.ConnectionID, printable(d.Selector), "-"), printable(d.Reason))
		r.faults = append(r.faults, err)
	}
	r.faults = append(r.faults, r.out.Flush()) // whoever watches sees it go on
}
