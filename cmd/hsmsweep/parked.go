package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"hsmsweep/deletion"
	"hsmsweep/worker"
)

type parkedCmd struct {
	connection
	poolFilter
	Why   list          `help:"Only requests that wait for this reason. Repeatable." placeholder:"REASON"`
	Older time.Duration `help:"Only requests that were sent longer ago than this."`
	JSON  bool          `help:"One JSON object a request."`
	Watch bool          `help:"Show it again every few seconds until interrupted: on a terminal what fits on the screen, elsewhere all of it."`
}

// Help is shown below the flags.
func (parkedCmd) Help() string {
	return `Reads by peeking: nothing is locked or changed. What is listed is scheduled in the queue; what is due, or being
handled, is not. Reasons are ` + strings.Join(reasons(), ", ") + `.

A connection is shown as POOL/NAME; DUE is until the next step, AGE since the request was sent. A terminal that is too
narrow cuts connections, then lines; --json has everything.

Examples:
  hsmsweep parked --pool hsm1 --why conflict,denied --older 2h
  hsmsweep parked --json | jq -r .requestId
  hsmsweep parked --watch`
}

func reasons() []string {
	words := make([]string, len(worker.WaitReasons))
	for i, r := range worker.WaitReasons {
		words[i] = string(r)
	}
	return words
}

// Run is the command.
func (c *parkedCmd) Run(ctx context.Context, std streams) error {
	return c.operate(ctx, std, c.checkFilters(), func(operator *worker.Operator) error {
		if !c.Watch {
			return c.list(ctx, operator, std.out)
		}
		return c.watch(ctx, operator, std.out)
	})
}

func (c *parkedCmd) watch(ctx context.Context, operator *worker.Operator, out io.Writer) error {
	for ctx.Err() == nil {
		if err := c.look(ctx, operator, out); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
	}
	return nil
}

// watchPause is how often the queue is looked at again.
const watchPause = 3 * time.Second

func (c *parkedCmd) checkFilters() error {
	var faults []error
	for _, word := range c.Why {
		if !slices.Contains(reasons(), word) {
			faults = append(faults, fmt.Errorf("--why is %q, expected one of %s", word, strings.Join(reasons(), ", ")))
		}
	}
	if c.Older < 0 {
		faults = append(faults, fmt.Errorf("--older is %s, expected no less than 0s", c.Older))
	}
	return errors.Join(append(faults, c.checkPool())...)
}

// A poolFilter keeps what is about one pool.
type poolFilter struct {
	Pool string `help:"Only requests about this pool." placeholder:"NAME|ID"`
}

func (f poolFilter) checkPool() error {
	if !strings.Contains(f.Pool, "/") {
		return nil
	}
	if _, err := deletion.ParsePoolID(f.Pool); err != nil {
		return fmt.Errorf("--pool: %w", err)
	}
	return nil
}

func (f poolFilter) passes(id deletion.PoolID) bool {
	return f.Pool == "" || strings.EqualFold(f.Pool, id.Name) || deletion.SameID(f.Pool, id.String())
}

// list prints page by page, so that it begins at once, however many requests wait, and holds no more than a page of them.
func (c *parkedCmd) list(ctx context.Context, operator *worker.Operator, out io.Writer) error {
	buffered := bufio.NewWriter(out)
	width, _, _ := screen(out)
	view := c.newView(buffered, width)
	for page, err := range operator.Requests(ctx) {
		if err != nil {
			return err
		}
		if err := view.print(c.filter(page)); err != nil {
			return err
		}
		if err := buffered.Flush(); err != nil {
			return err
		}
	}
	view.close()
	return buffered.Flush()
}

// look lists once more; on a terminal over what was there, and no more than there is room for.
func (c *parkedCmd) look(ctx context.Context, operator *worker.Operator, out io.Writer) error {
	width, height, ok := screen(out)
	if !ok || c.JSON {
		return c.list(ctx, operator, out)
	}
	var picture bytes.Buffer
	view := c.newView(&picture, width)
	room := max(height-3, 1) // head, last line, cursor
	for page, err := range operator.Requests(ctx) {
		if err != nil {
			return err
		}
		shown := c.filter(page)
		more := len(shown) > room
		if err := view.print(shown[:min(room, len(shown))]); err != nil {
			return err
		}
		if room -= len(shown); more {
			break
		}
	}
	if room < 0 {
		fmt.Fprintln(&picture, "and more; without --watch all are listed")
	} else {
		view.close()
	}
	const home, clear = "\x1b[H", "\x1b[2J"
	_, err := io.WriteString(out, clear+home+picture.String())
	return err
}

// screen is the size of the terminal that is written to, if it is one.
func screen(out io.Writer) (width, height int, ok bool) {
	f, isFile := out.(*os.File)
	if !isFile {
		return 0, 0, false
	}
	width, height, err := term.GetSize(int(f.Fd()))
	return width, height, err == nil
}

// filter keeps what is parked and was asked for.
func (c *parkedCmd) filter(page []worker.Waiting) []worker.Waiting {
	return slices.DeleteFunc(page, func(w worker.Waiting) bool {
		return !w.Parked ||
			!c.passes(w.Pool) ||
			len(c.Why) > 0 && !slices.Contains(c.Why, string(w.Why)) ||
			c.Older > 0 && time.Since(w.RequestedAt) <= c.Older
	})
}
