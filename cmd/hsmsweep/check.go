package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"hsmsweep/deletion"
)

// A checkCmd takes every flag of run, so that what is checked is what would run.
type checkCmd struct {
	runCmd
	Pool list `help:"ARM id of a pool on which the worker's rights are checked. Repeatable." placeholder:"ID"`
	JSON bool `help:"One JSON object a finding."`
}

// Help is shown below the flags.
func (checkCmd) Help() string {
	return `Give it the flags and variables that run gets, in the place where run is to run. It reads settings and rights, peeks
at the queue and opens links; it sends no message and deletes nothing. Exit code 1 if anything would break.`
}

// checkTimeout bounds everything; each step has a time-out of its own.
const checkTimeout = 45 * time.Second

// stepTimeout bounds one step.
const stepTimeout = 10 * time.Second

// Run is the command.
func (c *checkCmd) Run(ctx context.Context, std streams) error {
	settings, wrong := c.settings()
	_, wrongLog := newLogger(io.Discard, c.LogFormat, c.LogLevel)
	pools, wrongPool := c.pools()
	if err := config(wrong, wrongLog, wrongPool); err != nil {
		return err
	}
	credential, err := defaultCredential(settings.cloud)()
	if err != nil {
		return err
	}
	if _, err := c.dial(func() (azcore.TokenCredential, error) { return credential, nil }); err != nil { // it reads the connection string
		return err
	}
	asked, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	bus := busCheck{connection: c.connection, settings: settings, credential: credential}
	arm, err := newARMCheck(settings, pools, credential)
	if err != nil {
		return err
	}
	var ofBus, ofARM []finding
	var running sync.WaitGroup
	running.Go(func() { ofBus = bus.run(asked) })
	running.Go(func() { ofARM = arm.run(asked) })
	running.Wait()
	if ctx.Err() != nil {
		return errors.New("interrupted") // what was found since tells of that alone
	}
	findings := slices.Concat(judgeFlags(settings), ofBus, ofARM)
	return errors.Join(c.print(std.out, findings), verdict(findings))
}

func (c *checkCmd) pools() (pools []deletion.PoolID, err error) {
	var faults []error
	for _, id := range c.Pool {
		pool, err := deletion.ParsePoolID(id)
		if err != nil {
			faults = append(faults, fmt.Errorf("--pool: %w", err))
		}
		pools = append(pools, pool)
	}
	return pools, errors.Join(faults...)
}

// A result is how a check came out.
type result string

const (
	isOK      result = "ok"
	isWarning result = "warning" // it works, and something will be missed some day
	isFailure result = "failure" // it would break
	isUnknown result = "unknown" // it could not be looked at
)

// results is every result there is, in the order in which they are counted, with the colours of a terminal.
var results = []struct {
	result
	colour string
	many   string
}{
	{isOK, "\x1b[32m", "ok"}, {isWarning, "\x1b[33m", "warnings"}, {isFailure, "\x1b[31m", "failures"}, {isUnknown, "\x1b[36m", "unknown"},
}

// A finding is what one check came to.
type finding struct {
	Check   string `json:"check"`
	Result  result `json:"result"`
	Message string `json:"message"`
	Do      string `json:"do,omitempty"` // what is to be done about it
}

func fine(check, format string, args ...any) finding {
	return finding{check, isOK, fmt.Sprintf(format, args...), ""}
}

func warning(check, message, do string) finding { return finding{check, isWarning, message, do} }
func failure(check, message, do string) finding { return finding{check, isFailure, message, do} }
func unclear(check, message, do string) finding { return finding{check, isUnknown, message, do} }

// text is a finding in one line, whatever a service has put into it.
func (f finding) text() string {
	text := f.Message
	if f.Do != "" {
		text += ". Do: " + f.Do
	}
	return printable(strings.Join(strings.Fields(text), " "))
}

// verdict is an error where anything would break.
func verdict(findings []finding) error {
	switch n := count(findings, isFailure); n {
	case 0:
		return nil
	case 1:
		return errors.New("1 check failed")
	default:
		return fmt.Errorf("%d checks failed", n)
	}
}

func count(findings []finding, r result) (n int) {
	for _, f := range findings {
		if f.Result == r {
			n++
		}
	}
	return n
}

func (c *checkCmd) print(out io.Writer, findings []finding) error {
	if c.JSON {
		lines := json.NewEncoder(out)
		lines.SetEscapeHTML(false)
		for _, f := range findings {
			if err := lines.Encode(f); err != nil {
				return err
			}
		}
		return nil
	}
	var lines bytes.Buffer
	width, _, _ := screen(out)
	printFindings(&lines, findings, width)
	text := lines.String()
	if isTerminal(out) && os.Getenv("NO_COLOR") == "" {
		text = coloured(text)
	}
	_, err := io.WriteString(out, text)
	return err
}

// printFindings prints a line each. What a terminal is too narrow for goes on below itself: what to do must not be cut.
func printFindings(out io.Writer, findings []finding, width int) {
	const gap, results = 2, len(isWarning) // the longest
	names := 0
	for _, f := range findings {
		names = max(names, len(f.Check))
	}
	indent := results + gap + names + gap
	for _, f := range findings {
		text := strings.Join(wrapped(f.text(), width-indent), "\n"+strings.Repeat(" ", indent))
		fmt.Fprintf(out, "%-*s%-*s%s\n", results+gap, f.Result, names+gap, f.Check, text)
	}
	fmt.Fprintln(out, counts(findings))
}

// wrapped breaks a text between words into lines of at most n characters, but for longer words. Too little room breaks nothing.
func wrapped(text string, n int) []string {
	const tooLittle = 20
	if n < tooLittle {
		return []string{text}
	}
	var lines []string
	for _, word := range strings.Fields(text) {
		if last := len(lines) - 1; last >= 0 && utf8.RuneCountInString(lines[last])+1+utf8.RuneCountInString(word) <= n {
			lines[last] += " " + word
		} else {
			lines = append(lines, word)
		}
	}
	return lines
}

// counts is the last line.
func counts(findings []finding) string {
	var parts []string
	for _, r := range results {
		n, word := count(findings, r.result), r.many
		if n == 1 {
			word = string(r.result)
		}
		parts = append(parts, fmt.Sprintf("%d %s", n, word))
	}
	return strings.Join(parts, ", ") + "."
}

// coloured colours the word that a line begins with.
func coloured(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		for _, r := range results {
			if rest, ok := strings.CutPrefix(line, string(r.result)+" "); ok {
				line = r.colour + string(r.result) + "\x1b[0m " + rest
				break
			}
		}
		out.WriteString(line)
	}
	return out.String()
}
