package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"github.com/schollz/progressbar/v3"
)

// A teller tells a person, or whoever reads stdout, what was sent: by a line a request, a bar, or both.
type teller struct {
	out  *bufio.Writer // nil: no lines
	json bool
	bar  *progressbar.ProgressBar // nil: no bar
}

func newTeller(std streams, json bool, n int) *teller {
	lines, bar := tells(isTerminal(std.out), isTerminal(std.err), json, n)
	t := &teller{json: json}
	if lines {
		t.out = bufio.NewWriter(std.out)
	}
	if bar {
		t.bar = newBar(std.err, n)
	}
	return t
}

// tells decides how n requests are told of. A terminal has lines or a bar, never both, which would run into each other.
func tells(outIsTerminal, errIsTerminal, json bool, n int) (lines, bar bool) {
	const handful = 10 // requests whose lines a person reads
	bar = errIsTerminal && n > handful && !(outIsTerminal && json)
	return !bar || !outIsTerminal, bar
}

func newBar(out io.Writer, n int) *progressbar.ProgressBar {
	return progressbar.NewOptions(n,
		progressbar.OptionSetWriter(out),
		progressbar.OptionSetDescription("submitted"),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("requests"),
		progressbar.OptionFullWidth(),
		progressbar.OptionSetRenderBlankState(true),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(out) }),
	)
}

// sent tells of requests that Service Bus has taken.
func (t *teller) sent(messages []outgoing) error {
	if t.bar != nil {
		_ = t.bar.Add(len(messages)) // a picture that cannot be drawn is nobody's loss
	}
	if t.out == nil {
		return nil
	}
	for _, m := range messages {
		if err := t.line(m.submission); err != nil {
			return err
		}
	}
	return t.out.Flush()
}

func (t *teller) line(s submission) error {
	if t.json {
		return json.NewEncoder(t.out).Encode(s)
	}
	_, err := fmt.Fprintf(t.out, "submitted %s\n", s.RequestID)
	return err
}

// close leaves a bar that is not full on a line of its own.
func (t *teller) close() {
	if t.bar != nil && !t.bar.IsFinished() {
		_ = t.bar.Exit()
	}
}
