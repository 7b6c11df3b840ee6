package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"hsmsweep/worker"
)

// A parkedView prints parked requests in parts: one JSON object a line, or a table.
type parkedView struct {
	out   io.Writer
	json  bool
	width int // of the terminal; 0: there is none
	table table
	shown int
}

// newView prints to out what is made for the width of a terminal, if any: a line that wraps would be hard to read.
func (c *parkedCmd) newView(out io.Writer, width int) *parkedView {
	return &parkedView{out: out, json: c.JSON, width: width, table: table{lineSize: width}}
}

func (v *parkedView) print(requests []worker.Waiting) error {
	if v.json {
		lines := json.NewEncoder(v.out)
		lines.SetEscapeHTML(false)
		for _, w := range requests {
			if err := lines.Encode(w); err != nil {
				return err
			}
		}
		return nil
	}
	var rows [][]string
	if v.shown == 0 && len(requests) > 0 {
		rows = append(rows, []string{"REQUEST", "CONNECTION", "WHY", "DUE", "AGE", "HOPS", "POLLS", "TICKET"})
	}
	now := time.Now()
	for _, w := range requests {
		rows = append(rows, parkedRow(w, now))
	}
	v.shown += len(requests)
	v.fit(rows)
	v.table.print(v.out, rows)
	return nil
}

// close prints the last line.
func (v *parkedView) close() {
	switch {
	case v.json:
	case v.shown == 0:
		fmt.Fprintln(v.out, "No such request waits.")
	case v.shown == 1:
		fmt.Fprintln(v.out, "1 request waits.")
	default:
		fmt.Fprintf(v.out, "%d requests wait.\n", v.shown)
	}
}

const (
	connectionColumn = 1
	// narrowest is what is always left of a connection.
	narrowest = 10
)

// fit shortens connections, from the left, as far as is needed and possible for rows to be no wider than the terminal. Request ids
// stay whole: cancel takes them. What is still too wide, the table cuts.
func (v *parkedView) fit(rows [][]string) {
	if v.width == 0 {
		return
	}
	widths := make([]int, 8)
	copy(widths, v.table.widths)
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	total := 2 * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	room := max(widths[connectionColumn]-max(total-v.width, 0), narrowest)
	for _, row := range rows {
		if name := []rune(row[connectionColumn]); len(name) > room {
			row[connectionColumn] = "…" + string(name[len(name)-room+1:])
		}
	}
}

func parkedRow(w worker.Waiting, now time.Time) []string {
	ticket := ""
	if w.Ticket != nil {
		ticket = cmp.Or(w.Ticket.ID, w.Ticket.URL, w.Ticket.System)
	}
	row := []string{w.RequestID, shortID(cmp.Or(w.ConnectionID, w.Selector)), string(w.Why),
		roughly(w.DueAt.Sub(now)), roughly(now.Sub(w.RequestedAt)), strconv.Itoa(w.Hops), strconv.Itoa(w.Polls), shorten(ticket, 40)}
	for i, cell := range row {
		row[i] = cmp.Or(printable(cell), "-")
	}
	return row
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
