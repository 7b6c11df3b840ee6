package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"hsmsweep/deletion"
	"hsmsweep/worker"
)

// A listing prints things of the queue in parts: one JSON object a line, or a table.
type listing[T any] struct {
	out   io.Writer
	json  bool
	width int // of the terminal, which the table is made for: a line that wraps would be hard to read; 0: there is none
	head  []string
	long  bool // the last column may be, and is cut first
	row   func(T, time.Time) []string
	count func(n int) string // the last line
	table table
	shown int
}

func newListing[T any](l listing[T]) *listing[T] {
	l.table.lineSize = l.width
	return &l
}

func (l *listing[T]) print(things []T) error {
	if l.json {
		lines := json.NewEncoder(l.out)
		lines.SetEscapeHTML(false)
		for _, t := range things {
			if err := lines.Encode(t); err != nil {
				return err
			}
		}
		return nil
	}
	var rows [][]string
	if l.shown == 0 && len(things) > 0 {
		rows = append(rows, slices.Clone(l.head))
	}
	now := time.Now()
	for _, t := range things {
		row := l.row(t, now)
		for i, cell := range row {
			row[i] = cmp.Or(printable(cell), "-")
		}
		rows = append(rows, row)
	}
	l.shown += len(things)
	l.fit(rows)
	l.table.print(l.out, rows)
	return nil
}

// close prints the last line.
func (l *listing[T]) close() {
	if !l.json {
		fmt.Fprintln(l.out, l.count(l.shown))
	}
}

// counted is a last line: how many there are.
func counted(none, one, many string) func(int) string {
	return func(n int) string {
		switch n {
		case 0:
			return none
		case 1:
			return one
		}
		return fmt.Sprintf(many, n)
	}
}

const (
	connectionColumn = 1
	// narrowest is what is always left of a connection.
	narrowest = 10
	// enoughOfLast is as much of a long column as is worth shortening connections for.
	enoughOfLast = 24
)

// fit shortens connections, from the left, as far as is needed and possible for rows to be no wider than the terminal. Request ids
// stay whole: cancel takes them. What is still too wide, the table cuts.
func (l *listing[T]) fit(rows [][]string) {
	if l.width == 0 {
		return
	}
	widths := make([]int, len(l.head))
	copy(widths, l.table.widths)
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	if last := len(widths) - 1; l.long {
		widths[last] = min(widths[last], enoughOfLast)
	}
	total := 2 * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	room := max(widths[connectionColumn]-max(total-l.width, 0), narrowest)
	for _, row := range rows {
		if name := []rune(row[connectionColumn]); len(name) > room {
			row[connectionColumn] = "…" + string(name[len(name)-room+1:])
		}
	}
}

// newView prints parked requests.
func (c *parkedCmd) newView(out io.Writer, width int) *listing[worker.Waiting] {
	return newListing(listing[worker.Waiting]{out: out, json: c.JSON, width: width, row: parkedRow,
		head:  []string{"REQUEST", "CONNECTION", "WHY", "DUE", "AGE", "HOPS", "POLLS", "TICKET"},
		count: counted("No such request waits.", "1 request waits.", "%d requests wait.")})
}

func parkedRow(w worker.Waiting, now time.Time) []string {
	return []string{w.RequestID, shortID(cmp.Or(w.ConnectionID, w.Selector)), string(w.Why),
		roughly(w.DueAt.Sub(now)), roughly(now.Sub(w.RequestedAt)), strconv.Itoa(w.Hops), strconv.Itoa(w.Polls), ticketName(w.Ticket)}
}

// ticketName is what of a ticket there is room for.
func ticketName(t *deletion.Ticket) string {
	if t == nil {
		return ""
	}
	return shorten(cmp.Or(t.ID, t.URL, t.System), 40)
}

// shortID is the end of an ARM id that tells it from others here: POOL/NAME of a connection, TYPE/NAME of whatever else.
func shortID(id string) string {
	segments := strings.Split(id, "/")
	switch n := len(segments); {
	case n == 11:
		return segments[8] + "/" + segments[10]
	case n > 2:
		return segments[n-2] + "/" + segments[n-1]
	}
	return id
}

// roughly is a time in one unit, as a table has room for.
func roughly(d time.Duration) string {
	switch {
	case d <= 0:
		return "now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// printable keeps out what would act upon a terminal: whoever may send a request writes these texts.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return '?'
	}, text)
}
