package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// A show is the demo's picture of what happens: a slog.Handler that reads the worker's one line a step. On a terminal it
// keeps one line a request up to date; elsewhere every step is a line.
type show struct {
	out   io.Writer
	live  bool
	began time.Time

	mu    sync.Mutex
	names []string
	ways  map[string][]string // the steps of each request; every name is a key
	next  map[string]string   // what comes of the last of them
	ends  map[string]ending
	drawn int // lines
}

func newShow(out io.Writer, wanted []sample) *show {
	s := &show{out: out, began: time.Now(), ways: map[string][]string{}, next: map[string]string{}, ends: map[string]ending{}}
	for _, w := range wanted {
		s.names = append(s.names, w.name)
		s.ways[w.name] = nil
	}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		_, height, err := term.GetSize(int(f.Fd()))
		s.live = err == nil && height > len(wanted)+1
	}
	var words strings.Builder
	sent := 0
	for _, w := range wanted {
		if w.comesOf {
			continue
		}
		sent++
		if w.shows != "" { // the reader's own requests need no words
			fmt.Fprintf(&words, "  %-13s %s\n", w.name, w.shows)
		}
	}
	fmt.Fprintf(out, "%d requests; Service Bus, ARM and the identity endpoint are emulated in this process.\n\n", sent)
	if words.Len() > 0 {
		fmt.Fprintln(out, words.String())
	}
	return s
}

// Enabled leaves out what is only for debugging.
func (s *show) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// WithAttrs and WithGroup are not used by the worker.
func (s *show) WithAttrs([]slog.Attr) slog.Handler { return s }
func (s *show) WithGroup(string) slog.Handler      { return s }

// Handle takes the worker's line.
func (s *show) Handle(_ context.Context, r slog.Record) error {
	fields := map[string]slog.Value{}
	r.Attrs(func(a slog.Attr) bool { fields[a.Key] = a.Value; return true })
	name := fields["requestId"].String()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.knows(name) {
		if r.Level >= slog.LevelWarn {
			fmt.Fprintf(s.out, "%s: %v\n", r.Message, fields["error"])
		}
		return nil
	}
	step, next := stepText(r, fields), nextText(r, fields)
	s.ways[name] = append(s.ways[name], fmt.Sprintf("%.1fs %s", r.Time.Sub(s.began).Seconds(), step))
	s.next[name] = next
	if s.live {
		s.draw()
		return nil
	}
	fmt.Fprintf(s.out, "%5.1fs  %-13s %s  -> %s\n", r.Time.Sub(s.began).Seconds(), name, step, next)
	return nil
}

// knows tells whether a request is one of those that are shown. What came of one of them is, from now on.
func (s *show) knows(name string) bool {
	if _, known := s.ways[name]; known {
		return true
	}
	parent, _, isChild := strings.Cut(name, "/")
	if _, known := s.ways[parent]; !isChild || !known {
		return false
	}
	s.names = append(s.names, name)
	s.ways[name] = nil
	return true
}

// stepText is what was asked and answered: "DELETE 202".
func stepText(r slog.Record, fields map[string]slog.Value) string {
	asked, ok := fields["asked"]
	if n, made := fields["children"]; made {
		return fmt.Sprintf("made %d requests", n.Int64())
	}
	switch {
	case ok && fields["httpStatus"].Int64() != 0:
		return fmt.Sprintf("%s %d", asked, fields["httpStatus"].Int64())
	case ok:
		return asked.String() + " " + fields["answer"].String()
	case r.Level >= slog.LevelWarn:
		return "not asked"
	}
	return r.Message
}

// nextText is what comes of a step: parked for how long and why, or ended.
func nextText(r slog.Record, fields map[string]slog.Value) string {
	if until, ok := fields["until"]; ok && until.Time().After(r.Time) {
		return fmt.Sprintf("parked %.1fs (%s)", until.Time().Sub(r.Time).Seconds(), fields["reason"])
	}
	text := fields["reason"].String()
	if e, ok := fields["error"]; ok {
		text += ", " + e.String()
	}
	return text
}

// ended notes an event.
func (s *show) ended(e ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends[e.Data.RequestID] = e
	if s.live {
		s.draw()
	}
}

// draw paints one line a request over the lines of before.
func (s *show) draw() {
	width := 100
	if f, ok := s.out.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			width = w
		}
	}
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn)
	}
	s.drawn = len(s.names)
	for _, name := range s.names {
		line := fmt.Sprintf("%s %-13s", s.mark(name), name)
		if next, ok := s.next[name]; ok {
			line += fmt.Sprintf(" %s -> %s", strings.Join(s.ways[name], ", "), next)
		}
		if runes := []rune(line); len(runes) >= width {
			line = string(runes[:width-2]) + "…"
		}
		b.WriteString("\x1b[2K" + line + "\n")
	}
	io.WriteString(s.out, b.String())
}

func (s *show) mark(name string) string {
	if _, ok := s.ends[name]; ok {
		return "●"
	}
	return "○"
}

// close prints the closing table.
func (s *show) close(ended map[string][]ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := [][]string{{"REQUEST", "END", "EVENT ID", "WAY IT WENT"}}
	for _, name := range s.names {
		end, id := "none", "-"
		if e := ended[name]; len(e) > 0 {
			end, id = strings.TrimSpace(string(e[0].Data.Outcome)+" "+e[0].code()), e[0].ID
		}
		rows = append(rows, []string{name, end, id, strings.Join(s.ways[name], ", ")})
	}
	fmt.Fprintln(s.out)
	printTable(s.out, rows)
	fmt.Fprintf(s.out, "\n%d of %d requests ended, in %.1f s.\n", len(ended), len(s.names), time.Since(s.began).Seconds())
}
