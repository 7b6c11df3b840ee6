package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"hsmsweep/worker"
)

// A draft is a request that is to become a message.
type draft struct {
	place     string // where its author finds it: "line 7", or the connection id that was an argument
	messageID string
	body      []byte
}

// described makes a request of each connection id from what the flags say; an empty id leaves it to a selector.
func (c *submitCmd) described(connectionIDs ...string) ([]draft, error) {
	var drafts []draft
	var faults []error
	for _, id := range connectionIDs {
		place := id
		if id == "" {
			place = "the request"
		}
		body, err := json.Marshal(c.fields(id))
		if err == nil {
			err = worker.Check(body)
		}
		if err != nil {
			faults = append(faults, faultAt(place, err))
		}
		drafts = append(drafts, draft{place, uuid.NewString(), body})
	}
	return drafts, errors.Join(faults...)
}

// fields are those of a native request, as contract and README describe it.
func (c *submitCmd) fields(connectionID string) map[string]any {
	r := map[string]any{}
	if connectionID != "" {
		r["connectionId"] = connectionID
	}
	if c.Pool != nil {
		r["managedHsmId"] = *c.Pool
	}
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
	if c.Force {
		r["force"] = true
	}
	return r
}

// checkIdle refuses rows on stdin beside a selector: they would be dropped, and the guard that --private-endpoint-id was meant
// to be for them would select all that belongs to that endpoint.
func (c *submitCmd) checkIdle(std streams) error {
	if f, ok := std.in.(*os.File); ok && isTerminal(f) {
		return nil
	}
	notice := time.AfterFunc(time.Second, func() {
		fmt.Fprintln(std.err, "hsmsweep: waiting for stdin to end, since no rows may be there beside a selector; < /dev/null ends it at once")
	})
	defer notice.Stop()
	in := bufio.NewReader(std.in)
	for {
		b, err := in.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("stdin: %w", err)
		case !strings.ContainsRune(" \t\r\n", rune(b)):
			selector := "--private-endpoint-id"
			if c.Pool != nil {
				selector = "--managed-hsm-id"
			}
			return config(fmt.Errorf("%s selects the connections of one request, and there are rows on stdin; < /dev/null if they are not meant", selector))
		}
	}
}

// longestRow is the longest body of a row, in bytes: no tier's smallest limit is larger.
const longestRow = 256 << 10

// readLines reads one request a line; empty lines do not count.
func readLines(in io.Reader) ([]draft, error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, longestRow)
	var rows rows
	n := 0
	for lines.Scan() {
		n++
		if line := bytes.TrimSpace(lines.Bytes()); len(line) > 0 {
			rows.add(n, bytes.Clone(line), nil)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		rows.refuse(n+1, fmt.Errorf("is longer than %d bytes; the lines below it were not read", longestRow))
	} else if err != nil {
		rows.refuse(n+1, err)
	}
	return rows.done("nothing to submit: give connection ids as arguments, one JSON request a line on stdin, or --csv")
}

// rows are requests by line, with all that is wrong with them. Their message ids are made of what they say, so that the
// broker's duplicate detection drops what is sent again.
type rows struct {
	drafts []draft
	faults []error
	seen   map[string]int // how often each message id has come
}

// add takes a row, which is wrong if there is an error or the worker would say so.
func (r *rows) add(line int, body []byte, err error) {
	switch {
	case err != nil:
	case len(body) > longestRow:
		err = fmt.Errorf("makes a request of %d bytes, expected no more than %d", len(body), longestRow)
	default:
		err = worker.Check(body)
	}
	if err != nil {
		r.refuse(line, err)
		return
	}
	sum := sha256.Sum256(body)
	id := fmt.Sprintf("submit-%x", sum[:16])
	if r.seen == nil {
		r.seen = map[string]int{}
	}
	if r.seen[id]++; r.seen[id] > 1 {
		id = fmt.Sprintf("%s-%d", id, r.seen[id])
	}
	r.drafts = append(r.drafts, draft{place(line), id, body})
}

func (r *rows) refuse(line int, err error) { r.faults = append(r.faults, faultAt(place(line), err)) }

// done gives the requests if all are right and there is one.
func (r *rows) done(nothing string) ([]draft, error) {
	if len(r.drafts) == 0 && len(r.faults) == 0 {
		return nil, errors.New(nothing)
	}
	return r.drafts, errors.Join(r.faults...)
}

func place(line int) string { return fmt.Sprintf("line %d", line) }

// faultAt is all that is wrong in one place, in one line.
func faultAt(place string, err error) error {
	return fmt.Errorf("%s: %s", place, strings.ReplaceAll(err.Error(), "\n", "; "))
}
